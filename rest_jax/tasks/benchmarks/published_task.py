"""What a published task is made of; the tasks themselves: catalogue.py.

Every problem has the same fields (FIELDS), all of them texts.

Keys: HumanEval, MBPP, APPS and the exam number their problems, and the number
is a problem's key. BBH: `<subtask>-<number in its file>`. The others have no
numbers; there the key is the first 12 hexadecimal digits of the sha256 of the
question, so that it is the same in every layout in which the set is published.
"""

import dataclasses
import hashlib
from collections.abc import Mapping

from rest_jax.tasks.prompts import PromptTemplate

BUILDER_VERSION = '1.0.0'  # of the TFDS builders, and the name of their folder
# The fields of a problem as the builders keep it; '' for one that it lacks.
FIELDS = (
  'problem_id',  # its key, unique in its split
  'question',
  'answer',  # what its grader compares with
  'tests',  # rewards.code.program_tests.Tests.to_json()
  'level',
  'type',  # subject, subtask
  'solution',  # a human one, as a completion should look
  'lead',  # an instruction before the exemplars
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
  """A published task.

  Attributes:
    name: of the SeqIO task, and of its folder in a run.
    title: for messages.
    licence: of the data.
    homepage: where it is described.
    files: what --manual_dir may hold, for the message when no file is there.
    urls: file name to address, for files that need no account.
    counts: split to its number of problems as published.
    grader: in rewards/registry.py.
    template: of its prompt.
    num_shots: number of exemplars in its prompt; of each type if a problem is
      shown those of its own type.
    exemplars: their keys; () for those of the problem's own type in
      `exemplars_split`.
    exemplars_split: the split that they are taken from.
    exemplars_from: the benchmark that they are taken from; None for this one.
    answers_only: whether they show their answers without the solutions.
    data: the benchmark whose problems it uses; None for its own.
    trainable: whether it has training problems that an E-step may sample.
  """

  name: str
  title: str
  licence: str
  homepage: str
  files: str
  urls: Mapping[str, str] = dataclasses.field(default_factory=dict)
  counts: Mapping[str, int]
  grader: str
  template: PromptTemplate
  num_shots: int
  exemplars: tuple[str, ...] = ()
  exemplars_split: str = 'train'
  exemplars_from: str | None = None
  answers_only: bool = False
  data: str | None = None
  trainable: bool = False

  @property
  def builder(self) -> str:
    """The name of its TFDS builder; TFDS has sets of its own by our names."""
    return f'rest_{self.data or self.name}'


def key_of(question: str) -> str:
  """The key of a problem whose data set gives it no number."""
  return hashlib.sha256(question.strip().encode()).hexdigest()[:12]
