"""What a program is asked to do: the tests of a problem."""

import dataclasses
import re
from collections.abc import Sequence

from rest_jax.artifacts import json_lines

STDIN, CALLS, CHECK = 'stdin', 'calls', 'check'
_ASSERTION = re.compile(r'\bassert\b|\.assert\w+\(')


@dataclasses.dataclass(frozen=True, slots=True)
class Tests:
  """What a program has to do; made by one of the class methods.

  Attributes:
    kind: 'stdin', 'calls' or 'check'.
    inputs: texts, or lists of arguments.
    outputs: texts, or values.
    name: of the function that is called.
    source: of a check.
    wrapped: of calls: whether every output is a list that holds the value, as
      in some problems of APPS. None: the references say, and where they do not,
      the outputs are the values as they stand. It never depends on the
      program that is graded.
    prelude: whether the names that judges import for programs are there.
    prompt: of HumanEval: what a completion goes on from; '' where it is the
      whole program. `source` begins with it.
    references: programs that the problem calls right, where they are needed
      to decide `wrapped`; () else.
  """

  __test__ = False  # pytest takes a class of this name for tests

  kind: str
  inputs: tuple = ()
  outputs: tuple = ()
  name: str = ''
  source: str = ''
  wrapped: bool | None = None
  prelude: bool = True
  prompt: str = ''
  references: tuple[str, ...] = ()

  @classmethod
  def stdin(
    cls,
    inputs: Sequence[str | Sequence[str]],
    outputs: Sequence[str | Sequence[str]],
  ) -> 'Tests':
    """Standard input and the expected standard output, per test.

    Args:
      inputs: texts; a list of lines stands for them joined.
      outputs: the same.
    """
    return cls(STDIN, tuple(map(_text, inputs)), tuple(map(_text, outputs)))

  @classmethod
  def calls(
    cls,
    fn_name: str,
    inputs: Sequence[Sequence],
    outputs: Sequence,
    *,
    wrapped: bool | None = None,
    references: Sequence[str] = (),
  ) -> 'Tests':
    """Arguments and the expected value, per test, as in APPS.

    Args:
      fn_name: a function, or a method of a class Solution.
      inputs: lists of arguments.
      outputs: values, of JSON's types.
      wrapped: see Tests.
      references: see Tests; kept only where they are needed.
    """
    found = cls(
      CALLS, tuple(inputs), tuple(outputs), name=fn_name, wrapped=wrapped
    )
    if found.ambiguous():
      return dataclasses.replace(found, references=tuple(references))
    return found

  @classmethod
  def check(cls, entry_point: str, source: str) -> 'Tests':
    """Test source: a function check(candidate), or assertions.

    Args:
      entry_point: the function under test. Names that the source uses and
        neither it, nor Python, nor the standard library has are looked up in
        the program.
      source: trusted. HumanEval's prompt belongs before the test, since some
        tests use its helpers, which a program must not supply itself.
    """
    return cls(CHECK, name=entry_point, source=source, prelude=False)

  def to_json(self) -> str:
    """As the column `tests` of a problem holds them.

    Raises:
      ValueError: they hold text that is not UTF-8.
    """
    value = dataclasses.asdict(self)
    if not self.references:  # as rows of earlier versions
      del value['references']
    return json_lines.dumps(value, escape=False)

  @classmethod
  def from_json(cls, text: str) -> 'Tests':
    """What `to_json` wrote.

    Raises:
      ValueError: the text is something else.
    """
    value = json_lines.loads(text, constants=True)
    names = {field.name for field in dataclasses.fields(cls)}
    if not isinstance(value, dict) or not value.keys() <= names:
      raise ValueError(f'tests: got {text[:60]!r}, which Tests.to_json is not')
    for name in ('inputs', 'outputs', 'references'):
      value[name] = tuple(value.get(name, ()))
    return cls(**value)

  def ambiguous(self) -> bool:
    """Whether the outputs alone leave open whether they are wrapped."""
    return (
      self.kind == CALLS
      and self.wrapped is None
      and bool(self.outputs)
      and all(type(one) is list and len(one) == 1 for one in self.outputs)
    )

  def fault(self) -> str:
    """Why nothing can be graded with these; empty if it can."""
    if self.kind == CHECK:
      if not _ASSERTION.search(self.source):
        return 'the tests assert nothing'
      return '' if self.name else 'the tests name no function'
    if self.kind not in (STDIN, CALLS):
      return f'tests of kind {self.kind!r}'
    if not self.inputs:
      return 'no tests'
    if len(self.inputs) != len(self.outputs):
      return f'{len(self.inputs)} inputs for {len(self.outputs)} outputs'
    return '' if self.kind == STDIN or self.name else 'no function is named'


def _text(value: str | Sequence[str]) -> str:
  return value if isinstance(value, str) else '\n'.join(map(str, value))
