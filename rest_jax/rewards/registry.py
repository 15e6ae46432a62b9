"""The graders by name, and the one call that every stage grades through.

A grader is a function (completion, reference, *, finish_reason) -> Verdict; it
is imported when it is first used. To add one, write the function and its row
here; raise the version when its verdicts change.
"""

import contextlib
import dataclasses
import difflib
import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from rest_jax.config import configuration
from rest_jax.rewards import grader_sources, verdicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grader:
  """A row of the registry.

  Attributes:
    name: what a task's card calls it.
    version: another one whenever its verdicts change.
    path: 'module:function'.
    bounded: whether its time and memory are bounded whatever the text, by
      construction; only such a grader runs in the caller's process.
    reads: the problem's column that it compares with.
    seconds: wall clock that one completion gets at least, before its worker
      is killed; for graders that keep their own time.
    needs: 'module:function' that raises ConfigurationError where this machine
      lacks what the grader needs; None where it needs nothing.
  """

  name: str
  version: int | str
  path: str
  bounded: bool
  reads: str = 'answer'
  seconds: float = 0.0
  needs: str | None = None

  @property
  def label(self) -> str:
    """Name and version, as in the verdicts' grader column: 'number/1'."""
    return f'{self.name}/{self.version}'


class GraderError(configuration.ConfigurationError):
  """A grader of the user's own raised, or returned no Verdict.

  A built-in grader that fails on a completion costs that sample alone, as
  harness_error. A grader of one's own that fails is being written: the first
  error stops the grading and is shown.
  """


_EXACT = 'rest_jax.rewards.text.exact'
_BBH = 'rest_jax.rewards.text.bbh'
REGISTRY = {
  grader.name: grader
  for grader in (
    Grader(
      name='number', version=2, path=f'{_EXACT}:grade_number', bounded=True
    ),
    Grader(name='exact', version=2, path=f'{_EXACT}:grade_exact', bounded=True),
    Grader(
      name='math',
      version=2,
      path='rest_jax.rewards.math.math_answer:grade',
      bounded=True,
    ),
    Grader(name='gsm8k', version=2, path=f'{_EXACT}:grade_gsm8k', bounded=True),
    Grader(name='bbh', version=2, path=f'{_BBH}:grade', bounded=True),
    Grader(
      name='bbh_direct',
      version=2,
      path=f'{_BBH}:grade_direct',
      bounded=True,
    ),
    Grader(
      name='by_hand',
      version=2,
      path='rest_jax.rewards.by_hand:grade',
      bounded=True,
      reads='question',  # a person has the key
    ),
    Grader(
      name='program',
      version=2,
      path='rest_jax.rewards.code.programs:grade_completion',
      bounded=False,
      reads='tests',
      seconds=3600.0,
      needs='rest_jax.rewards.code.programs:require_sandbox',
    ),
  )
}


_BUILT_IN = frozenset(grader.path for grader in REGISTRY.values())
_FRAMES = 3  # of a traceback, shown of a grader that raises
_STANDARD_LIBRARY = os.path.dirname(os.__file__)


def get(name: str) -> Grader:
  """The registry's row of a grader, or one for your own.

  Args:
    name: in the registry; or 'module:function' of yours, importable from
      where the command is given. The function takes what `grade` takes and
      returns a Verdict; it runs in a process of its own. Its attribute
      `reads`, if it has one, is the problem's column that it compares with.

  Raises:
    ConfigurationError: there is none of this name; the nearest is named.
  """
  if name in REGISTRY:
    return REGISTRY[name]
  if ':' in name:
    return _own(name)
  near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.4)
  hint = f'Nearest: {near[0]}. ' if near else ''
  raise configuration.ConfigurationError(
    f'grader: got {name!r}. {hint}Known: {", ".join(sorted(REGISTRY))}, or '
    "your own 'module:function'."
  )


def label(name: str) -> str | None:
  """Name and version of a grader, as Grader.label, without importing it.

  Args:
    name: as of `get`.

  Returns:
    None where there is no such grader, or its file is not found.
  """
  if name in REGISTRY:
    return REGISTRY[name].label
  version = grader_sources.version(name) if ':' in name else None
  return None if version is None else f'{name}/{version}'


@functools.cache
def _own(path: str) -> Grader:
  """A row for a user's 'module:function'; another text, another version."""
  module = path.partition(':')[0]
  if os.getcwd() not in sys.path:  # a console script does not look there
    sys.path.append(os.getcwd())
  try:
    function = load(path)
  except (ImportError, AttributeError) as error:
    raise configuration.ConfigurationError(
      f'grader: {path!r} cannot be loaded: {error}. Start the command in the '
      f'folder of {module}.py, or put that folder on PYTHONPATH.'
    ) from error
  except Exception as error:
    raise configuration.ConfigurationError(
      f'grader: {path!r} cannot be loaded: {module} raises when it is '
      f'imported:\n{_last_lines(error)}'
    ) from error
  _check_call(path, function)
  return Grader(
    name=path,
    version=grader_sources.version(path) or 'unknown',
    path=path,
    bounded=False,
    reads=getattr(function, 'reads', 'answer'),
  )


def _check_call(path: str, function: Any) -> None:
  """Raises unless a user's function takes the arguments of a grader."""
  name = path.partition(':')[2]
  problem = None
  if not callable(function):
    problem = f'it is a {type(function).__name__}'
  else:
    with contextlib.suppress(ValueError):  # no signature: of C code
      try:
        inspect.signature(function).bind('', '', finish_reason=None)
      except TypeError as error:
        problem = str(error)
  if problem:
    raise configuration.ConfigurationError(
      f'grader: {path!r} cannot be called: {problem}. Expected: def {name}('
      'completion, reference, *, finish_reason=None), which returns a '
      'rest_jax.rewards.verdicts.Verdict.'
    )


def require(grader: Grader) -> None:
  """Returns where this machine has what a grader needs.

  Raises:
    ConfigurationError: it has not; nothing was graded.
  """
  if grader.needs is not None:
    load(grader.needs)()


def grade(
  name: str,
  *,
  completion: str,
  reference: str | None,
  finish_reason: str | None = None,
) -> verdicts.Verdict:
  """Grades one completion in this process.

  Args:
    name: of a grader in the registry.
    completion: the sampled text, cut before its stop string.
    reference: the problem's answer (or tests, see Grader.reads).
    finish_reason: of the sample.

  Returns:
    A verdict; harness_error where a built-in grader failed.

  Raises:
    GraderError: a grader of the user's own failed.
  """
  return grade_with(
    get(name).path,
    completion=completion,
    reference=reference,
    finish_reason=finish_reason,
  )


def grade_with(
  path: str,
  *,
  completion: str,
  reference: str | None,
  finish_reason: str | None = None,
) -> verdicts.Verdict:
  """As `grade`, with the grader's 'module:function' in place of its name."""
  cut_off = verdicts.unfinished(finish_reason)
  if cut_off is not None:
    return cut_off
  function = load(path)
  try:
    verdict = function(completion, reference, finish_reason=finish_reason)
    if not isinstance(verdict, verdicts.Verdict):
      raise TypeError(f'it returned {verdict!r}, which is no Verdict')
    return verdict
  except Exception as error:  # a grader's bug is never the model's fault
    if path not in _BUILT_IN:
      raise GraderError(_last_lines(error)) from error
    text = ' '.join(f'{type(error).__name__}: {error}'.split())
    return verdicts.without_answer(
      verdicts.HARNESS_ERROR,
      f'the grader failed: {text[:200]}',
    )


def _last_lines(error: Exception) -> str:
  """The end of an error's traceback, from the user's own code on."""
  package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  own = [
    frame
    for frame in traceback.extract_tb(error.__traceback__)
    if not frame.filename.startswith((package, '<frozen', _STANDARD_LIBRARY))
  ]
  lines = [
    *traceback.format_list(own[-_FRAMES:]),
    *traceback.format_exception_only(error),
  ]
  return ''.join(lines).rstrip()


@functools.cache
def load(path: str) -> Callable[..., Any]:
  """Imports a grader, or what it needs, by its 'module:function'."""
  module, _, name = path.partition(':')
  return getattr(importlib.import_module(module), name)
