"""What overlap.py finds: counts for a pair of sets, and some problems."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedProblem:
  """An evaluated problem that training texts share.

  Attributes:
    id: of the problem.
    partner: id of the training problem, or kept solution, to compare it with:
      the same question if there is one, else see Index.partners.
    coverage: the fraction of its question's tokens that lie in shared grams.
    same_question: whether its question is a training question.
  """

  id: str
  partner: str
  coverage: float
  same_question: bool

  def to_json(self) -> dict[str, Any]:
    """JSON-ready, as in overlap.json and in manifests."""
    return {
      'id': self.id,
      'with': self.partner,
      'coverage': self.coverage,
      'same_question': self.same_question,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap:
  """What the training side shares with one evaluated set.

  Attributes:
    problems: number of problems of the set.
    short: of them, those too short to be a gram, which can only be
      found as the same question.
    shared: number of problems that are shared.
    same_question: of them, those whose question is a training question.
    half_covered: of them, those with a coverage of one half or more.
    training: number of ids on the training side.
    training_shared: of them, those that share with the set.
    examples: some of the shared problems: same questions first, then
      by coverage.
  """

  problems: int
  short: int
  shared: int
  same_question: int
  half_covered: int
  training: int
  training_shared: int
  examples: Sequence[SharedProblem]

  def to_json(self) -> dict[str, Any]:
    """JSON-ready, as in overlap.json and in manifests."""
    values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return values | {'examples': [one.to_json() for one in self.examples]}

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> 'Overlap':
    """Reads what `to_json` gave; other keys are passed over."""
    fields = {f.name: values[f.name] for f in dataclasses.fields(cls)}
    examples = [
      SharedProblem(partner=partner, **rest)
      for rest in map(dict, fields['examples'])
      for partner in [rest.pop('with')]
    ]
    return cls(**fields | {'examples': examples})


def line(training: str, evaluated: str, ngram: int, found: Overlap) -> str:
  """The line for the terminal about one training and one evaluated set."""
  text = (
    f'overlap: {training} x {evaluated}: {found.shared} of '
    f'{found.problems} problems share a {ngram}-gram with it'
  )
  if found.same_question:
    text += f' ({found.same_question} ask the same question)'
  return text
