"""Grades the reference solutions of HumanEval, MBPP and APPS, and broken ones.

  python tests/benchmarks/references.py FOLDER [--every=N] [--tier=A|B]

FOLDER holds humaneval/HumanEval.jsonl.gz, mbpp/mbpp.jsonl, apps/train.jsonl,
the public files. Prints what fails, by problem and cause. A broken solution
is the reference with the function under test replaced by one that returns
None, then by one that returns a text.
"""

import argparse
import collections
import gzip
import json
import pathlib
import sys
from collections.abc import Iterator

from rest_jax.rewards import verdicts
from rest_jax.rewards.code import code_problems, programs, reference_check

FILES = {
  'humaneval': 'humaneval/HumanEval.jsonl.gz',
  'mbpp': 'mbpp/mbpp.jsonl',
  'apps': 'apps/train.jsonl',
}
_BROKEN = ('None', '"broken"')


def rows(folder: pathlib.Path, task: str) -> list[dict]:
  """A data set's public rows; none where the file is absent."""
  path = folder / FILES[task]
  if not path.exists():
    return []
  with gzip.open(path, 'rt') if path.suffix == '.gz' else path.open() as file:
    return [json.loads(line) for line in file]


def broken(task: str, row: dict) -> Iterator[str]:
  """The reference with another function in its place."""
  name = code_problems.function_name(task, row)
  for value in _BROKEN:
    yield (
      f'{code_problems.references(task, row)[0]}\n'
      f'def {name}(*arguments, **keywords):\n  return {value}\n'
    )


def surprises(
  grader: programs.Grader, task: str, chosen: list[dict]
) -> Iterator[str]:
  """References that are not correct, and broken ones that are."""
  for row in chosen:
    tests = code_problems.tests(task, row)
    (reference,) = code_problems.references(task, row)
    verdict = grader.grade(reference, tests, programs.Limits())
    if verdict.outcome != verdicts.CORRECT:
      yield f'{row["task_id"]} reference: {verdict.outcome}, {verdict.detail}'
    for program in broken(task, row):
      verdict = grader.grade(program, tests, programs.Limits())
      if verdict.outcome not in (verdicts.WRONG, verdicts.CRASHED):
        yield f'{row["task_id"]} broken: {verdict.outcome}, {verdict.detail}'


def apps(grader: programs.Grader, chosen: list[dict]) -> Iterator[str]:
  """References that are not correct, and how many there are of each cause."""
  causes = collections.Counter()
  for row in chosen:
    found = reference_check.examine(
      code_problems.tests('apps', row),
      code_problems.references('apps', row),
      grader=grader,
    )
    for i, verdict in enumerate(found.verdicts):
      causes[_cause(verdict)] += 1
      if verdict.outcome != verdicts.CORRECT:
        yield f'{row["problem_id"]}.{i}: {verdict.outcome}, {verdict.detail}'
    if not any(v.outcome == verdicts.CORRECT for v in found.verdicts):
      yield f'{row["problem_id"]}: no reference passes'
  for cause, count in causes.most_common():
    yield f'{count:5} {cause}'


def _cause(verdict: verdicts.Verdict) -> str:
  if verdict.outcome != verdicts.CRASHED:
    return verdict.outcome
  text = verdict.detail.partition('exit status 1: ')[2] or verdict.detail
  return f'crashed, {text.partition(" for nonlocal")[0]}'


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--every', type=int, default=1)
  parser.add_argument('--tier', choices=['A', 'B'])
  flags = parser.parse_args()
  with programs.Grader(tier=flags.tier) as grader:
    print(f'tier {grader.tier}')
    for task in FILES:
      chosen = rows(flags.folder, task)[:: flags.every]
      print(f'{task}: {len(chosen)} problems')
      found = (
        apps(grader, chosen)
        if task == 'apps'
        else surprises(grader, task, chosen)
      )
      for line in found:
        print(f'  {line}', flush=True)
  return 0


if __name__ == '__main__':
  sys.exit(main())
