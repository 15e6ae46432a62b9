"""A problem with its completions, as the page of a run shows it."""

import dataclasses
import urllib.parse
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
  """A sample with its verdict; the fields of both are in records.py.

  Attributes:
    source: the model and stream that it is of, such as `base, greedy`.
  """

  source: str
  sample_index: int
  outcome: str
  answer: str | None
  detail: str
  text: str
  finish_reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Article:
  """A problem with some of its completions.

  Attributes:
    id: of the problem.
    problems: the set that it is in, such as gsm8k/test.
    facts: its level and type, or ''.
    question: its text.
    reference: its answer or tests.
    start: the prompt before the question: system text and exemplars.
    prompt: the rest of the prompt, up to where completions begin.
    change: 'gained', 'lost' or ''.
    models: (model, its completions), in the order of the run.
    left_out: completions of this problem that are not among these.
  """

  id: str
  problems: str
  facts: str
  question: str
  reference: str
  start: str
  prompt: str
  change: str
  models: Sequence[tuple[str, Sequence[Completion]]]
  left_out: int

  @property
  def anchor(self) -> str:
    """The article's id in the document, and its link behind `#`."""
    quoted = urllib.parse.quote(self.id, safe='/').replace('~', '%7E')
    return f'p/{quoted.replace("%", "~")}'


def problem_of(anchor: str) -> str:
  """The inverse of Article.anchor: the id of a problem."""
  return urllib.parse.unquote(anchor.removeprefix('p/').replace('~', '%'))
