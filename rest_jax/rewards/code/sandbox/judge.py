"""The tests' side of calls: runs trusted test source, asks for the rest.

It runs in a sandboxed process of its own. What the source does not define,
and Python does not either, is the candidate's. Values of known types arrive as
copies of exactly these types, see known_types.py; any other object of the
candidate's is a handle, see handles.py, equal to itself and nothing else.
"""

import builtins
import importlib
import os
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from rest_jax.rewards.code.sandbox import (
  arguments,
  channel,
  codec,
  handles,
  known_types,
  protocol,
  raised_errors,
  shared_objects,
)

_CHECK = 'check'  # HumanEval's tests are a function of this name
_FILE_NAME = 'tests.py'


class _Lost(BaseException):
  """The candidate is gone; no test may catch this."""


class _Unsendable(BaseException):
  """A test passes a value that cannot travel; no test may catch this."""


class _Channel:
  """Asks the candidate, and answers what it asks meanwhile.

  Attributes:
    raised: the exception that the candidate raised last.
    asked: how often it was asked for anything but the function under test.
    told: how many values have come from it.
  """

  def __init__(self):
    self.raised: BaseException | None = None
    self.asked = 0
    self.told = 0
    self._handles: dict[int, handles.Handle] = {}
    self._shared = shared_objects.SharedObjects()
    self._raised_here: list[Exception] = []
    self._lock = threading.RLock()

  def begin(self) -> None:
    self._receive([])  # it says when it is loaded

  def ask(self, operation: str, target: Any, *rest) -> Any:
    """The candidate's answer to one request.

    Raises:
      Exception: what the candidate raised.
    """
    self.asked += operation != 'entry'
    parts: list = []
    if operation == 'call':
      values, keywords = rest
      try:
        parts = arguments.mutable_parts([*values, *keywords.values()])
      except RecursionError:
        raise _Unsendable('a value that is nested too deep') from None
    with self._lock:
      self._send((operation, target, *rest))
      while True:
        status, *reply = self._received(parts)
        if status == protocol.RETURNED and 1 <= len(reply) <= 2:
          self._apply(parts, reply[1:])
          return reply[0]
        if status == protocol.RAISED and len(reply) >= 5:
          self._apply(parts, reply[5:6])
          raise self._error(*reply[:5])
        if status != protocol.REQUEST_TAG:
          raise _Lost
        self._answer(*reply)

  def _send(self, message: tuple) -> None:
    try:
      data = codec.encode(message, other=self._other)
    except codec.CodecError as error:
      raise _Unsendable(str(error)) from None
    try:
      channel.write(data)
    except OSError:
      raise _Lost from None

  def _received(self, parts: list) -> tuple:
    reply = self._receive(parts)
    if type(reply) is not tuple or not reply:
      raise _Lost
    self.told += not (len(reply) == 2 and type(reply[1]) is handles.Handle)
    return reply

  def _receive(self, parts: list) -> Any:
    def resolve(reference: codec.Reference) -> Any:
      if reference.owner == codec.ARGUMENT:
        return parts[reference.number]
      if reference.owner == codec.TESTS:
        return self._shared.resolve(reference.number)
      return self._handle(reference.number)

    try:
      message = channel.receive()
      if message is not None:
        return codec.decode(message, resolve=resolve, build=self._build)
    except (OSError, codec.CodecError):
      pass
    raise _Lost

  def _handle(self, number: int) -> handles.Handle:
    if number not in self._handles:
      self._handles[number] = handles.Handle(self.ask, number)
    return self._handles[number]

  def _build(self, name: str, parts: tuple) -> Any:
    if name == 'error':  # a class of exceptions that the program defines
      return raised_errors.class_of(tuple(parts[0]))
    return known_types.build(name, parts)

  def _other(self, value: Any) -> Any:
    """For codec.encode: what stands for anything that is no literal."""
    if type(value) is handles.Handle:
      return codec.Reference(codec.CANDIDATES, handles.number_of(value))
    known = known_types.sent(value)
    return self._shared.reference(value) if known is None else known

  def _apply(self, parts: list, changes: list) -> None:
    """Gives the arguments of a call what the candidate put into them."""
    try:
      for number, content in changes[0] if changes else ():
        arguments.change(parts[number], content)
    except (TypeError, ValueError, LookupError):
      raise _Lost from None

  def _error(self, origin: Any, *description) -> BaseException:
    if type(origin) is int and 0 <= origin < len(self._raised_here):
      self.raised = self._raised_here[origin]
      return self.raised
    try:
      self.raised = raised_errors.made(*description)
    except (TypeError, ValueError):
      raise _Lost from None
    return self.raised

  def _answer(self, operation: str, target: Any, *rest) -> None:
    """Does what the candidate asks for with an object of the tests."""
    try:
      value = self._shared.perform(operation, target, rest)
      self._send((protocol.RETURNED, value))
    except Exception as error:
      self._raised_here.append(error)
      origin = len(self._raised_here) - 1
      description = raised_errors.described(error)
      self._send((protocol.RAISED, origin, *description))


class _Names(dict):
  """The tests' global names; those that are missing are the candidate's."""

  def __init__(self, ask: Callable, entry_point: str):
    super().__init__(
      __name__=shared_objects.TESTS_MODULE, __builtins__=builtins
    )
    self._ask = ask
    self._entry_point = entry_point

  def __missing__(self, name: str):
    if name != self._entry_point:
      if hasattr(builtins, name):
        raise KeyError(name)
      if name in sys.stdlib_module_names:
        self[name] = importlib.import_module(name)
        return self[name]
    try:
      if name == self._entry_point:
        return self.entry()
      self[name] = self._ask('name', name)
      return self[name]
    except Exception:
      raise NameError(f'{name} is not defined') from None

  def entry(self) -> handles.Handle:
    """The function under test, always the candidate's.

    Raises:
      NameError: the candidate does not define it as something to call.
    """
    name = self._entry_point
    try:
      value = self._ask('entry', name)
    except Exception:
      value = None
    if type(value) is not handles.Handle:
      raise NameError(f'{name} is not defined')
    self[name] = value
    return value


def run(source: str, entry_point: str, prompt: str = '') -> None:
  """Runs test source to its end, or to the first assertion that fails.

  Args:
    source: of the tests: statements, or a function check(candidate).
    entry_point: the name of the function under test.
    prompt: of HumanEval: source that runs first, whose helpers the tests may
      use, and whose own function of that name is replaced by the candidate's.
  """
  outcome, detail = _Run(source, entry_point, prompt).outcome()
  data = codec.encode((outcome, detail[:500]))
  os.write(protocol.RESULT_FD, data)


class _Run:
  """One run of the tests."""

  def __init__(self, source: str, entry_point: str, prompt: str):
    self._source = source
    self._entry_point = entry_point
    self._prompt = prompt
    self._channel = _Channel()

  def outcome(self) -> tuple[str, str]:
    """(PASSED, FAILED, RAISED, LOST or BROKEN, one line for a person)."""
    try:
      prompt = _compiled_prompt(self._prompt)
      tests = _compiled(self._source, _FILE_NAME)
    except (SyntaxError, ValueError, RecursionError) as error:
      return protocol.BROKEN, f'the tests do not compile: {error}'
    try:
      self._run(prompt, tests)
    except _Lost:
      return protocol.LOST, ''
    except _Unsendable as error:
      return self._broken_or_failed(f'what a test passes: {error}')
    except BaseException as error:
      return self._failed(error)
    if self._channel.asked:
      return protocol.PASSED, ''
    return protocol.BROKEN, 'the tests called nothing of the program'

  def _run(self, prompt: types.CodeType, tests: types.CodeType) -> None:
    self._channel.begin()
    names = _Names(self._channel.ask, self._entry_point)
    exec(prompt, names)
    # The prompt's own function of this name is empty.
    names.pop(self._entry_point, None)
    exec(tests, names)
    # Of the source itself: MBPP has a candidate of this name.
    check = dict.get(names, _CHECK)
    if isinstance(check, types.FunctionType):
      check(names.entry())

  def _failed(self, error: BaseException) -> tuple[str, str]:
    text = f'{type(error).__name__}: {_text(error)}'
    if error is self._channel.raised:
      return protocol.RAISED, text
    if not self._channel.asked and not isinstance(error, NameError):
      return protocol.BROKEN, f'the tests fail by themselves: {text}'
    where = _line(self._source, error)
    return protocol.FAILED, f'{where} ({text})' if where else text

  def _broken_or_failed(self, text: str) -> tuple[str, str]:
    """The tests' fault, unless what they pass may be the candidate's."""
    told = self._channel.told
    return (protocol.FAILED if told else protocol.BROKEN), text


def _compiled(source: str, name: str) -> types.CodeType:
  return compile(source, name, 'exec', dont_inherit=True)


def _compiled_prompt(source: str) -> types.CodeType:
  """A prompt, which may end in a function without a body."""
  try:
    return _compiled(source, 'prompt.py')
  except SyntaxError:
    return _compiled(f'{source}\n    pass\n', 'prompt.py')


def _text(error: BaseException) -> str:
  try:
    return str(error)
  except BaseException:  # it shows an object of a candidate that is gone
    return ''


def _line(source: str, error: BaseException) -> str:
  """The test's line that failed, for a person."""
  number, trace = 0, error.__traceback__
  while trace:
    if trace.tb_frame.f_code.co_filename == _FILE_NAME:
      number = trace.tb_lineno
    trace = trace.tb_next
  lines = source.splitlines()
  return lines[number - 1].strip() if 0 < number <= len(lines) else ''
