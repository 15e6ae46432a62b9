"""Training problems against the evaluated sets of a run, for `prepare`.

    write(RUN_DIR/problems, 13)  ─▶ RUN_DIR/problems/overlap.json
    Reader(…, drop=True)         ─▶ the tasks' texts without what they share

The training side is each finished `train` and `dval`: its questions, and the
human solutions of `train`. The evaluated side is each other split, and `dval`,
which decides when an M-step stops: its questions. See overlap.py.
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
from rest_jax.tasks.decontamination import overlap
from rest_jax.tasks.problem_sets import DVAL, TRAIN

FILE = 'overlap.json'
_VERSION = 1


def write(folder: storage.Path, ngram: int) -> list[str]:
  """Compares all finished sets below `folder`; writes its overlap.json.

  What stands there is kept where it is of the same sets and the same n. The
  sets are those of the folder, whichever call of prepare made them.

  Args:
    folder: RUN_DIR/problems.
    ngram: tokens of a gram; 0 compares nothing, and removes the file.

  Returns:
    A line for the terminal per pair that shares something.
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
    overlap.line(pair['training_set'], pair['evaluated_set'], ngram, pair)
    for pair in value['pairs']
    if pair['shared']
  ]


def _standing(target: storage.Path) -> Mapping[str, Any]:
  """The report that is there; empty if there is none, or a damaged one."""
  try:
    value = storage.read_json(target) if target.exists() else {}
  except configuration.ConfigurationError:
    return {}  # it is made again
  return value if isinstance(value, dict) else {}


def _finished(folder: storage.Path) -> dict[str, manifests.Manifest]:
  """task/split to manifest, of every set of problems that is done."""
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
  """What each training set shares with each evaluated one."""
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
      {'training_set': name, 'evaluated_set': other, **matches.found(other)}
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
  """Reads tasks; leaves out training problems that share with a test set.

  A test set is every split of every task but train and dval. To leave out
  anything, all tasks are read, once.
  """

  def __init__(
    self,
    tasks: Sequence[problem_sets.TaskConfig],
    seed: int,
    ngram: int,
    drop: bool,
  ):
    overlap.check(ngram, needed=drop)
    self.tasks, self.seed = list(tasks), seed
    self.ngram = ngram if drop else 0
    kept = len(tasks) if drop else 1
    self._texts = functools.lru_cache(kept)(lambda i: tasks[i].read(seed))
    self._rest = functools.lru_cache(1)(self._without_shared)

  def semantic(self, split: str) -> dict[str, Any]:
    """What a split's problems depend on besides its own task.

    Other tasks' test sets decide what is left out: another set of them is
    another training set, so that a run cannot grow by one.
    """
    if not self.ngram or split not in (TRAIN, DVAL):
      return {}
    return {'drop_overlap': {'ngram': self.ngram, 'sets': self._digests}}

  def read(self, folder: tuple[str, str]) -> problem_sets.TaskTexts:
    """The texts of this (task, split)'s task, without what is left out.

    Raises:
      ConfigurationError: nothing is left in one of its sets.
    """
    names = [config.folders() for config in self.tasks]
    return self._rest(next(i for i, one in enumerate(names) if folder in one))

  @functools.cached_property
  def _digests(self) -> dict[str, str]:
    """The test sets, each with all that its task reads."""
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
    if one.split == TRAIN:  # the others keep no solution
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
