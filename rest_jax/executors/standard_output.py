"""Standard output that outlives its reader, as behind `| head`.

A run takes hours and must not end because nobody reads what it prints.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class _Lasting:
  """A text stream that goes on, in silence, where its reader has gone."""

  def __init__(self, stream: Any):
    self._stream = stream

  def write(self, text: str) -> int:
    """Writes a text, unless the reader has gone."""
    try:
      return self._stream.write(text)
    except BrokenPipeError:
      self._silence()
      return len(text)

  def flush(self) -> None:
    """Writes what is held back, unless the reader has gone."""
    try:
      self._stream.flush()
    except BrokenPipeError:
      self._silence()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def _silence(self) -> None:
    # What the stream holds back goes there too, at the end of the process.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, self._stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def lasting() -> Iterator[None]:
  """Within it sys.stdout and sys.stderr outlive their readers."""
  before = sys.stdout, sys.stderr
  sys.stdout, sys.stderr = _Lasting(sys.stdout), _Lasting(sys.stderr)
  try:
    yield
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stdout, sys.stderr = before
