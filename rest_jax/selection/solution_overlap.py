"""The overlap of the kept solutions with the problems that are evaluated.

A sampled solution may repeat a test question that the model has read in its
pretraining data. This module looks for n-grams of each evaluated question in
the texts of the kept solutions (tasks/decontamination/overlap.py). The result
is part of the statistics of the stage select; which solutions are kept does not
depend on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import manifests, records, run_paths, storage, task_card
from rest_jax.distributed import preemption
from rest_jax.selection.filtering import KEY
from rest_jax.selection.graded_samples import TaskInputs
from rest_jax.tasks.decontamination import overlap, overlap_results

STATISTICS = 'overlap'  # their key in the manifest


class SolutionOverlap:
  """Compares the texts of kept solutions with evaluated sets.

  Attributes:
    ngram: tokens of a gram; 0: nothing is compared.
    sets: task/split of an evaluated set to the manifest of its problems.
  """

  def __init__(self, eval_problems_dirs: Sequence[str], ngram: int):
    """Args:
    eval_problems_dirs: finished folders of problems.
    ngram: tokens of a gram; 0 compares nothing.
    """
    overlap.check(ngram)
    self.ngram, self.sets = ngram, {}
    for folder in eval_problems_dirs if ngram else ():
      manifest = manifests.load(folder)
      card = task_card.of(manifest, 'EVAL_PROBLEMS_DIRS')
      self.sets[f'{card.task}/{card.split}'] = manifest

  def statistics(
    self,
    folder: storage.Path,
    parts: Sequence[Mapping[str, Any]],
    tasks: Sequence[TaskInputs],
  ) -> dict[str, Any]:
    """Compares the examples; for the manifest's statistics.

    Args:
      folder: of the examples.
      parts: its parts as the manifest lists them; select writes one for each
        part of each task's samples (or problems, for human solutions).
      tasks: the inputs of select.

    Returns:
      {STATISTICS: the overlap with each set}; {} if nothing is compared.
    """
    if not self.sets:
      return {}
    index = overlap.Index(
      {
        name: overlap.questions(manifest)
        for name, manifest in self.sets.items()
      },
      self.ngram,
    )
    matches = overlap.Matches(index)
    sources = [
      (task, row['name'])
      for task in tasks
      for row in (task.samples or task.problems).parts
    ]
    for row, (task, source) in zip(parts, sources, strict=True):
      preemption.check('select')
      kept = records.read_part(
        folder / row['name'], records.Example, expected=row, columns=list(KEY)
      ).to_pydict()
      texts = dict(_texts(task, source))
      keys = list(zip(*kept.values(), strict=True))
      matches.add([_name(key) for key in keys], [texts[key] for key in keys])
    found = {name: matches.found(name).to_json() for name in self.sets}
    return {STATISTICS: {**self._head(), 'found': found}}

  def renew(
    self, done: manifests.Manifest, tasks: Sequence[TaskInputs]
  ) -> None:
    """Compares finished examples again if the evaluated sets have changed."""
    standing, head = done.statistics.get(STATISTICS, {}), self._head()
    if self.sets and any(standing.get(key) != head[key] for key in head):
      more = self.statistics(done.folder, done.parts, tasks)
      manifests.restate(done, {**done.statistics, **more})
      self.show(more)

  def show(self, statistics: Mapping[str, Any]) -> None:
    """Prints a line for each set that shares something.

    Args:
      statistics: what `statistics` returned.
    """
    found = statistics.get(STATISTICS, {}).get('found', {})
    for name, values in found.items():
      one = overlap_results.Overlap.from_json(values)
      if one.shared:
        print(
          f'overlap: {one.training_shared} of {one.training} kept '
          f'solutions share a {self.ngram}-gram with {name} '
          f'({one.shared} of its {one.problems} problems)'
        )

  def _head(self) -> dict[str, Any]:
    digests = {name: manifest.digest for name, manifest in self.sets.items()}
    return {'ngram': self.ngram, 'sets': digests}


def _texts(task: TaskInputs, part: str) -> Iterator[tuple[tuple, str]]:
  """((problem id, sample index), text) of the solutions in a part."""
  if task.samples is None:
    table = task.problems.table(part=part, columns=['id', 'solution'])
    for row in table.to_pylist():
      yield (row['id'], -1), row['solution']
    return
  columns = [*KEY, 'stream', 'text']
  for row in task.samples.table(part=part, columns=columns).to_pylist():
    if row['stream'] == run_paths.E_STEP:
      yield tuple(row[name] for name in KEY), row['text']


def _name(key: tuple[str, int]) -> str:
  problem, index = key
  return problem if index < 0 else f'{problem} sample {index}'
