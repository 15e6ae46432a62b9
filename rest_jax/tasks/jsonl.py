"""Your own problems: a JSONL file, no Python.

    {"id": "17", "question": "...", "answer": "42"}
    optional: "solution" (a human one), "level", "type"

An answer in GSM8K's form, "some reasoning ... #### 42", is recognised: 42 is
the answer, the text a human solution. Without an id, the line number is one.
A bad row is left out, counted and listed by its line; a file with mostly bad
rows is refused.
"""

import dataclasses
import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal
from urllib import parse

from rest_jax import configuration, storage
from rest_jax.configuration import operational
from rest_jax.rewards import exact
from rest_jax.tasks import draws, problem_sets
from rest_jax.tasks.problem_sets import DVAL, TEST, TRAIN

_LISTED = 10  # bad rows that are listed, for each reason
_CALCULATOR = re.compile(r'<<[^<>]*>>')
IN_TEST = 'the question is a test question too'


class _BadRow(ValueError):
  """Why a row is left out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonlConfig(problem_sets.TaskConfig):
  """A task from a JSONL file.

  Attributes:
    name: the task's name; letters, digits, _ and -.
    input: the problems; D_val (and the test set) are carved from them.
    input_test: test problems; None: carved from `input`.
    dval_share: share of the problems of `input` that becomes D_val.
    test_share: share that becomes the test set, where input_test is None.
    max_train: E-step problems at most, a seeded choice; 0: all.
    max_dval: problems of D_val at most; 0: all.
    max_test: test problems at most; 0: all.
    exemplars: ids of the few-shot prompt's problems; (): a seeded choice.
  """

  name: str = 'own'
  input: str | None = operational(None)
  input_test: str | None = operational(None)
  dval_share: float = 0.1
  test_share: float = 0.1
  max_train: int = 0
  max_dval: int = 0
  max_test: int = 0
  exemplars: tuple[str, ...] = ()

  def check(self):
    super().check()
    ok = re.fullmatch(r'[A-Za-z0-9_-]+', self.name)
    self.require(bool(ok), 'name', 'letters, digits, _ and -')
    self.require(
      bool(self.input), 'input', 'a path: --input=problems.jsonl (INPUT)'
    )
    for name in ('dval_share', 'test_share'):
      self.require(0 < getattr(self, name) < 1, name, 'between 0 and 1')
    ok = self.dval_share + self.test_share < 1
    self.require(ok, 'test_share', 'below 1 - dval_share')
    for name in ('max_train', 'max_dval', 'max_test'):
      self.require(getattr(self, name) >= 0, name, '>= 0 (0: all)')
    if self.exemplars:
      same = len(self.exemplars) == self.num_shots
      self.require(same, 'exemplars', f'() or num_shots = {self.num_shots} ids')

  def folders(self):
    return [(self.name, split) for split in (TRAIN, DVAL, TEST)]

  def inputs(self):
    digests = {'input_sha256': _sha256(self.input)}
    if self.input_test:
      digests['input_test_sha256'] = _sha256(self.input_test)
    return digests

  def read(self, seed):
    rows, skipped = read_rows(self.input, self.grader)
    if self.input_test:
      test, test_skipped = read_rows(self.input_test, self.grader)
      rest = rows
    else:
      test, test_skipped = [], {}
      rest = []
      for row in rows:
        carved = draws.fraction(seed, 'test', row.key) < self.test_share
        (test if carved else rest).append(row)
    asked = {_canonical(row.question) for row in test}
    kept = [row for row in rest if _canonical(row.question) not in asked]
    if len(kept) < len(rest):
      skipped[IN_TEST] = [
        row.key for row in rest if _canonical(row.question) in asked
      ]
    exemplars = _exemplars(self, kept, seed)
    chosen = {_canonical(row.question) for row in exemplars}
    kept = [row for row in kept if _canonical(row.question) not in chosen]
    # Twice the same question lies on one side: its text decides, not its id.
    carved = [
      draws.fraction(seed, 'dval', _canonical(row.question)) < self.dval_share
      for row in kept
    ]
    dval = [row for row, inside in zip(kept, carved, strict=True) if inside]
    train = [
      row for row, inside in zip(kept, carved, strict=True) if not inside
    ]
    return problem_sets.TaskTexts(
      sets=[
        _set(self, TRAIN, train, self.max_train, skipped, seed),
        _set(self, DVAL, dval, self.max_dval, {}, seed),
        _set(self, TEST, test, self.max_test, test_skipped, seed),
      ],
      exemplars=exemplars,
    )


def read_rows(
  source: storage.PathLike, grader: Literal['number', 'exact']
) -> tuple[list[problem_sets.Row], dict[str, list[str]]]:
  """Reads a JSONL file of problems.

  Args:
    source: the file; UTF-8, one JSON object a line, empty lines are ignored.
    grader: 'number' wants answers that are numbers.

  Returns:
    (the good rows, reason to 'line N' of every bad row).

  Raises:
    ConfigurationError: no such file, no good row, or more than half are bad.
  """
  rows, skipped, keys = [], {}, set()
  lines = _read(source).removeprefix(b'\xef\xbb\xbf').split(b'\n')
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      row = _row(line, number, grader)
      if row.key in keys:
        raise _BadRow('an id that an earlier line has')
      keys.add(row.key)
      rows.append(row)
    except _BadRow as error:
      skipped.setdefault(str(error), []).append(f'line {number}')
  bad = sum(len(where) for where in skipped.values())
  if bad > len(rows) or not rows:
    reasons = '; '.join(
      f'{len(where)} x {reason} ({", ".join(where[:_LISTED])})'
      for reason, where in skipped.items()
    )
    raise configuration.ConfigurationError(
      f'{source}: {len(rows)} usable problems, {bad} bad rows: '
      f'{reasons or "the file is empty"}. Each line must be like '
      '{"id": "1", "question": "...", "answer": "42"}.'
    )
  return rows, skipped


def gsm8k_answer(text: str) -> tuple[str, str] | None:
  """(answer, solution) of a text like 'reasoning\\n#### 42', else None.

  Calculator annotations, '<<48/2=24>>', are removed from the solution.
  """
  reasoning, mark, answer = text.rpartition('####')
  answer = answer.strip()
  if not mark or not answer or '\n' in answer:
    return None
  reasoning = _CALCULATOR.sub('', reasoning).rstrip()
  lines = [line.rstrip() for line in reasoning.split('\n')]
  return answer, '\n'.join([*lines, f'#### {answer}']).lstrip('\n')


def _row(line: bytes, number: int, grader: str) -> problem_sets.Row:
  try:
    value = json.loads(line.decode('utf-8'), parse_constant=_no_constant)
  except UnicodeDecodeError:
    raise _BadRow('not UTF-8') from None
  except (ValueError, RecursionError):
    raise _BadRow('not valid JSON') from None
  if not isinstance(value, dict):
    raise _BadRow('not a JSON object')
  question = _text(value, 'question', needed=True)
  answer = _text(value, 'answer', needed=True)
  solution = _text(value, 'solution')
  parts = gsm8k_answer(answer)
  if parts is not None:
    answer, solution = parts[0], solution or parts[1]
  _check_answer(answer, grader)
  key = _text(value, 'id')
  return problem_sets.Row(
    key=parse.quote(key, safe=' :.,;+=@') if key else f'line-{number:06d}',
    question=question,
    answer=answer,
    level=_text(value, 'level'),
    type=_text(value, 'type'),
    solution=solution,
  )


def _check_answer(answer: str, grader: str) -> None:
  if grader == 'number':
    try:
      exact.parse_number(answer)
    except ValueError:
      raise _BadRow(
        'an answer that is not a number (or set GRADER=exact)'
      ) from None
  elif '\n' in answer:
    raise _BadRow('an answer of several lines')


def _text(value: dict, name: str, *, needed: bool = False) -> str | None:
  """A field as stripped text; numbers are fine too."""
  field = value.get(name)
  if isinstance(field, (int, float)) and not isinstance(field, bool):
    field = repr(field)
  if field is not None and not isinstance(field, str):
    raise _BadRow(f'{name} is neither a text nor a number')
  if field is not None and any('\ud800' <= c <= '\udfff' for c in field):
    raise _BadRow('not UTF-8')  # half of a surrogate pair, as \ud83d
  field = (field or '').strip()
  if needed and not field:
    raise _BadRow(f'no {name}')
  return field or None


def _no_constant(name: str) -> Any:
  raise ValueError(f'{name} is not JSON')


def _exemplars(
  config: JsonlConfig, rows: Sequence[problem_sets.Row], seed: int
) -> list[problem_sets.Row]:
  """The few-shot prompt's problems: named ones, or a seeded choice.

  Fewer than num_shots where the file has fewer solutions, none where it has
  none.
  """
  solved = {row.key: row for row in rows if row.solution}
  if config.exemplars:
    missing = [key for key in config.exemplars if key not in solved]
    if missing:
      raise configuration.ConfigurationError(
        f'JsonlConfig.exemplars: {missing} are not ids of problems with a '
        f'solution in {config.input} (that are not test problems).'
      )
    return [solved[key] for key in config.exemplars]
  ranked = sorted(solved, key=lambda key: draws.fraction(seed, 'shot', key))
  chosen, asked = [], set()
  for key in ranked:
    question = _canonical(solved[key].question)
    if len(chosen) < config.num_shots and question not in asked:
      asked.add(question)
      chosen.append(solved[key])
  return chosen


def _set(
  config: JsonlConfig,
  split: str,
  rows: Sequence[problem_sets.Row],
  most: int,
  skipped: dict[str, list[str]],
  seed: int,
) -> problem_sets.ProblemSet:
  if not rows:
    raise configuration.ConfigurationError(
      f'{config.name}/{split}: no problems left for it. Give more problems'
      + {
        TRAIN: '.',
        DVAL: f', or raise dval_share (now {config.dval_share}).',
        TEST: f', set INPUT_TEST, or raise test_share '
        f'(now {config.test_share}).',
      }[split]
    )
  if most and most < len(rows):
    ranked = sorted(
      rows, key=lambda row: draws.fraction(seed, 'limit', row.key)
    )
    keep = {row.key for row in ranked[:most]}
    rows = [row for row in rows if row.key in keep]
  return problem_sets.ProblemSet(
    task=config.name,
    split=split,
    rows=rows,
    skipped={reason: len(where) for reason, where in skipped.items()},
    skipped_rows={reason: w[:_LISTED] for reason, w in skipped.items()},
  )


def _canonical(question: str) -> str:
  """The question without what two copies of it may differ in."""
  text = unicodedata.normalize('NFKC', question).casefold()
  return ' '.join(text.split())


def _read(source: storage.PathLike) -> bytes:
  try:
    return storage.path(source).read_bytes()
  except (FileNotFoundError, IsADirectoryError):
    raise configuration.ConfigurationError(
      f'{source}: no such file. Set INPUT (or INPUT_TEST) to a JSONL file.'
    ) from None


def _sha256(source: storage.PathLike) -> str:
  return hashlib.sha256(_read(source)).hexdigest()
