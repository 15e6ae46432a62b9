"""The command grade: verdicts on anybody's completions, JSONL in, JSONL out.

    rest-jax grade --task=math --input=completions.jsonl --output=verdicts.jsonl

    math, gsm8k, bbh, bbh_direct, number, exact
                             rows of {id, completion, reference}
    MODULE:FUNCTION          the same rows, by a grader of your own
    apps, humaneval, mbpp    rows of {id, completion, problem}: the data set's
                             own public row

A reference may be a number; it is graded as the text that stands in the file.
finish_reason may stand in a row: 'length' is truncated, whatever it says. An
output row is {id, outcome, reward, answer, detail}; their order is the
input's. The same command goes on where it was stopped. Beside the output lies
OUTPUT.manifest.json, which says of what input it is, and in the end the counts.
"""

import argparse
import collections
import hashlib
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import json_lines, leases, storage
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.rewards import pool, registry, verdicts

TEXT_TASKS = ('math', 'gsm8k', 'bbh', 'bbh_direct', 'number', 'exact')
PROGRAM_TASKS = ('apps', 'humaneval', 'mbpp')
_FINISH_REASONS = (None, 'eos', 'stop', 'length', 'prompt')
_FLUSH_ROWS = 64
_CHUNK_ROWS = 1024  # that a grader of one's own has at once


def parser() -> argparse.ArgumentParser:
  """The flags of the command."""
  result = argparse.ArgumentParser(
    prog='rest-jax grade',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__,
  )
  result.add_argument(
    '--task',
    required=True,
    metavar='TASK',
    help=f'{", ".join((*TEXT_TASKS, *PROGRAM_TASKS))}, or MODULE:FUNCTION',
  )
  result.add_argument('--input', required=True, metavar='FILE.jsonl')
  result.add_argument('--output', required=True, metavar='FILE.jsonl')
  result.add_argument(
    '--workers',
    type=int,
    default=0,
    help='at once, for programs and own graders; 0: one per core',
  )
  result.add_argument(
    '--cpu_seconds',
    type=float,
    help='of a program, for each test; a check gets three times as much',
  )
  return result


def run(arguments: Sequence[str]) -> int:
  """Grades; returns the exit code.

  Raises:
    ConfigurationError: the input or the output is not what it should be;
      nothing was graded then.
  """
  flags = parser().parse_args(arguments)
  for name in ('workers', 'cpu_seconds'):
    value = getattr(flags, name)
    if value is not None and value < 0:
      raise configuration.ConfigurationError(
        f'--{name}: got {value}; allowed: 0 or more.'
      )
  if ':' not in flags.task and flags.task not in TEXT_TASKS + PROGRAM_TASKS:
    raise configuration.ConfigurationError(
      f'--task: got {flags.task!r}; allowed: '
      f'{", ".join((*TEXT_TASKS, *PROGRAM_TASKS))}, or your own '
      "'module:function'."
    )
  preemption.watch()
  if os.path.abspath(flags.input) == os.path.abspath(flags.output):
    raise configuration.ConfigurationError(
      f'--output: got {flags.output}, which is the input; name another file.'
    )
  with leases.hold(flags.output, purpose='rest-jax grade'):
    _grade(flags)
  return 0


def _grade(flags: argparse.Namespace) -> None:
  ids, digest = _check_input(flags.input, _reference(flags.task))
  asked = {'task': flags.task, 'grader': _label(flags), 'input_sha256': digest}
  manifest = f'{flags.output}.manifest.json'
  classes = _resume(flags.output, manifest, asked, ids)
  done = sum(classes.values())
  if done:
    print(f'grade: {done} of {len(ids)} rows are graded already')
  started = time.monotonic()
  rows = _rows(flags.input, start=done)
  with open(flags.output, 'a', encoding='utf-8') as file:
    for number, (row, verdict) in enumerate(_graded(flags, rows)):
      classes[verdict.outcome] += 1
      file.write(_line(row['id'], verdict))
      if number % _FLUSH_ROWS == 0:
        file.flush()
        preemption.check('grade')
    file.flush()
    os.fsync(file.fileno())
  seconds = time.monotonic() - started
  counts = {name: classes[name] for name in verdicts.OUTCOMES}
  storage.write_json(manifest, asked | {'rows': len(ids), 'classes': counts})
  for name, count in counts.items():
    if count:
      print(f'  {name:14}{count:9}{count / len(ids):9.2%}')
  rate = f', {(len(ids) - done) / seconds:,.0f} per second' if seconds else ''
  right = counts[verdicts.CORRECT]
  print(f'grade: {right} of {len(ids)} correct ({right / len(ids):.2%}){rate}')


def _reference(task: str) -> str:
  """The field of a row that a completion is graded against."""
  return 'problem' if task in PROGRAM_TASKS else 'reference'


def _label(flags: argparse.Namespace) -> str:
  if flags.task not in PROGRAM_TASKS:
    return registry.get(flags.task).label
  from rest_jax.rewards.code import programs

  limit = flags.cpu_seconds or programs.Limits().cpu_seconds
  return f'{registry.get("program").label}, {limit:g} s'


def _graded(
  flags: argparse.Namespace, rows: Iterator[dict]
) -> Iterator[tuple[dict, verdicts.Verdict]]:
  if flags.task in PROGRAM_TASKS:
    yield from _graded_programs(flags, rows)
    return
  with pool.Pool(
    registry.get(flags.task), num_workers=flags.workers
  ) as workers:
    size = _FLUSH_ROWS if workers.grader.bounded else _CHUNK_ROWS
    while chunk := list(itertools.islice(rows, size)):
      items = [
        pool.Item(
          completion=row['completion'],
          reference=row['reference'],
          finish_reason=row.get('finish_reason'),
          name=f'the row {json_lines.dumps(row["id"])}',
        )
        for row in chunk
      ]
      for row, graded in zip(chunk, workers.grade(items), strict=True):
        yield row, graded.verdict


def _graded_programs(
  flags: argparse.Namespace, rows: Iterator[dict]
) -> Iterator[tuple[dict, verdicts.Verdict]]:
  from rest_jax.rewards.code import programs

  programs.require_sandbox()
  limits = programs.Limits()
  if flags.cpu_seconds:
    limits = programs.Limits(cpu_seconds=flags.cpu_seconds)
  waiting: collections.deque = collections.deque()

  def jobs():
    for row in rows:
      program, tests, settled = _program(flags.task, row)
      waiting.append((row, settled))
      yield programs.Job(program, tests, limits)

  workers = flags.workers or len(os.sched_getaffinity(0))
  for verdict in programs.grade_many(jobs(), workers=workers):
    row, settled = waiting.popleft()
    yield row, settled or verdict


def _program(task: str, row: dict) -> tuple[str | None, Any, Any]:
  """(program, tests, the verdict where nothing has to run)."""
  from rest_jax.rewards.code import code_problems, programs

  nothing = programs.Tests.stdin([''], [''])  # without a program it runs none
  settled = verdicts.unfinished(row.get('finish_reason'))
  if settled is not None:
    return None, nothing, settled
  try:
    tests = code_problems.tests(task, row['problem'])
    program = code_problems.program(task, row['problem'], row['completion'])
  except (ValueError, TypeError, AttributeError, LookupError) as error:
    text = ' '.join(f'{type(error).__name__}: {error}'.split())
    fault = verdicts.without_answer(
      verdicts.HARNESS_ERROR,
      f'a problem that cannot be read: {text[:300]}',
    )
    return None, nothing, fault
  return program, tests, None


# ---- files ------------------------------------------------------------------


def _rows(source: str, start: int = 0) -> Iterator[dict]:
  """The rows from one on; a reference that is a number as its text."""
  for _, line, row in itertools.islice(json_lines.read(source), start, None):
    if 'reference' in row:
      reference = {'reference': row['reference']}
      row |= json_lines.texts(line, reference)
    yield row


def _check_input(source: str, reference: str) -> tuple[list[Any], str]:
  """(the ids, sha256 of the rows) of an input all of whose rows are right."""
  ids, digest = [], hashlib.sha256()
  for number, line, row in json_lines.read(source):
    digest.update(line)
    where = f'{source}:{number}'
    ids.append(_checked(where, row, reference)['id'])
    try:
      json_lines.texts(line, {'reference': row.get('reference')})
    except ValueError as error:
      raise configuration.ConfigurationError(
        f'{where}: the reference: {error}.'
      ) from None
  if not ids:
    raise configuration.ConfigurationError(f'--input: {source} holds no row.')
  return ids, digest.hexdigest()


def _checked(where: str, row: Mapping, reference: str) -> Mapping:
  kinds = {
    'id': (str, int),
    'completion': str,
    reference: dict if reference == 'problem' else (str, int, float),
  }
  for name, kind in kinds.items():
    if not isinstance(row.get(name), kind):
      shown = type(row[name]).__name__ if name in row else 'nothing'
      raise configuration.ConfigurationError(
        f'{where}: the field {name!r} holds {shown}; a row is '
        f'{{id, completion, {reference}}}, see rest-jax grade --help.'
      )
  if row.get('finish_reason') not in _FINISH_REASONS:
    raise configuration.ConfigurationError(
      f'{where}: finish_reason: got {row["finish_reason"]!r}; allowed: '
      f'{", ".join(map(repr, _FINISH_REASONS))}.'
    )
  return row


def _resume(
  output: str, manifest: str, asked: dict, ids: Sequence
) -> collections.Counter:
  """The classes of the rows that stand; a torn last line is cut off."""
  graded = os.path.exists(output) and os.path.getsize(output)
  if not graded or not os.path.exists(manifest):
    if graded:
      raise configuration.ConfigurationError(
        f'--output: {output} is there and not of this command (no '
        f'{os.path.basename(manifest)}). Name another file, or move it away.'
      )
    storage.write_json(manifest, asked)
  stands = storage.read_json(manifest)
  lines = [
    f'  {name}: stands as {stands.get(name)!r}, asked for {value!r}'
    for name, value in asked.items()
    if stands.get(name) != value
  ]
  if lines:
    raise configuration.ConfigurationError(
      f'--output: {output} is of another input or task:\n'
      + '\n'.join(lines)
      + '\nName another file, or move it and its manifest away.'
    )
  classes: collections.Counter = collections.Counter()
  if not os.path.exists(output):
    return classes
  whole = 0
  with open(output, 'rb') as file:
    for number, line in enumerate(file):
      if not line.endswith(b'\n'):
        break
      row = json_lines.row(line)
      if number >= len(ids) or row['id'] != ids[number]:
        raise configuration.ConfigurationError(
          f'{output}:{number + 1}: the verdict on {row["id"]!r}, which is not '
          'this row of the input: edited. Move it and its manifest away.'
        )
      classes[row['outcome']] += 1
      whole += len(line)
  os.truncate(output, whole)
  return classes


def _line(key: Any, verdict: verdicts.Verdict) -> str:
  row = {
    'id': key,
    'outcome': verdict.outcome,
    'reward': verdict.reward,
    'answer': verdict.answer,
    'detail': verdict.detail,
  }
  return json_lines.dumps(row) + '\n'
