"""Metrics of a training: metrics.jsonl, and the trackers that show them."""

import json
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.distributed import multihost
from rest_jax.training import trackers


class MetricsLog:
  """metrics.jsonl in the training's folder, and its trackers, in step order.

  Writing resumes after the restored step: lines of later steps, which a
  killed attempt left behind, are dropped.
  """

  def __init__(
    self,
    folder: storage.PathLike,
    *,
    first_step: int,
    tracker_names: Sequence[str] = (),
  ):
    """Reads the lines of earlier attempts.

    Args:
      folder: of this training.
      first_step: lines from here on are written anew.
      tracker_names: of trackers.open_trackers.
    """
    self.folder = storage.path(folder)
    self._path = self.folder / 'metrics.jsonl'
    self._lines = []
    if self._path.exists():
      for line in self._path.read_text().splitlines():
        if line.endswith('}') and json.loads(line)['step'] < first_step:
          self._lines.append(line)
    self._trackers = trackers.open_trackers(
      tracker_names, self.folder, first_step
    )

  def write(self, step: int, values: dict[str, float]) -> None:
    """Adds one line; it is on disk with the next flush.

    Args:
      step: of the training.
      values: name to value.
    """
    self._lines.append(json.dumps({'step': step, **values}))
    for tracker in self._trackers:
      tracker.write(step, values)

  def flush(self) -> None:
    """Writes all lines so far, in process 0."""
    if not multihost.is_writer():
      return
    storage.write_bytes(
      self._path, ''.join(f'{line}\n' for line in self._lines).encode()
    )
    for tracker in self._trackers:
      tracker.flush()

  def close(self) -> None:
    """Ends the trackers; what was not flushed is not in metrics.jsonl."""
    for tracker in self._trackers:
      tracker.close()


class StepMeter:
  """Metrics read one step late, so that the device never waits for the host."""

  def __init__(self):
    """Starts with no step."""
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

  def is_idle(self) -> bool:
    """Whether the device has done the last step, and waits for the next."""
    if self._pending is None:
      return False
    return all(value.is_ready() for value in self._pending[1].values())

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
    values = self._last | {
      'tokens_per_second': self._tokens / max(self._seconds, 1e-9)
    }
    self._tokens = 0
    self._seconds = 0.0
    return values
