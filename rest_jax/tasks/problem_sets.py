"""What a kind of task hands to `prepare`: texts, not yet token ids.

Every kind (embedded, JSONL, SeqIO) is a configuration that derives from
`TaskConfig` and knows how to `read` its `TaskTexts`. It imports what it needs
inside `read`, so that a run of one kind does not pay for another.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rest_jax.config import configuration
from rest_jax.rewards import registry
from rest_jax.tasks import prompts

TRAIN, DVAL, TEST = 'train', 'dval', 'test'  # the names of splits


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
  """A problem as text; see records.Problem for its fields."""

  key: str  # unique in its split
  question: str
  answer: str | None = None
  tests: str | None = None
  level: str | None = None
  type: str | None = None
  solution: str | None = None
  lead: str = ''  # an instruction of its own, before the worked examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemSet:
  """One split of one task.

  Attributes:
    task: its name, which is also the folder's.
    split: train, dval, test or another one.
    rows: its problems.
    skipped: reason to number of rows that were left out.
    skipped_rows: reason to where the first few of them are.
  """

  task: str
  split: str
  rows: Sequence[Row]
  skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)
  skipped_rows: Mapping[str, Sequence[str]] = dataclasses.field(
    default_factory=dict
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskTexts:
  """Everything that a kind of task has read.

  Attributes:
    sets: its splits, no problem in two of them.
    exemplars: worked examples for the few-shot prompt; in none of the sets.
    exemplars_by_type: whether a problem is shown those of its own type only.
  """

  sets: Sequence[ProblemSet]
  exemplars: Sequence[Row]
  exemplars_by_type: bool = False

  def exemplars_of(self, row: Row) -> Sequence[Row]:
    """The worked examples that stand before this problem."""
    if not self.exemplars_by_type:
      return self.exemplars
    return [shown for shown in self.exemplars if shown.type == row.type]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig(configuration.Configuration):
  """What all kinds of task have in common.

  Attributes:
    prompt: the template around questions and solutions.
    chat: the chat template around it (tasks/chat_templates.py): 'auto', a
      Jinja file, or None.
    num_shots: worked examples in the few-shot prompt.
    grader: a name in rewards/registry.py, or your own 'module:function'.
    vocabulary: spec of its vocabulary (tasks/vocabularies.py); None for the
      one that the run trains on its corpus.
  """

  prompt: prompts.PromptTemplate = prompts.PromptTemplate()
  # The prompt that it makes is in the fingerprint, the path need not be.
  chat: str | None = configuration.operational(None)
  num_shots: int = 4
  grader: str = 'number'
  # Its digest is in the fingerprint, the path need not be.
  vocabulary: str | None = configuration.operational(None)

  def check(self):
    self.require(self.num_shots >= 0, 'num_shots', '>= 0')
    registry.get(self.grader)

  def folders(self) -> list[tuple[str, str]]:
    """(task, split) of every set that `read` gives; cheap."""
    raise NotImplementedError

  def inputs(self) -> dict[str, Any]:
    """Digests of the files that `read` reads; cheap."""
    return {}

  def read(self, seed: int) -> TaskTexts:
    """Reads or makes the problems."""
    raise NotImplementedError

  def vocabulary_size(self) -> int | None:
    """The size of the vocabulary that its corpus trains; None: no corpus."""
    return None

  def num_documents(self) -> int:
    """Documents in its pretraining corpus."""
    return 0

  def documents(
    self, seed: int, start: int, stop: int
  ) -> Iterator[Sequence[tuple[str, str]]]:
    """Documents start..stop of the corpus: (question, solution) pairs each."""
    raise NotImplementedError
