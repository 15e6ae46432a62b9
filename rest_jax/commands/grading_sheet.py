"""The command grading-sheet: a sheet that a person grades, and its result.

    rest-jax grading-sheet --export --samples=DIR --problems=DIR \
      --output=sheet.csv
    rest-jax grading-sheet --import=sheet.csv --output=results.json

For exams whose answers a person grades against a rubric, such as the Hungarian
finals (grader `by_hand`). The sheet has a row for each completion. Fill in
max_points, points and, if you like, comment with any spreadsheet program, and
save it as CSV (UTF-8). The score is the share of all possible points; a problem
with several samples counts with their mean. The 95 % interval is over problems.
"""

import argparse
import hashlib
import os
from collections.abc import Sequence

import numpy as np

from rest_jax.artifacts import manifests, storage, task_card
from rest_jax.commands import points_table
from rest_jax.config import configuration
from rest_jax.evaluation import intervals
from rest_jax.reporting import run_data

RESAMPLES, SEED = 10_000, 0


def parser() -> argparse.ArgumentParser:
  """The flags of the command."""
  result = argparse.ArgumentParser(
    prog='rest-jax grading-sheet',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__,
  )
  which = result.add_mutually_exclusive_group(required=True)
  which.add_argument('--export', action='store_true', help='write a sheet')
  which.add_argument(
    '--import', dest='sheet', metavar='SHEET.csv', help='read a filled one'
  )
  result.add_argument('--samples', metavar='DIR', help='of the stage sample')
  result.add_argument('--problems', metavar='DIR', help='what was sampled')
  result.add_argument(
    '--max_points',
    type=float,
    help='of each problem; else you fill them in',
  )
  result.add_argument('--output', required=True, metavar='FILE')
  return result


def run(arguments: Sequence[str]) -> int:
  """Exports or imports a sheet.

  Args:
    arguments: the flags.

  Returns:
    The exit code.

  Raises:
    ConfigurationError: an input cannot be used; nothing was written.
  """
  flags = parser().parse_args(arguments)
  if flags.export:
    if not flags.samples or not flags.problems:
      parser().error('--export needs --samples and --problems')
    if flags.max_points is not None and not flags.max_points > 0:
      parser().error(f'--max_points: got {flags.max_points}; allowed: above 0')
    export(flags.samples, flags.problems, flags.output, flags.max_points)
  else:
    if flags.samples or flags.problems or flags.max_points:
      parser().error('--import takes the sheet and --output alone')
    import_(flags.sheet, flags.output)
  return 0


def export(
  samples_dir: str,
  problems_dir: str,
  output: str,
  max_points: float | None = None,
) -> None:
  """Writes the sheet that a person fills in.

  Args:
    samples_dir: a finished folder of samples.
    problems_dir: the problems that were sampled.
    output: the file. It must not exist, because it might hold points.
    max_points: of each problem; None leaves the cells empty.

  Raises:
    ConfigurationError: the samples are of other problems or there are none,
      or the file exists.
  """
  samples = manifests.load(samples_dir, stage='sample')
  problems = manifests.load(problems_dir, stage='prepare')
  drawn_for = samples.fingerprint['inputs']['problems']
  if drawn_for not in (problems.digest, task_card.prompts(problems)):
    raise configuration.ConfigurationError(
      f'{samples_dir}: not samples of {problems_dir}, or those have changed '
      'since. Name the folder of problems that was sampled.'
    )
  if storage.path(output).exists():
    raise configuration.ConfigurationError(
      f'--output: {output} is there, and may hold points. Name another file, '
      'or move it away.'
    )
  table = problems.table(columns=['id', 'question'])
  questions = dict(
    zip(table['id'].to_pylist(), table['question'].to_pylist(), strict=True)
  )
  columns = ['problem_id', 'sample_index', 'finish_reason', 'text']
  rows = [
    {
      **{name: row[name] for name in columns[:3]},
      'question': questions[row['problem_id']],
      'completion': row['text'],
    }
    for row in samples.table(columns=columns).to_pylist()
  ]
  if not rows:
    raise configuration.ConfigurationError(f'{samples_dir}: holds no sample.')
  rows.sort(
    key=lambda row: (
      run_data.natural(row['problem_id']),
      row['sample_index'],
    )
  )
  storage.write_bytes(output, points_table.write(rows, max_points))
  print(
    f'points: {len(rows)} completions of {len(questions)} problems in {output}'
  )


def import_(source: str, output: str) -> None:
  """Checks a filled sheet, prints the score and writes it.

  Args:
    source: the sheet.
    output: a JSON file with what `score` returns and the sheet's SHA-256.

  Raises:
    ConfigurationError: the sheet is not as it was exported, lacks points or
      cannot be read; `output` is not written.
  """
  if os.path.abspath(source) == os.path.abspath(output):
    raise configuration.ConfigurationError(
      f'--output: got {output}, which is the sheet; name another file.'
    )
  try:
    data = storage.path(source).read_bytes()
  except OSError as error:
    raise configuration.ConfigurationError(f'--import: {error}') from None
  results = score(points_table.read(data, source))
  results['sheet_sha256'] = hashlib.sha256(data).hexdigest()
  storage.write_json(output, results)
  for row in results['problems']:
    print(
      f'{row["problem_id"]:32} {row["points"]:8.2f} of {row["max_points"]:g} '
      f'{row["value"]:8.1%}  {row["num_samples"]} samples'
    )
  total = results['total']
  print(
    f'points: {total["points"]:.2f} of {total["max_points"]:g}: '
    f'{total["value"]:.1%} [{total["ci_low"]:.1%}, {total["ci_high"]:.1%}], '
    f'n {total["n"]} problems'
  )


def score(answers: Sequence[points_table.Answer]) -> dict:
  """The share of the points, in total and of each problem.

  Args:
    answers: graded completions, at least one.

  Returns:
    {'total': {value, ci_low, ci_high, points, max_points, n, num_samples},
    'problems': [{problem_id, value, points, max_points, num_samples, samples,
    comments}]}. Values are shares from 0 to 1. The points of a problem are the
    mean of its samples. The interval is a 95 % bootstrap over problems.
  """
  problems = [
    {
      'problem_id': problem_id,
      'points': float(np.mean([answer.points for answer in several])),
      'max_points': several[0].max_points,
      'num_samples': len(several),
      'samples': [answer.points for answer in several],
      'comments': [answer.comment for answer in several],
    }
    for problem_id, several in points_table.by_problem(answers).items()
  ]
  for row in problems:
    row['value'] = row['points'] / row['max_points']
  points_P = np.array([row['points'] for row in problems])
  tops_P = np.array([row['max_points'] for row in problems])
  value, low, high = intervals.ratio_bootstrap(
    points_P, tops_P, RESAMPLES, SEED
  )
  total = {
    'value': value,
    'ci_low': low,
    'ci_high': high,
    'points': float(points_P.sum()),
    'max_points': float(tops_P.sum()),
    'n': len(problems),
    'num_samples': len(answers),
  }
  return {'total': total, 'problems': problems}
