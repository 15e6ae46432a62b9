"""Chooses which problems are D_val, test problems and exemplars.

Every choice is made by a digest of the seed and the problem, so that it depends
neither on the order of the problems nor on other problems.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from urllib import parse

from rest_jax.config import configuration
from rest_jax.tasks import problem_sets, seeded_random
from rest_jax.tasks.problem_sets import Row

LISTED = 10  # rows that are listed by place, for each reason to skip them


def key(text: str) -> str:
  """Makes a problem's id a part of `task/split/key`: quotes slashes."""
  return parse.quote(text, safe=' :.,;+=@')


def canonical(question: str) -> str:
  """The question in Unicode NFKC, without case, with single spaces."""
  text = unicodedata.normalize('NFKC', question).casefold()
  return ' '.join(text.split())


def carve(
  rows: Sequence[Row], split: str, share: float, seed: int
) -> tuple[list[Row], list[Row]]:
  """Takes about `share` of the problems for a split, by a seeded hash.

  The hash is of the question, not the id, so that two copies of a question lie
  on the same side. Adding a problem later does not move the others. There is
  one exception: where the hash gives the split less than half of its share, as
  it may among few problems, it gets those with the smallest hashes too.

  Args:
    rows: the problems.
    split: its name; splits of different names are independent.
    share: in (0, 1).
    seed: of the hash.

  Returns:
    (the other problems, those of the split).
  """
  if not rows:
    return [], []
  values = [
    seeded_random.fraction(seed, split, canonical(row.question)) for row in rows
  ]
  wanted = max(1, round(share * len(values)))
  limit = share
  if sum(value < share for value in values) < 0.5 * wanted:
    # The smallest that is left out, in the order of the hashes.
    limit = [*sorted(values), 1.0][wanted]
  sides: tuple[list[Row], list[Row]] = ([], [])
  for row, value in zip(rows, values, strict=True):
    sides[value < limit].append(row)
  return sides


def in_order(rows: Iterable[Row]) -> list[Row]:
  """Sorts problems by key, with the numbers in keys compared by value.

  TFDS shuffles the problems; sorting restores the order of the published set.
  """

  def place(row: Row) -> list[str | int]:
    pieces = re.split(r'(\d+)', row.key)
    return [int(x) if i % 2 else x for i, x in enumerate(pieces)]

  return sorted(rows, key=place)


def first_of_each_type(rows: Iterable[Row], number: int) -> list[Row]:
  """The first `number` problems of each type, in the order of their keys."""
  of_type: dict[str | None, list[Row]] = {}
  for row in in_order(rows):
    of_type.setdefault(row.type, []).append(row)
  return [row for some in of_type.values() for row in some[:number]]


def chosen_exemplars(rows: Sequence[Row], number: int, seed: int) -> list[Row]:
  """A seeded choice of problems that have a solution, no question twice.

  Gives fewer than `number` if not so many have a solution.
  """
  solved = {row.key: row for row in rows if row.solution}
  ranked = sorted(
    # Another word than 'shot' would change the exemplars of every run.
    solved,
    key=lambda key: seeded_random.fraction(seed, 'shot', key),
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
  """The problems with these keys.

  Args:
    rows: the problems to choose from.
    keys: ids as the data has them, in the order of the prompt.
    where: the setting that names them, for the error.

  Raises:
    ConfigurationError: no problem has the key, or it has no solution.
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
  """Chooses the exemplars of a prompt.

  Args:
    rows: the problems to choose from.
    number: how many; with `by_type`, of each type.
    keys: ids of at least `number` of them, of which the first are taken; () for
      the first of each type (`by_type`) or a seeded choice.
    by_type: whether each type has exemplars of its own.
    answers_only: whether they show their answers without the solutions.
    seed: of the choice.
    where: the setting that names them, for the error.

  Raises:
    ConfigurationError: no problem has a key, or it has no solution.
  """
  if answers_only:
    rows = [dataclasses.replace(row, solution=row.answer) for row in rows]
  if keys:
    return named_exemplars(rows, keys[:number], where)
  if by_type:
    return first_of_each_type(rows, number)
  return chosen_exemplars(rows, number, seed)


def without(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
  """The problems whose question is not one of the others'."""
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
  num_read: int = 0,
) -> problem_sets.ProblemSet:
  """Makes a split, of at most `most` problems.

  Args:
    task: its name.
    split: its name.
    rows: the problems.
    most: how many are kept, by a seeded choice; 0 for all.
    seed: of the choice.
    skipped: reason to the places of the rows that were left out before.
    advice: for the error: what else helps, after "Give more problems".
    num_read: see ProblemSet.

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
    skipped_rows={r: list(where[:LISTED]) for r, where in skipped.items()},
    num_read=num_read,
  )
