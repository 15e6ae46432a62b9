"""The overlap of training problems with evaluated problems, for `prepare`.

    write(RUN_DIR/problems, 13)  ─▶ RUN_DIR/problems/overlap.json
    Reader(…, drop=True)         ─▶ the tasks without shared training problems

The training side is every finished `train` and `dval`: the questions, and the
human solutions of `train`. The evaluated side is the questions of every other
split, and of `dval`, which decides when an M-step stops. See overlap.py.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.tasks import problem_sets
from rest_jax.tasks.decontamination import overlap, overlap_results
from rest_jax.tasks.problem_sets import DVAL, TRAIN

FILE = 'overlap.json'
_VERSION = 1


def write(folder: storage.Path, ngram: int) -> list[str]:
  """Compares all finished sets below `folder`; writes its overlap.json.

  All sets in the folder are compared, whichever call of prepare made them. An
  overlap.json of the same sets and the same n is not computed again.

  Args:
    folder: RUN_DIR/problems.
    ngram: tokens of a gram; 0 compares nothing, and removes the file.

  Returns:
    A line for the terminal for each pair of sets that shares something.
  """
  target = folder / FILE
  if not ngram:
    target.unlink(missing_ok=True)
    return []
  sets = _finished(folder)
  head = {
    'version': _VERSION,
    'ngram': ngram,
    'sets': {name: manifest.digest for name, manifest in sets.items()},
  }
  value = _standing(target)
  if {key: value.get(key) for key in head} != head:
    value = {**head, 'pairs': _compared(sets, ngram)}
    storage.write_json(target, value)
  return [
    overlap_results.line(
      pair['training_set'],
      pair['evaluated_set'],
      ngram,
      overlap_results.Overlap.from_json(pair),
    )
    for pair in value['pairs']
    if pair['shared']
  ]


def _standing(target: storage.Path) -> Mapping[str, Any]:
  """The content of overlap.json; empty if it is missing or damaged."""
  try:
    value = storage.read_json(target) if target.exists() else {}
  except configuration.ConfigurationError:
    return {}
  return value if isinstance(value, dict) else {}


def _finished(folder: storage.Path) -> dict[str, manifests.Manifest]:
  """task/split to the manifest, of every set of problems that is finished."""
  found = {}
  for task in sorted(p for p in folder.iterdir() if p.is_dir()):
    for split in sorted(p for p in task.iterdir() if p.is_dir()):
      manifest = manifests.load_if_done(split)
      if manifest is not None and '.superseded-' not in split.name:
        found[f'{task.name}/{split.name}'] = manifest
  return found


def _compared(
  sets: Mapping[str, manifests.Manifest], ngram: int
) -> list[dict[str, Any]]:
  """The overlap of each training set with each evaluated one, JSON-ready."""
  names = [name for name in sets if _split(name) != TRAIN]
  index = overlap.Index(
    {name: overlap.questions(sets[name]) for name in names}, ngram
  )
  pairs = []
  for name, manifest in sets.items():
    if _split(name) not in (TRAIN, DVAL):
      continue
    preemption.check('prepare')
    matches = overlap.Matches(index)
    matches.add(*overlap.questions(manifest), questions=True)
    matches.add(*_solutions(manifest))
    pairs += [
      {
        'training_set': name,
        'evaluated_set': other,
        **matches.found(other).to_json(),
      }
      for other in names
      if other != name
    ]
  return pairs


def _solutions(manifest: manifests.Manifest) -> tuple[list[str], list[str]]:
  """(ids, human solutions) of the problems of a set that have one."""
  table = manifest.table(columns=['id', 'solution'])
  table = table.filter(pc.is_valid(table['solution']))
  return table['id'].to_pylist(), table['solution'].to_pylist()


def _split(name: str) -> str:
  return name.partition('/')[2]


class Reader:
  """Reads tasks without the training problems that a test set shares.

  A test set is every split of any task other than train and dval. If problems
  are to be left out, the first `read` reads all tasks.
  """

  def __init__(
    self,
    tasks: Sequence[problem_sets.TaskConfig],
    seed: int,
    ngram: int,
    drop: bool,
  ):
    """Args:
    tasks: of the run.
    seed: of their choices.
    ngram: tokens of a gram.
    drop: whether shared problems are left out; else tasks are read as they are.
    """
    overlap.check(ngram, needed=drop)
    self.tasks, self.seed = list(tasks), seed
    self.ngram = ngram if drop else 0
    kept = len(tasks) if drop else 1
    self._texts = functools.lru_cache(kept)(lambda i: tasks[i].read(seed))
    self._rest = functools.lru_cache(1)(self._without_shared)

  def semantic(self, split: str) -> dict[str, Any]:
    """The part of a split's fingerprint that does not come from its own task.

    The test sets of all tasks decide which training problems are left out. So
    another list of test sets is another fingerprint, and a run with
    DROP_OVERLAP cannot add a test set later.
    """
    if not self.ngram or split not in (TRAIN, DVAL):
      return {}
    return {'drop_overlap': {'ngram': self.ngram, 'sets': self._digests}}

  def read(self, folder: tuple[str, str]) -> problem_sets.TaskTexts:
    """The texts of the task that `folder` belongs to, without shared problems.

    Args:
      folder: (task, split).

    Raises:
      ConfigurationError: no problem is left in one of its training sets.
    """
    names = [config.folders() for config in self.tasks]
    return self._rest(next(i for i, one in enumerate(names) if folder in one))

  @functools.cached_property
  def _digests(self) -> dict[str, str]:
    """Test set to a digest of everything that decides its problems."""
    return {
      '/'.join(folder): manifests.digest_of(
        [configuration.semantics(config), config.inputs(), self.seed]
      )[:12]
      for config in self.tasks
      for folder in config.folders()
      if folder[1] not in (TRAIN, DVAL)
    }

  def _without_shared(self, i: int) -> problem_sets.TaskTexts:
    texts = self._texts(i)
    if not self.ngram:
      return texts
    sets = [
      self._without(one) if one.split in (TRAIN, DVAL) else one
      for one in texts.sets
    ]
    return dataclasses.replace(texts, sets=sets)

  @functools.cached_property
  def _index(self) -> overlap.Index:
    sets = {
      f'{one.task}/{one.split}': (
        [row.key for row in one.rows],
        [row.question for row in one.rows],
      )
      for i in range(len(self.tasks))
      for one in self._texts(i).sets
      if one.split not in (TRAIN, DVAL)
    }
    return overlap.Index(sets, self.ngram)

  def _without(self, one: problem_sets.ProblemSet) -> problem_sets.ProblemSet:
    keys = [row.key for row in one.rows]
    matches = overlap.Matches(self._index)
    matches.add(keys, [row.question for row in one.rows], questions=True)
    if one.split == TRAIN:  # solutions of other splits are not stored
      solved = [row for row in one.rows if row.solution is not None]
      matches.add([row.key for row in solved], [r.solution for r in solved])
    shares = matches.sharing(self._index.names)
    if not shares:
      return one
    rows = [row for row in one.rows if row.key not in shares]
    name = f'{one.task}/{one.split}'
    if not rows:
      raise configuration.ConfigurationError(
        f'{name}: each of its {len(one.rows)} problems shares a '
        f'{self.ngram}-gram with a test set, so that DROP_OVERLAP leaves '
        'none. They may be made from one template: raise OVERLAP_NGRAM, or '
        'set DROP_OVERLAP = False.'
      )
    reason = f'shares a {self.ngram}-gram with a test set (DROP_OVERLAP)'
    listed = [key for key in keys if key in shares][: overlap.LISTED]
    return dataclasses.replace(
      one,
      rows=rows,
      skipped={**one.skipped, reason: len(shares)},
      skipped_rows={**one.skipped_rows, reason: listed},
    )
