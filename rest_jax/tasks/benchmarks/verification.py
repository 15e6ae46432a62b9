"""Checks that a data set is complete and that its reference answers are right.

Too few or too many problems are an error. Everything else that looks wrong is
a warning, because the published sets themselves have such problems. What is
found is printed, and kept beside the data set.
"""

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.rewards import registry, verdicts
from rest_jax.rewards.math import math_answer
from rest_jax.tasks.benchmarks import mathematics, parsed_dataset
from rest_jax.tasks.benchmarks.parsed_dataset import ParsedDataset
from rest_jax.tasks.benchmarks.published_task import Benchmark
from rest_jax.tasks.problem_sets import Row

_LISTED = 5  # places that a message names, for each finding
# sha256 of the published files, from download_checksums in the
# dataset_infos.json of the loading scripts that github.com/huggingface/datasets
# had.
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
class Summary:
  """What was found, as it is kept in metadata.json beside the data set.

  Attributes:
    rows: split to the number of its problems.
    published: split to the number of problems as published.
    skipped: split to reason to the places of the rows that were left out.
    found: finding to the places where it was found.
    partial: whether `wrong` holds anything.
    wrong: what differs from the published counts; allowed by allow_partial.
    digest: ParsedDataset.digest().
  """

  rows: Mapping[str, int]
  published: Mapping[str, int]
  skipped: Mapping[str, Mapping[str, Sequence[str]]]
  found: Mapping[str, Sequence[str]]
  partial: bool
  wrong: Sequence[str]
  digest: str

  def to_json(self) -> dict[str, Any]:
    """The fields by name, JSON-ready."""
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'Summary':
    """Reads what `to_json` gave; passes over fields that it does not know.

    Raises:
      KeyError: a field is missing.
    """
    return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
  """What was found.

  Attributes:
    lines: for the terminal; the warnings are among them.
    warnings: what is wrong or looks wrong.
    summary: the same for programs.
  """

  lines: tuple[str, ...]
  warnings: tuple[str, ...]
  summary: Summary


def verify(
  benchmark: Benchmark,
  dataset: ParsedDataset,
  *,
  allow_partial: bool = False,
) -> Verification:
  """Compares a data set with its row of the catalogue.

  Args:
    benchmark: its row of the catalogue.
    dataset: what was read.
    allow_partial: accept any number of problems above 0.

  Returns:
    Counts and findings.

  Raises:
    ConfigurationError: there is no problem at all; or, unless allow_partial, a
      split has another number of problems than published, or an exemplar of
      the prompt is missing.
  """
  wrong = [
    *_wrong_counts(benchmark, dataset),
    *_missing_exemplars(benchmark, dataset),
  ]
  if not any(dataset.rows.values()) or (wrong and not allow_partial):
    raise configuration.ConfigurationError(
      f'{benchmark.name}, from {dataset.where}: '
      + '; '.join(wrong or ['no problem is there'])
      + f'. Left out: {_left_out(dataset) or "nothing"}. Allowed: '
      f'{benchmark.files}. Download it again, or take what is there with '
      '--allow_partial.'
    )
  checks = {
    'repeated questions': _repeats(dataset),
    'questions in two splits': _shared(dataset),
    'no answer': _empty(benchmark, dataset),
    'a reference that its own grader does not take': _unsound(
      benchmark, dataset
    ),
    'no human solution': _without_solution(benchmark, dataset),
    'an answer that differs from its box': _other_box(benchmark, dataset),
    'sha256 not the published one': _other_files(benchmark, dataset),
  }
  found = {name: where for name, where in checks.items() if where}
  warnings = [*wrong, *(f'{name}: {_some(w)}' for name, w in found.items())]
  return Verification(
    lines=(*_counts(benchmark, dataset), *(f'warning: {w}' for w in warnings)),
    warnings=tuple(warnings),
    summary=Summary(
      rows={split: len(rows) for split, rows in dataset.rows.items()},
      published=dict(benchmark.counts),
      skipped={
        split: {reason: list(where) for reason, where in reasons.items()}
        for split, reasons in dataset.skipped.items()
      },
      found={name: list(where) for name, where in found.items()},
      partial=bool(wrong),
      wrong=wrong,
      digest=dataset.digest(),
    ),
  )


def _counts(benchmark: Benchmark, dataset: ParsedDataset) -> Iterator[str]:
  """Lines for the terminal: the problems of each split, and those left out."""
  yield f'{benchmark.name}: {benchmark.title}, from {dataset.where}'
  for split, rows in dataset.rows.items():
    published = benchmark.counts.get(split, 0)
    yield f'  {split}: {len(rows):,} problems; {published:,} are published'
  if dataset.skipped:
    yield f'  left out: {_left_out(dataset)}'


def _wrong_counts(
  benchmark: Benchmark, dataset: ParsedDataset
) -> Iterator[str]:
  """The splits that have another number of problems than published."""
  for split in sorted({*benchmark.counts, *dataset.rows}):
    # A problem with a fault of the published data itself is left out, and
    # counts as there.
    faulty = sum(
      len(where)
      for reason, where in dataset.skipped.get(split, {}).items()
      if reason in parsed_dataset.OWN_FAULTS
    )
    got = len(dataset.rows.get(split, ())) + faulty
    expected = benchmark.counts.get(split, 0)
    if got != expected:
      yield f'{split} has {got:,} problems, published are {expected:,}'


def _missing_exemplars(
  benchmark: Benchmark, dataset: ParsedDataset
) -> Iterator[str]:
  """The exemplars of the prompt that the data set lacks."""
  if benchmark.exemplars_from is None:
    rows = dataset.rows.get(benchmark.exemplars_split, ())
    missing = set(benchmark.exemplars) - {row.key for row in rows}
    if missing:
      keys = ', '.join(sorted(missing))
      yield f'exemplars of the prompt are missing: {keys}'


def _left_out(dataset: ParsedDataset) -> str:
  """The rows that were left out, by split and reason."""
  return '; '.join(
    f'{split or dataset.where}: {len(where)} x {reason} ({_some(where)})'
    for split, reasons in dataset.skipped.items()
    for reason, where in reasons.items()
  )


def _some(where: Sequence[str]) -> str:
  """The first few places, and how many more there are."""
  shown = ', '.join(where[:_LISTED])
  more = len(where) - _LISTED
  return f'{shown} and {more:,} more' if more > 0 else shown


def _places(dataset: ParsedDataset) -> Iterator[tuple[str, Row]]:
  """(place, problem) of every problem; the place is 'split/key'."""
  for split, rows in dataset.rows.items():
    for row in rows:
      yield f'{split}/{row.key}', row


def _repeats(dataset: ParsedDataset) -> list[str]:
  """Questions that occur twice in a split under the same instruction."""
  result = []
  for split, rows in dataset.rows.items():
    asked = collections.defaultdict(list)
    for row in rows:
      asked[row.question.strip(), row.lead and row.type].append(row.key)
    result += [f'{split}/{"=".join(k)}' for k in asked.values() if len(k) > 1]
  return result


def _shared(dataset: ParsedDataset) -> list[str]:
  """Questions that occur in two splits."""
  result = []
  for first, second in itertools.combinations(dataset.rows, 2):
    keys = {row.question.strip(): row.key for row in dataset.rows[first]}
    result += [
      f'{first}/{keys[row.question.strip()]}={second}/{row.key}'
      for row in dataset.rows[second]
      if row.question.strip() in keys
    ]
  return result


def _empty(benchmark: Benchmark, dataset: ParsedDataset) -> list[str]:
  """Problems without what their grader compares with (answer or tests)."""
  reads = registry.get(benchmark.grader).reads
  return [where for where, row in _places(dataset) if not getattr(row, reads)]


def _without_solution(
  benchmark: Benchmark, dataset: ParsedDataset
) -> list[str]:
  """Training problems (or exemplars) that have no human solution."""
  split = 'train' if benchmark.trainable else benchmark.exemplars_split
  rows = dataset.rows.get(split, ())
  return [f'{split}/{row.key}' for row in rows if not row.solution]


# Grader to a completion that gives an answer in the form that it reads.
_REFERENCE_TEXTS = {
  'math': '\\boxed{{{answer}}}',
  'gsm8k': '#### {answer}',
  'bbh': 'So the answer is {answer}.',
}


def _unsound(benchmark: Benchmark, dataset: ParsedDataset) -> list[str]:
  """Answers that their own grader does not accept as a completion."""
  if benchmark.grader not in _REFERENCE_TEXTS:
    return []
  text = _REFERENCE_TEXTS[benchmark.grader]
  outcomes: dict[str, str] = {}
  for answer in {row.answer for _, row in _places(dataset) if row.answer}:
    outcomes[answer] = registry.grade(
      benchmark.grader,
      completion=text.format(answer=answer),
      reference=answer,
    ).outcome
  return [
    where
    for where, row in _places(dataset)
    if row.answer and outcomes[row.answer] != verdicts.CORRECT
  ]


def _other_box(benchmark: Benchmark, dataset: ParsedDataset) -> list[str]:
  """Answers that differ from the \\boxed{} of their own solution."""
  if benchmark.grader != 'math':
    return []
  return [
    where
    for where, row in _places(dataset)
    if row.answer
    and (boxed := mathematics.boxed(row.solution or '')) != row.answer
    and not (boxed and math_answer.equivalent(row.answer, boxed))
  ]


def _other_files(benchmark: Benchmark, dataset: ParsedDataset) -> list[str]:
  """Files whose sha256 is not the published one."""
  known = {
    path: PUBLISHED_SHA256.get((benchmark.name, name.rpartition('/')[2]))
    for name, path in dataset.files.items()
  }
  return [
    path for path, digest in known.items() if digest and _sha256(path) != digest
  ]


def _sha256(path: storage.PathLike) -> str:
  with storage.path(path).open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
