"""The tests' side of calls: runs trusted test source, asks for the rest.

It runs in a sandboxed process of its own. What the source does not define,
and Python does not either, is the candidate's: a function becomes a proxy
that calls over the channel, a literal becomes a copy, any other object a
handle. A handle equals itself and nothing else, whatever its class says about
equality; it has no length, order, arithmetic or items.
"""

import builtins
import importlib
import os
import sys
import types

from rest_jax.rewards.code.sandbox import candidate, codec, protocol

_CHECK = 'check'  # HumanEval's tests are a function of this name
# Raised again here under their own names, for tests that expect them. Not
# StopIteration and its kin: raised within a loop over calls, it would end the
# loop in silence.
_KNOWN = {
  error.__name__: error
  for error in (
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    ZeroDivisionError,
  )
}


class CandidateError(Exception):
  """Something that the candidate raised, of a type not known here."""


class _Lost(BaseException):
  """The candidate is gone; no test may catch this."""


class _Absent(Exception):
  """The candidate does not define the function under test."""


class _Channel:
  """Asks the candidate; remembers what it raised last."""

  def __init__(self):
    self._handles: dict[int, Handle] = {}
    self.raised: BaseException | None = None
    self.calls = 0

  def handle(self, number: int) -> 'Handle':
    if number not in self._handles:
      self._handles[number] = Handle(self, number)
    return self._handles[number]

  def begin(self) -> None:
    self._receive()  # it says when it is loaded

  def ask(self, operation: str, *rest):
    data = codec.encode((operation, *rest), other=_number)
    self.calls += operation == 'call'
    try:
      candidate.write(data)
    except OSError:
      raise _Lost from None
    reply = self._receive()
    if type(reply) is not tuple or not reply:
      raise _Lost
    if reply[0] == protocol.RETURNED and len(reply) == 2:
      return reply[1]
    if reply[0] == protocol.RAISED and len(reply) == 3:
      kind = reply[1] if isinstance(reply[1], str) else ''
      error = _KNOWN.get(kind, CandidateError)
      text = f'{kind}: {reply[2]}' if error is CandidateError else reply[2]
      self.raised = error(text)
      raise self.raised
    raise _Lost

  def _receive(self):
    try:
      message = candidate.receive()
      if message is not None:
        return codec.decode(message, handle=self.handle)
    except (OSError, codec.CodecError):
      pass
    raise _Lost


def _number(value):
  if type(value) is Handle:
    return False, object.__getattribute__(value, '_number')
  plain = candidate.plain_value(value)
  if plain:
    return True, plain[0]
  raise codec.CodecError(f'a test passes a {type(value).__name__}')


class Handle:
  """An object of the candidate's: call it, read and set its attributes."""

  __slots__ = ('_channel', '_number')

  def __init__(self, channel: _Channel, number: int):
    object.__setattr__(self, '_channel', channel)
    object.__setattr__(self, '_number', number)

  def __call__(self, *arguments, **keywords):
    return self._channel.ask('call', self, list(arguments), keywords)

  def __getattr__(self, name: str):
    if name.startswith('__') and name.endswith('__'):
      raise AttributeError(name)
    return self._channel.ask('get', self, name)

  def __setattr__(self, name: str, value):
    self._channel.ask('set', self, name, value)

  def __iter__(self):
    return iter(self._channel.ask('iterate', self))


class _Names(dict):
  """The tests' global names; those that are missing are the candidate's."""

  def __init__(self, channel: _Channel, entry_point: str):
    super().__init__(__name__='tests', __builtins__=builtins)
    self._channel = channel
    self._entry_point = entry_point

  def __missing__(self, name: str):
    if name != self._entry_point:
      if hasattr(builtins, name):
        raise KeyError(name)
      if name in sys.stdlib_module_names:
        self[name] = importlib.import_module(name)
        return self[name]
    value = self._channel.ask('name', name)
    self[name] = value
    return value


def run(source: str, entry_point: str) -> None:
  """Runs test source to its end, or to the first assertion that fails."""
  outcome, detail = _outcome(source, entry_point)
  data = codec.encode((outcome, detail[:500]))
  os.write(protocol.RESULT_FD, data)


def _outcome(source: str, entry_point: str) -> tuple[str, str]:
  channel = _Channel()
  names = _Names(channel, entry_point)
  try:
    code = compile(source, 'tests.py', 'exec', dont_inherit=True)
  except (SyntaxError, ValueError) as error:
    return protocol.BROKEN, f'the tests do not compile: {error}'
  try:
    channel.begin()
    exec(code, names)
    # Its own: MBPP has a candidate of this name.
    if isinstance(names.get(_CHECK), types.FunctionType):
      function = _entry_point(channel, entry_point)
      names[entry_point] = function  # HumanEval's prompt defines it, empty
      names[_CHECK](function)
    if not channel.calls:
      return protocol.BROKEN, 'the tests called nothing of the program'
    return protocol.PASSED, ''
  except _Lost:
    return protocol.LOST, ''
  except _Absent:
    return protocol.FAILED, f'{entry_point} is not defined'
  except BaseException as error:
    text = f'{type(error).__name__}: {error}'
    if error is channel.raised:
      return protocol.RAISED, text
    where = _line(source, error)
    return protocol.FAILED, f'{where} ({text})' if where else text


def _entry_point(channel: _Channel, name: str) -> Handle:
  try:
    return channel.ask('name', name)
  except Exception:
    raise _Absent from None


def _line(source: str, error: BaseException) -> str:
  """The test's line that failed, for a person."""
  number, trace = 0, error.__traceback__
  while trace:
    if trace.tb_frame.f_code.co_filename == 'tests.py':
      number = trace.tb_lineno
    trace = trace.tb_next
  lines = source.splitlines()
  return lines[number - 1].strip() if 0 < number <= len(lines) else ''
