"""The verdicts of a folder, counted: classes, mean reward, alarm."""

import collections
from collections.abc import Mapping

from rest_jax.artifacts import manifests, records, stage_work, task_card
from rest_jax.rewards import registry, verdicts

# The classes that are the harness's doing, or may be: worth a look.
_ALARMING = (verdicts.HARNESS_ERROR, verdicts.TIMEOUT)


def count(
  work: stage_work.Work,
  samples: manifests.Manifest,
  card: task_card.TaskCard,
  grader: registry.Grader,
  alarm_rate: float,
) -> dict:
  """Counts of classes by stream, mean reward, and the alarm if there is one.

  Args:
    work: the folder of verdicts, whose parts are all there.
    samples: that were graded.
    card: of their task.
    grader: that graded them.
    alarm_rate: a larger share of harness errors or timeouts is an alarm.

  Returns:
    The statistics of the folder's manifest.
  """
  counts = collections.defaultdict(collections.Counter)
  reward = collections.Counter()
  for row in samples.parts:
    table = records.read_part(
      work.folder / row['name'],
      records.Verdict,
      columns=['stream', 'outcome', 'reward'],
    )
    groups = table.group_by(['stream', 'outcome']).aggregate(
      [('reward', 'sum'), ('reward', 'count')]
    )
    for group in groups.to_pylist():
      stream = group['stream']
      counts[stream][group['outcome']] += group['reward_count']
      reward[stream] += group['reward_sum']
  totals = {stream: sum(classes.values()) for stream, classes in counts.items()}
  alarms = [
    f'{counts[stream][name]} of {total} samples of {stream} are {name}'
    for stream, total in sorted(totals.items())
    for name in _ALARMING
    if counts[stream][name] > alarm_rate * total
  ]
  return {
    'task': card.task,
    'split': card.split,
    'grader': grader.label,
    'samples': sum(totals.values()),
    'classes': {
      stream: {name: counts[stream][name] for name in verdicts.OUTCOMES}
      for stream in sorted(counts)
    },
    'mean_reward': {s: reward[s] / totals[s] for s in sorted(totals)},
    'alarm': '; '.join(alarms) or None,
  }


def show(verdicts_dir: str, statistics: Mapping) -> None:
  """Prints the statistics of a folder of verdicts."""
  where = f'{statistics["task"]}/{statistics["split"]}'
  for stream, classes in statistics['classes'].items():
    total = sum(classes.values())
    print(f'{where}, stream {stream}: {total} samples')
    for name, count in classes.items():
      if count:
        print(f'  {name:14}{count:9}{count / total:9.2%}')
    if waiting := classes[verdicts.UNGRADED]:
      print(f'  {waiting} wait for a person: rest-jax grading-sheet --export')
  if statistics['alarm']:
    print(
      f'warning: ALARM: {statistics["alarm"]}. The grader or the machine is at '
      'fault, not the model: read the column detail of the verdicts in '
      f'{verdicts_dir}'
    )
  rates = ', '.join(
    f'{stream} {rate:.4f}' for stream, rate in statistics['mean_reward'].items()
  )
  print(f'score: {where}: mean reward {rates or "of nothing"}')
