"""The problems of a task as texts, and the base class of all tasks.

Every kind of task (embedded, JSONL, SeqIO) is a configuration that derives from
`TaskConfig`. Its `read` gives the problems as texts, which the stage prepare
encodes (encoding.py). A heavy package is imported inside `read`, so that only
runs of that kind load it.
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
  lead: str = ''  # an instruction of its own; it stands before the exemplars


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemSet:
  """One split of one task.

  Attributes:
    task: its name, which is also the folder's.
    split: its name: train, dval, test or another one.
    rows: its problems.
    skipped: reason to the number of rows that were left out.
    skipped_rows: reason to the places of the first few of them.
    num_read: rows of the file that it was made from; 0: its own and those
      left out.
  """

  task: str
  split: str
  rows: Sequence[Row]
  skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)
  skipped_rows: Mapping[str, Sequence[str]] = dataclasses.field(
    default_factory=dict
  )
  num_read: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskTexts:
  """Everything that a kind of task has read.

  Attributes:
    sets: its splits; no problem is in two of them.
    exemplars: problems with solutions for the few-shot prompt; in no set.
    exemplars_by_type: whether a prompt shows only those of its problem's type.
  """

  sets: Sequence[ProblemSet]
  exemplars: Sequence[Row]
  exemplars_by_type: bool = False

  def exemplars_of(self, row: Row) -> Sequence[Row]:
    """The exemplars of this problem's prompt."""
    if not self.exemplars_by_type:
      return self.exemplars
    return [shown for shown in self.exemplars if shown.type == row.type]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig(configuration.Configuration):
  """Base class of all kinds of task.

  Attributes:
    prompt: the template around questions and solutions.
    chat: the chat template whose turns hold the questions and solutions
      (tasks/chat_templates.py): 'auto', a Jinja file, or None.
    num_shots: number of exemplars in the few-shot prompt.
    grader: a name in rewards/registry.py, or your own 'module:function'.
    vocabulary: spec of its vocabulary, as tokenizers/vocabulary_files.py takes
      it; None for the one that is trained on the run's corpus.
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
    """(task, split) of every set that `read` gives; reads no problems."""
    raise NotImplementedError

  def inputs(self) -> dict[str, Any]:
    """Name to digest of what `read` reads, for the fingerprint."""
    return {}

  def read(self, seed: int) -> TaskTexts:
    """Reads or makes the problems.

    Args:
      seed: of the choice of D_val and exemplars, and of made problems.
    """
    raise NotImplementedError

  def vocabulary_size(self) -> int | None:
    """The size of the vocabulary to train on its corpus; None for none."""
    return None

  def vocabulary_pieces(self) -> Sequence[str]:
    """Texts that are one piece each of that vocabulary."""
    return ()

  def learns_solutions_only(self) -> bool:
    """Whether a model is pretrained on the solutions of its corpus alone."""
    return False

  def num_documents(self) -> int:
    """Number of documents in its pretraining corpus; 0 for no corpus."""
    return 0

  def documents(
    self, seed: int, start: int, stop: int
  ) -> Iterator[Sequence[tuple[str, str]]]:
    """Documents start to stop - 1 of the corpus.

    Yields:
      The (question, solution) pairs of a document.
    """
    raise NotImplementedError
