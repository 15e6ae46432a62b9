"""Metrics of a training: metrics.jsonl and TensorBoard scalars."""

import json
import os
import tempfile
import time
from typing import Any

import jax
import numpy as np

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.distributed import multihost


class MetricsLog:
  """metrics.jsonl and TensorBoard events in one folder, in step order.

  Writing resumes after the restored step: lines of later steps, which a
  killed attempt left behind, are dropped.
  """

  def __init__(self, folder: storage.PathLike, *, first_step: int):
    """Reads the lines of earlier attempts.

    Args:
      folder: of this training.
      first_step: lines from here on are written anew.
    """
    self.folder = storage.path(folder)
    self._path = self.folder / 'metrics.jsonl'
    self._lines = []
    if self._path.exists():
      for line in self._path.read_text().splitlines():
        if line.endswith('}') and json.loads(line)['step'] < first_step:
          self._lines.append(line)
    self._board = _Board(self.folder / 'tensorboard', first_step)

  def write(self, step: int, values: dict[str, float]) -> None:
    """Adds one line; it is on disk with the next flush.

    Args:
      step: of the training.
      values: name to value.
    """
    self._lines.append(json.dumps({'step': step, **values}))
    for name, value in values.items():
      self._board.add_scalar(name, value, step)

  def flush(self) -> None:
    """Writes all lines so far, in process 0."""
    if not multihost.is_writer():
      return
    storage.write_bytes(
      self._path, ''.join(f'{line}\n' for line in self._lines).encode()
    )
    self._board.flush()


class StepMeter:
  """Metrics read one step late, so that the device never waits for the host.

  Goodput is the share of wall time that went into steps, since the stage began.
  The rest is compilation, validation and saving.
  """

  def __init__(self, started: float):
    """Starts with no step.

    Args:
      started: time.monotonic() when the stage began.
    """
    self._started = started
    self._stepping = 0.0
    self._pending: tuple[int, Any] | None = None
    self._tokens = 0
    self._seconds = 0.0

  def add(self, step: int, metrics: dict, *, tokens: int) -> None:
    """Notes a step that was just dispatched, after waiting for the last one.

    Args:
      step: its number, counted from 1.
      metrics: arrays still on the device.
      tokens: that it read, padding excluded.
    """
    before = time.monotonic()
    self.settle()
    self._seconds += time.monotonic() - before
    self._pending = (step, metrics)
    self._tokens += tokens

  def clock(self, seconds: float) -> None:
    """Adds host time that belongs to stepping (building batches, dispatch)."""
    self._seconds += seconds

  def settle(self) -> dict[str, float]:
    """Waits for the last step and returns its metrics.

    Raises:
      ConfigurationError: its loss, its gradient or the parameters after it are
        not finite.
    """
    if self._pending is None:
      return {}
    step, metrics = self._pending
    values = {k: float(v) for k, v in jax.device_get(metrics).items()}
    self._pending = None
    self._last = values
    # The parameters' norm is that after the step: what would be saved.
    norms = values['grad_norm'] + values['param_norm']
    if not np.isfinite(values['loss'] + norms):
      raise configuration.ConfigurationError(
        f'step {step}: the loss is {values["loss"]}, gradient norm '
        f'{values["grad_norm"]}, parameter norm {values["param_norm"]}. '
        'Lower LEARNING_RATES, raise WARMUP_STEPS or set CLIP_NORM; the last '
        'checkpoint before this step is kept.'
      )
    return values

  def report(self) -> dict[str, float]:
    """The last step's metrics and the rates since the last report."""
    before = time.monotonic()
    self.settle()
    self._seconds += time.monotonic() - before
    self._stepping += self._seconds
    wall = max(time.monotonic() - self._started, 1e-9)
    values = self._last | {
      'tokens_per_second': self._tokens / max(self._seconds, 1e-9),
      'goodput': self._stepping / wall,
    }
    self._tokens = 0
    self._seconds = 0.0
    return values


class _Board:
  """TensorBoard's event file, without TensorFlow.

  TensorBoard's own writer would import TensorFlow. tensorboardX's own upload to
  gs:// runs in its thread, whose death would block the training; so the file is
  written on this machine and uploaded whole at each flush.
  """

  def __init__(self, folder: storage.Path, first_step: int):
    """Opens a new event file.

    Args:
      folder: of the events; on a store they are written here first.
      first_step: scalars of earlier attempts from here on are not shown.
    """
    from tensorboardX import SummaryWriter

    self._remote = folder if storage.is_remote(folder) else None
    self._local = os.fspath(folder)
    if self._remote is not None:
      # Deleted with this object, which lives as long as the training.
      self._temporary = tempfile.TemporaryDirectory(prefix='rest_jax_events_')
      self._local = self._temporary.name
    self._writer = SummaryWriter(
      self._local,
      purge_step=first_step,
      # The name has the second in it: two attempts of one second are two files.
      filename_suffix=f'.{first_step:09}',
      write_to_disk=multihost.is_writer(),
    )

  def add_scalar(self, name: str, value: float, step: int) -> None:
    self._writer.add_scalar(name, value, step)

  def flush(self) -> None:
    """Writes all scalars so far; a store that fails costs a warning only."""
    self._writer.flush()
    if self._remote is None:
      return
    for source in storage.path(self._local).iterdir():
      try:
        storage.write_bytes(self._remote / source.name, source.read_bytes())
      except OSError as error:
        multihost.say(
          f'warning: TensorBoard events are not up to date: {error}'
        )
