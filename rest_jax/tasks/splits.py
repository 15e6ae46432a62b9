"""Which problem is for what: D_val, test, exemplars; and how many.

Every choice is by a digest of the seed and the problem, so that it depends on
no order and no other problem.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from urllib import parse

from rest_jax.config import configuration
from rest_jax.tasks import problem_sets, seeded_random
from rest_jax.tasks.problem_sets import Row

LISTED = 10  # bad rows that are listed, for each reason


def key(text: str) -> str:
  """A problem's id as part of task/split/key: without slashes."""
  return parse.quote(text, safe=' :.,;+=@')


def canonical(question: str) -> str:
  """The question without what two copies of it may differ in."""
  text = unicodedata.normalize('NFKC', question).casefold()
  return ' '.join(text.split())


def carve(
  rows: Sequence[Row], split: str, share: float, seed: int
) -> tuple[list[Row], list[Row]]:
  """(the rest, the split): about `share` of the problems, by a seeded hash.

  The question decides, not the id: two copies of one lie on the same side. A
  problem that is added later moves no other, but for very few problems, where
  the split gets the one that is nearest to it rather than none.
  """
  values = [
    seeded_random.fraction(seed, split, canonical(row.question)) for row in rows
  ]
  nearest = min(values, default=0.0)
  sides: tuple[list[Row], list[Row]] = ([], [])
  for row, value in zip(rows, values, strict=True):
    sides[value < share or value == nearest].append(row)
  return sides


def in_order(rows: Iterable[Row]) -> list[Row]:
  """The rows by their keys, numbers in them by value.

  TFDS shuffles what it keeps; by their keys, problems are in the order of the
  published set again.
  """

  def place(row: Row) -> list[str | int]:
    pieces = re.split(r'(\d+)', row.key)
    return [int(x) if i % 2 else x for i, x in enumerate(pieces)]

  return sorted(rows, key=place)


def first_of_each_type(rows: Iterable[Row], number: int) -> list[Row]:
  """The first `number` problems of each type, by their keys."""
  of_type: dict[str | None, list[Row]] = {}
  for row in in_order(rows):
    of_type.setdefault(row.type, []).append(row)
  return [row for some in of_type.values() for row in some[:number]]


def chosen_exemplars(rows: Sequence[Row], number: int, seed: int) -> list[Row]:
  """A seeded choice of problems with a solution, no question twice.

  Fewer than `number` where there are no more.
  """
  solved = {row.key: row for row in rows if row.solution}
  ranked = sorted(
    solved, key=lambda key: seeded_random.fraction(seed, 'shot', key)
  )
  chosen, asked = [], set()
  for key in ranked:
    question = canonical(solved[key].question)
    if len(chosen) < number and question not in asked:
      asked.add(question)
      chosen.append(solved[key])
  return chosen


def named_exemplars(
  rows: Sequence[Row], keys: Sequence[str], where: str
) -> list[Row]:
  """The problems of these keys.

  Args:
    rows: those that may be shown.
    keys: their ids as the data has them, in the prompt's order.
    where: what asks, for the error.

  Raises:
    ConfigurationError: a key is not there, or has no solution.
  """
  solved = {row.key: row for row in rows if row.solution}
  missing = [name for name in keys if key(name) not in solved]
  if missing:
    raise configuration.ConfigurationError(
      f'{where}: {missing} are not ids of problems with a solution (that are '
      'not test problems).'
    )
  return [solved[key(name)] for name in keys]


def exemplars(
  rows: Sequence[Row],
  number: int,
  *,
  keys: Sequence[str] = (),
  by_type: bool = False,
  answers_only: bool = False,
  seed: int = 0,
  where: str,
) -> list[Row]:
  """The exemplars of a prompt.

  Args:
    rows: those that may be shown.
    number: of examples; of each type where `by_type`.
    keys: the ids of at least so many; () for the first of each type, or a
      seeded choice.
    by_type: whether each type has its own.
    answers_only: whether they show their answers without the solutions.
    seed: of the choice.
    where: what asks, for the error.

  Raises:
    ConfigurationError: a key is not there, or has no solution.
  """
  if answers_only:
    rows = [dataclasses.replace(row, solution=row.answer) for row in rows]
  if keys:
    return named_exemplars(rows, keys[:number], where)
  if by_type:
    return first_of_each_type(rows, number)
  return chosen_exemplars(rows, number, seed)


def without(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
  """The rows whose question is none of the others'."""
  asked = {canonical(row.question) for row in others}
  return [row for row in rows if canonical(row.question) not in asked]


def problem_set(
  task: str,
  split: str,
  rows: Sequence[Row],
  *,
  most: int = 0,
  seed: int = 0,
  skipped: Mapping[str, Sequence[str]] | None = None,
  advice: str = '',
) -> problem_sets.ProblemSet:
  """A split of at most `most` problems (0: all), a seeded choice.

  Args:
    task: its name.
    split: its name.
    rows: the problems.
    most: how many are kept.
    seed: of the choice.
    skipped: reason to where, of the rows that were left out before.
    advice: what else would help where there is no problem.

  Raises:
    ConfigurationError: there is no problem.
  """
  if not rows:
    raise configuration.ConfigurationError(
      f'{task}/{split}: no problems left for it. Give more problems{advice}.'
    )
  if most and most < len(rows):
    ranked = sorted(
      rows, key=lambda row: seeded_random.fraction(seed, 'limit', row.key)
    )
    keep = {row.key for row in ranked[:most]}
    rows = [row for row in rows if row.key in keep]
  skipped = skipped or {}
  return problem_sets.ProblemSet(
    task=task,
    split=split,
    rows=rows,
    skipped={reason: len(where) for reason, where in skipped.items()},
    skipped_rows={reason: w[:LISTED] for reason, w in skipped.items()},
  )
