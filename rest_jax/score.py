"""The stage score: a verdict for every sample.

    problems + samples ─▶ verdicts

Verdicts lie in parts of the same names as the samples' and are joined to them
by id. A part is graded again only when its samples, its problems' answers or
the grader have changed: after an E-step has grown, only the new parts are.
Where another version of the grader gives the verdicts of the one before, the
folder keeps its digest, and nothing that was made of it is made again.

Several workers may grade the same folders, part by part, each on its own host.
On a cluster the stage starts with that of sampling, and grades each part when
it is there (rewards/early_verdicts.py).
"""

import collections
import os
import time
from collections.abc import Mapping, Sequence

from rest_jax.artifacts import (
  manifests,
  records,
  stage_work,
  task_card,
  twins,
  workers,
)
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.rewards import (
  early_verdicts,
  grading_progress,
  part_grading,
  pool,
  registry,
  verdict_statistics,
  verdicts,
)

_VERSION = 1
_POLL_SECONDS = 0.2  # between two looks at what other workers are at
_WHY = ('outcome', 'detail')
# What later stages read of a verdict. A person reads the others.
_RESULT = (
  'problem_id',
  'sample_index',
  'stream',
  'outcome',
  'reward',
  'answer',
)
_REMEDY = 'rest-jax rescore --gin.RUN_DIR=… grades the samples of a run again'


@configuration.checked
def score(
  *,
  samples_dirs: Sequence[str],
  problems_dirs: Sequence[str],
  verdicts_dirs: Sequence[str],
  num_workers: int = 0,
  item_seconds: float = pool.ITEM_SECONDS,
  alarm_rate: float = 0.01,
  worker_index: int = 0,
  all_workers: int = 1,
  await_samples: bool = False,
) -> None:
  """Grades samples; entry i of the three lists belongs to task i.

  Args:
    samples_dirs: what the stage sample wrote.
    problems_dirs: the problems that were sampled; their card names the grader.
    verdicts_dirs: where to write.
    num_workers: grading processes; 0 for one per core.
    item_seconds: wall clock for one completion, for graders that are not
      bounded by construction.
    alarm_rate: a larger share of harness errors or timeouts is an alarm: it is
      printed and stands in the manifest.
    worker_index: which of the workers this is.
    all_workers: how many of them grade the same folders.
    await_samples: whether folders of samples that are not done are waited for,
      and their parts graded as they appear.

  Raises:
    ConfigurationError: an input is missing or is of another run.
  """
  preemption.watch()
  if not len(samples_dirs) == len(problems_dirs) == len(verdicts_dirs) > 0:
    raise configuration.ConfigurationError(
      f'score: got {len(samples_dirs)} samples_dirs, {len(problems_dirs)} '
      f'problems_dirs and {len(verdicts_dirs)} verdicts_dirs; expected the '
      'same number of each, at least one.'
    )
  if item_seconds <= 0 or not 0 <= alarm_rate <= 1:
    raise configuration.ConfigurationError(
      f'score: got item_seconds {item_seconds} and alarm_rate {alarm_rate}; '
      'allowed: item_seconds > 0 and 0 <= alarm_rate <= 1.'
    )
  if not 0 <= worker_index < all_workers:
    raise configuration.ConfigurationError(
      f'score: WORKER_INDEX: got {worker_index}; allowed: 0 to '
      f'{all_workers - 1}, with {all_workers} workers.'
    )
  worker = workers.Worker(worker_index, all_workers)
  if await_samples:
    early_verdicts.grade(
      [
        early_verdicts.Folders(*dirs)
        for dirs in zip(samples_dirs, problems_dirs, verdicts_dirs, strict=True)
      ],
      worker=worker,
      num_workers=num_workers,
      item_seconds=item_seconds,
    )
  progress = grading_progress.Progress(samples_dirs)
  for dirs in zip(samples_dirs, problems_dirs, verdicts_dirs, strict=True):
    _score_task(
      *dirs,
      progress=progress,
      num_workers=num_workers,
      item_seconds=item_seconds,
      alarm_rate=alarm_rate,
      worker=worker,
    )


def _score_task(
  samples_dir: str,
  problems_dir: str,
  verdicts_dir: str,
  *,
  num_workers: int,
  item_seconds: float,
  alarm_rate: float,
  worker: workers.Worker,
  progress: grading_progress.Progress,
) -> None:
  samples = manifests.load(samples_dir, stage='sample')
  problems = manifests.load(problems_dir)
  card = task_card.of(problems)
  grader = registry.get(card.grader)
  progress.words = f'{card.task}/{card.split} by {grader.name}'
  with stage_work.work_on(
    verdicts_dir,
    stage='score',
    kind=records.Verdict,
    semantic={'grader': grader.label},
    inputs={'samples': samples, 'problems': problems},
    version=_VERSION,
    remedy=_REMEDY,
    worker=worker,
  ) as work:
    if work.done is not None:
      print(f'score: {verdicts_dir} is done already')
      progress.part(sum(row['rows'] for row in samples.parts), kept=True)
      return
    registry.require(grader)
    with pool.Pool(
      grader, num_workers=num_workers, item_seconds=item_seconds
    ) as grading:
      parts = part_grading.PartGrader(problems, grader, grading)
      left = _in_turn(samples.parts, worker)
      while left:
        row = left.pop(0)
        preemption.check(f'score: {verdicts_dir}')
        try:
          part = parts.read(samples.folder, row)
          kept = _score_part(work, part, parts, progress)
        except registry.GraderError:
          # The mended grader is another version, whose verdicts cannot stand
          # beside these: without them the same command grades again.
          _discard(work)
          raise
        if kept is None:  # another worker is at it
          left.append(row)
          time.sleep(_POLL_SECONDS)
        else:
          progress.part(row['rows'], kept=kept)
    statistics = verdict_statistics.count(
      work, samples, card, grader, alarm_rate
    )
    _require_a_verdict(work, statistics)
    twin = twins.of(work, lambda one: _same_verdicts(one, work))
    work.finish(statistics=statistics, twin=twin)
  early_verdicts.remove(verdicts_dir)
  verdict_statistics.show(verdicts_dir, statistics)


def _in_turn(parts: Sequence[Mapping], worker: workers.Worker) -> list[Mapping]:
  """A worker's own share of the parts, then the others' from their ends."""
  mine, others = [], []
  for number, row in enumerate(parts):
    (mine if worker.owns(number) else others).append(row)
  return [*mine, *reversed(others)]


def _score_part(
  work: stage_work.Work,
  part: part_grading.Part,
  grader: part_grading.PartGrader,
  progress: grading_progress.Progress,
) -> bool | None:
  """Grades one part; returns whether it was graded before.

  None: another worker is at it.
  """
  if work.has(part.name, source=part.source):
    return True
  if not work.claim(part.name, source=part.source):
    return None
  early = early_verdicts.of_part(os.fspath(work.folder), part)
  table = grader.grade(part, progress.graded) if early is None else early
  work.write_table(part.name, table, source=part.source)
  return early is not None


def _require_a_verdict(work: stage_work.Work, statistics: Mapping) -> None:
  """Raises where no sample got a verdict because the grader always failed.

  The parts are deleted, so that the same command grades again.
  """
  counts = collections.Counter()
  for classes in statistics['classes'].values():
    counts.update(classes)
  failed = counts[verdicts.HARNESS_ERROR]
  # A truncated sample is not shown to the grader.
  if not failed or failed < counts.total() - counts[verdicts.TRUNCATED]:
    return
  details = []
  for row in work.parts():
    part = work.folder / row['name']
    table = records.read_part(part, records.Verdict, columns=_WHY)
    details += [
      one['detail']
      for one in table.to_pylist()
      if one['outcome'] == verdicts.HARNESS_ERROR
    ]
  _discard(work)
  raise configuration.ConfigurationError(
    f'score: the grader {statistics["grader"]} failed on every one of the '
    f'{failed} samples of {statistics["task"]}/{statistics["split"]}: '
    f'{details[0]}. Nothing was graded. Mend the grader, or what it needs on '
    'this machine, and give the same command again.'
  )


def _discard(work: stage_work.Work) -> None:
  """Deletes the verdicts of a folder that is not finished."""
  for row in work.parts():
    (work.folder / row['name']).unlink()


def _same_verdicts(before: manifests.Manifest, work: stage_work.Work) -> bool:
  """Whether two gradings of the same samples have the same result."""
  if [p['name'] for p in before.parts] != [p['name'] for p in work.parts()]:
    return False
  return all(
    before.table(part=row['name'], columns=_RESULT).equals(
      records.read_part(
        work.folder / row['name'], records.Verdict, columns=_RESULT
      ).replace_schema_metadata(None)
    )
    for row in work.parts()
  )
