"""The clock of an M-step, which goes on over restarts."""

import contextlib
import functools
import os
import pathlib
import time
from collections.abc import Iterator

import jax.monitoring

from rest_jax.artifacts import goodput, storage
from rest_jax.distributed import multihost

_NOTE_SECONDS = 20.0  # between two notes
_COMPILED = '/jax/core/compile/backend_compile_duration'
_newest: list['Clock'] = []  # the one that compilation counts for, or none


def _age() -> float:
  """Seconds since this process started, where the system tells; else 0."""
  try:
    stat = pathlib.Path('/proc/self/stat').read_text()
    ticks = int(stat.rpartition(')')[2].split()[19])
    up = float(pathlib.Path('/proc/uptime').read_text().split()[0])
    return max(0.0, up - ticks / os.sysconf('SC_CLK_TCK'))
  except (OSError, ValueError, IndexError):
    return 0.0


class Clock:
  """Counts the seconds of one M-step, each for one part."""

  def __init__(self, age: float | None = None):
    """Starts in 'startup'.

    Args:
      age: seconds to count already; None: those of this process, if this is
        its first M-step.
    """
    if age is None:
      age = 0.0 if _newest else _age()
    _listen()
    _newest[:] = [self]
    self._parts = dict.fromkeys(goodput.PARTS, 0.0) | {'startup': age}
    self._part, self._since = 'startup', time.monotonic()
    self._began = time.time() - age
    self._saves: dict[str, float] = {}  # useful seconds of steps, at each save
    self._file: storage.Path | None = None
    self._noted = 0.0

  def resume(self, folder: storage.Path) -> None:
    """Takes over what earlier attempts have noted, and notes in this folder."""
    if not multihost.is_writer():
      return
    self._file = folder / goodput.CLOCK
    if self._file.exists():
      earlier = storage.read_json(self._file)
      for part, seconds in earlier['parts'].items():
        self._parts[part] = self._parts.get(part, 0.0) + seconds
      self._parts['down'] += max(0.0, self._began - earlier['noted'])
      self._saves = earlier['saves']
    self.note(now=True)

  @contextlib.contextmanager
  def within(self, part: str) -> Iterator[None]:
    """Counts the block for this part, and then goes on as before."""
    before = self._part
    self._switch(part)
    try:
      yield
    finally:
      self._switch(before)

  def move(self, seconds: float, part: str) -> None:
    """Counts some of the running part's seconds for another one."""
    self._parts[self._part] -= seconds
    self._parts[part] += seconds

  def saved(self, name: str, step: int) -> None:
    """A training's step is being saved; 0: the training begins."""
    before = {k: v for k, v in self._saves.items() if k.startswith(f'{name}/')}
    kept = sorted(before, key=lambda key: int(key.rpartition('/')[2]))[-2:]
    others = {k: v for k, v in self._saves.items() if k not in before}
    self._saves = others | {key: before[key] for key in kept}
    self._saves[f'{name}/{step}'] = self.seconds()['steps']
    self.note(now=True)

  def restored(self, name: str, step: int) -> None:
    """A training goes on from this step, or from 0: later steps are lost."""
    useful = self.seconds()['steps']
    lost = useful - self._saves.setdefault(f'{name}/{step}', useful)
    self._parts['steps'] -= lost
    self._parts['lost'] += lost

  def note(self, *, now: bool = False) -> None:
    """Writes the file, unless that was done seconds ago."""
    if self._file is None or (
      not now and time.monotonic() - self._noted < _NOTE_SECONDS
    ):
      return
    self._noted = time.monotonic()
    storage.write_json(
      self._file,
      {'parts': self.seconds(), 'noted': time.time(), 'saves': self._saves},
    )

  def seconds(self) -> dict[str, float]:
    """By part, all attempts together."""
    self._switch(self._part)
    return dict(self._parts)

  def metrics(self) -> dict[str, float]:
    """For a line of metrics: goodput, and the seconds of each part."""
    found = self.seconds()
    parts = {f'seconds/{part}': round(v, 3) for part, v in found.items()}
    return {'goodput': goodput.share(found), **parts}

  def _switch(self, part: str) -> None:
    now = time.monotonic()
    self._parts[self._part] += now - self._since
    self._part, self._since = part, now


@functools.cache
def _listen() -> None:
  """Hears of compilations from now on; once in a process."""
  jax.monitoring.register_event_duration_secs_listener(_compiled)


def _compiled(event: str, seconds: float, **_) -> None:
  if event == _COMPILED:
    for clock in _newest:
      clock.move(seconds, 'compile')
