"""Is a reading the published data set, and are its references sound?

What is counted is printed, and kept with the data set. Too few or too many
problems is an error; everything else that looks odd is a warning, since the
published sets have their oddities.
"""

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.rewards import registry, verdicts
from rest_jax.rewards.math import math_answer
from rest_jax.tasks.benchmarks import mathematics, readings
from rest_jax.tasks.benchmarks.catalogue import Benchmark

_LISTED = 5  # places, of each thing that is found
# sha256 as published by others: dataset_infos.json of the first data set
# scripts in github.com/huggingface/datasets (download_checksums).
PUBLISHED_SHA256: Mapping[tuple[str, str], str] = {
  ('math', 'MATH.tar'): (
    '01256fd7cd5430596fdf07e6e6a5827111b5235b7ffed679c662a12f898932da'
  ),
  ('gsm8k', 'train.jsonl'): (
    '17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465'
  ),
  ('gsm8k', 'test.jsonl'): (
    '3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14'
  ),
  ('humaneval', 'HumanEval.jsonl.gz'): (
    'b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef'
  ),
  ('mbpp', 'mbpp.jsonl'): (
    'ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f'
  ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
  """What was found.

  Attributes:
    lines: for people.
    warnings: those of the lines that want a look.
    partial: whether problems are missing, and that was allowed.
    summary: the same for machines; JSON-ready.
  """

  lines: tuple[str, ...]
  warnings: tuple[str, ...]
  partial: bool
  summary: Mapping[str, Any]


def verify(
  benchmark: Benchmark,
  reading: readings.Reading,
  *,
  allow_partial: bool = False,
) -> Verification:
  """Holds a reading against what is published.

  Args:
    benchmark: its row of the catalogue.
    reading: what was read.
    allow_partial: take any number of problems, but for none.

  Returns:
    Counts and findings.

  Raises:
    ConfigurationError: no problem at all; or, unless allow_partial, a split
      has another number of problems, or a worked example of the prompt is not
      there.
  """
  wrong = [*_wrong_counts(benchmark, reading), *_lost(benchmark, reading)]
  if not any(reading.rows.values()) or (wrong and not allow_partial):
    raise configuration.ConfigurationError(
      f'{benchmark.name}, from {reading.where}: '
      + '; '.join(wrong or ['no problem is there'])
      + f'. Left out: {_left_out(reading) or "nothing"}. Allowed: '
      f'{benchmark.files}. Download it again, or take what is there with '
      '--allow_partial.'
    )
  checks = {
    'repeated questions': _repeats(reading),
    'questions in two splits': _shared(reading),
    'no answer': _empty(benchmark, reading),
    'a reference that its own grader does not take': _unsound(
      benchmark, reading
    ),
    'no human solution': _without_solution(benchmark, reading),
    'an answer that differs from its box': _other_box(benchmark, reading),
    'sha256 not the published one': _other_files(benchmark, reading),
  }
  found = {name: where for name, where in checks.items() if where}
  warnings = [*wrong, *(f'{name}: {_some(w)}' for name, w in found.items())]
  return Verification(
    lines=(*_counts(benchmark, reading), *(f'warning: {w}' for w in warnings)),
    warnings=tuple(warnings),
    partial=bool(wrong),
    summary={
      'rows': {split: len(rows) for split, rows in reading.rows.items()},
      'published': dict(benchmark.counts),
      'skipped': {
        split: {reason: list(where) for reason, where in reasons.items()}
        for split, reasons in reading.skipped.items()
      },
      'found': {name: list(where) for name, where in found.items()},
      'partial': bool(wrong),
      'wrong': wrong,
      'digest': reading.digest(),
    },
  )


def _counts(benchmark, reading) -> Iterator[str]:
  yield f'{benchmark.name}: {benchmark.title}, from {reading.where}'
  for split, rows in reading.rows.items():
    published = benchmark.counts.get(split, 0)
    yield f'  {split}: {len(rows):,} problems; {published:,} are published'
  if reading.skipped:
    yield f'  left out: {_left_out(reading)}'


def _wrong_counts(benchmark, reading) -> Iterator[str]:
  for split in sorted({*benchmark.counts, *reading.rows}):
    # A published problem that is no use is there all the same.
    faulty = sum(
      len(where)
      for reason, where in reading.skipped.get(split, {}).items()
      if reason in readings.OWN_FAULTS
    )
    got = len(reading.rows.get(split, ())) + faulty
    expected = benchmark.counts.get(split, 0)
    if got != expected:
      yield f'{split} has {got:,} problems, published are {expected:,}'


def _lost(benchmark, reading) -> Iterator[str]:
  """Worked examples of the prompt that are not there."""
  if benchmark.exemplars_from is None:
    rows = reading.rows.get(benchmark.exemplars_split, ())
    missing = set(benchmark.exemplars) - {row.key for row in rows}
    if missing:
      keys = ', '.join(sorted(missing))
      yield f'worked examples of the prompt are missing: {keys}'


def _left_out(reading) -> str:
  return '; '.join(
    f'{split or reading.where}: {len(where)} x {reason} ({_some(where)})'
    for split, reasons in reading.skipped.items()
    for reason, where in reasons.items()
  )


def _some(where) -> str:
  shown = ', '.join(where[:_LISTED])
  more = len(where) - _LISTED
  return f'{shown} and {more:,} more' if more > 0 else shown


def _places(reading) -> Iterator[tuple[str, Any]]:
  """(split/key, row) of every problem."""
  for split, rows in reading.rows.items():
    for row in rows:
      yield f'{split}/{row.key}', row


def _repeats(reading) -> list[str]:
  """Questions that stand twice in a split, under the same instruction."""
  result = []
  for split, rows in reading.rows.items():
    asked = collections.defaultdict(list)
    for row in rows:
      asked[row.question.strip(), row.lead and row.type].append(row.key)
    result += [f'{split}/{"=".join(k)}' for k in asked.values() if len(k) > 1]
  return result


def _shared(reading) -> list[str]:
  result = []
  for first, second in itertools.combinations(reading.rows, 2):
    keys = {row.question.strip(): row.key for row in reading.rows[first]}
    result += [
      f'{first}/{keys[row.question.strip()]}={second}/{row.key}'
      for row in reading.rows[second]
      if row.question.strip() in keys
    ]
  return result


def _empty(benchmark, reading) -> list[str]:
  reads = registry.get(benchmark.grader).reads
  return [where for where, row in _places(reading) if not getattr(row, reads)]


def _without_solution(benchmark, reading) -> list[str]:
  """Training problems, and worked examples, that nobody has solved."""
  split = 'train' if benchmark.trainable else benchmark.exemplars_split
  rows = reading.rows.get(split, ())
  return [f'{split}/{row.key}' for row in rows if not row.solution]


_REFERENCE_TEXTS = {
  'math': '\\boxed{{{answer}}}',
  'gsm8k': '#### {answer}',
  'bbh': 'So the answer is {answer}.',
}


def _unsound(benchmark, reading) -> list[str]:
  """References that are wrong, or no answer, as somebody's completion."""
  if benchmark.grader not in _REFERENCE_TEXTS:
    return []
  text = _REFERENCE_TEXTS[benchmark.grader]
  outcomes: dict[str, str] = {}
  for answer in {row.answer for _, row in _places(reading) if row.answer}:
    outcomes[answer] = registry.grade(
      benchmark.grader,
      completion=text.format(answer=answer),
      reference=answer,
    ).outcome
  return [
    where
    for where, row in _places(reading)
    if row.answer and outcomes[row.answer] != verdicts.CORRECT
  ]


def _other_box(benchmark, reading) -> list[str]:
  if benchmark.grader != 'math':
    return []
  return [
    where
    for where, row in _places(reading)
    if row.answer
    and (boxed := mathematics.boxed(row.solution or '')) != row.answer
    and not (boxed and math_answer.equivalent(row.answer, boxed))
  ]


def _other_files(benchmark, reading) -> list[str]:
  known = {
    path: PUBLISHED_SHA256.get((benchmark.name, name.rpartition('/')[2]))
    for name, path in reading.files.items()
  }
  return [
    path for path, digest in known.items() if digest and _sha256(path) != digest
  ]


def _sha256(path: storage.PathLike) -> str:
  with storage.path(path).open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
