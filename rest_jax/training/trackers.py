"""Where the scalars of a training are shown: TensorBoard, Weights & Biases.

metrics.jsonl (metric_writer.py) is the record; a tracker that fails costs a
warning and never a training. The dial TRACKERS names those that are wanted.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rest_jax.artifacts import storage
from rest_jax.distributed import multihost

PROJECT = 'rest_jax'  # of Weights & Biases, unless WANDB_PROJECT names another


class Tracker(Protocol):
  """A place that shows scalars."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the values of one step."""

  def flush(self) -> None:
    """Makes all values so far visible."""

  def close(self) -> None:
    """Flushes for the last time."""


def open_trackers(
  names: Sequence[str], folder: storage.Path, first_step: int
) -> list[Tracker]:
  """Opens trackers for one training; none in processes that do not write.

  Args:
    names: 'tensorboard' or 'wandb'.
    folder: of the training, RUN_DIR/<model>/checkpoints/lr_<rate>.
    first_step: values of earlier attempts from here on are written anew.
  """
  if not multihost.is_writer():
    return []
  kinds = {'tensorboard': TensorBoard, 'wandb': WeightsAndBiases}
  return [kinds[name](folder, first_step) for name in dict.fromkeys(names)]


class TensorBoard:
  """TensorBoard's event file, <folder>/tensorboard, without TensorFlow.

  TensorBoard's own writer would import TensorFlow. tensorboardX's SummaryWriter
  hands events to a thread: its flush leaves those that the thread has not taken
  yet, and the death of the thread, at an upload to gs:// say, would block the
  training. So its writer of files is used, on this machine, and the file is
  uploaded whole at each flush.
  """

  def __init__(self, folder: storage.Path, first_step: int):
    """Opens a new event file; see `open_trackers`."""
    from tensorboardX import event_file_writer
    from tensorboardX.proto import event_pb2

    folder = folder / 'tensorboard'
    self._remote = folder if storage.is_remote(folder) else None
    self._local = os.fspath(folder)
    if self._remote is not None:
      # Deleted with this object, which lives as long as the training.
      self._temporary = tempfile.TemporaryDirectory(prefix='rest_jax_events_')
      self._local = self._temporary.name
    os.makedirs(self._local, exist_ok=True)
    self._event = event_pb2.Event
    self._writer = event_file_writer.EventsWriter(
      os.path.join(self._local, 'events'),
      # The name has the second in it: two attempts of one second are two files.
      f'.{first_step:09}',
    )
    # TensorBoard then shows nothing of earlier files from this step on.
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(first_step, session_log=start)

  def _add(self, step: int, **content: Any) -> None:
    event = self._event(wall_time=time.time(), step=step, **content)
    self._writer.write_event(event)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the values of one step."""
    from tensorboardX import summary

    for name, value in values.items():
      self._add(step, summary=summary.scalar(name, value))

  def flush(self) -> None:
    """Writes all scalars so far."""
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

  def close(self) -> None:
    """Flushes for the last time."""
    self.flush()
    self._writer.close()


class WeightsAndBiases:
  """A run of Weights & Biases for each training.

  Its project is WANDB_PROJECT or `rest_jax`, its group the run, its name such
  as `iteration_01/lr_0.001`. A restarted training goes on in the same run.
  wandb reads the user's account, and WANDB_MODE=offline keeps the values in the
  training's folder (`wandb sync` sends them later).
  """

  def __init__(self, folder: storage.Path, first_step: int):
    """Opens the run; see `open_trackers`."""
    del first_step  # wandb keeps one value per step: the last that is logged
    self._run = None
    run_dir, model = folder.parent.parent.parent, folder.parent.parent.name
    local = None
    if not storage.is_remote(folder):
      folder.mkdir(parents=True, exist_ok=True)
      local = os.fspath(folder)
    try:
      import wandb

      self._run = wandb.init(
        project=os.environ.get('WANDB_PROJECT', PROJECT),
        group=run_dir.name,
        name=f'{model}/{folder.name}',
        id=hashlib.sha256(str(folder).encode()).hexdigest()[:16],
        resume='allow',
        reinit='create_new',
        dir=local,
      )
      # `step` is a value of its own: wandb's own counter cannot go back to the
      # step from which a restarted training goes on.
      self._run.define_metric('*', step_metric='step')
    except Exception as error:  # no account, no network: many kinds
      self._give_up(error)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the values of one step."""
    if self._run is not None:
      try:
        self._run.log({'step': step, **values})
      except Exception as error:
        self._give_up(error)

  def flush(self) -> None:
    """Nothing to do: wandb sends values as they come."""

  def close(self) -> None:
    """Ends the run of Weights & Biases."""
    if self._run is not None:
      try:
        self._run.finish()
      except Exception as error:
        self._give_up(error)

  def _give_up(self, error: Exception) -> None:
    self._run = None
    reason = ' '.join(str(error).split()).rstrip('.') or repr(error)
    multihost.say(
      f'warning: Weights & Biases shows nothing from here on: {reason}. '
      'Run `wandb login`, or set WANDB_MODE=offline.'
    )
