"""Resumable checkpoints of one training, by Orbax, saved in the background.

    FOLDER/<step>/{params,optimizer,progress}

Two steps are kept: the newest, to resume from, and the best by D_val. Others
are deleted once a newer save is complete. A training that has ended saves no
optimiser's state: nothing goes on from there.

On a CPU a save is not in the background: the same cores would write it, and
while it reads the state a step cannot reuse the state's memory.
"""

import contextlib
import ctypes
import json

import jax
import numpy as np
import orbax.checkpoint as ocp

from rest_jax.artifacts import storage
from rest_jax.models.checkpoints.trained import PARAMS
from rest_jax.training.train_step import TrainState

OPTIMIZER, PROGRESS = 'optimizer', 'progress'
_COPIED_GB = 0.25  # on a CPU: of the state, while it is written


def in_background() -> bool:
  """Whether a save goes on while the next steps are done."""
  return jax.default_backend() != 'cpu'


class Saver:
  """Saves and restores one training's state and progress."""

  def __init__(self, folder: storage.PathLike, largest_bytes: int = 0):
    """Opens the folder.

    Args:
      folder: of this training; made if missing.
      largest_bytes: of one array of the state; it matters on a CPU, and only
        where it is above a quarter of a GB.
    """
    self._folder = storage.path(folder)
    self._best: int | None = None  # of the newest save; unknown at first
    self._folder.mkdir(parents=True, exist_ok=True)
    self._in_background = in_background()
    limits = {}
    if not self._in_background:
      # Copies of all arrays at once would be as large as the state. Orbax
      # refuses an array that is not smaller than the limit.
      limits['save_concurrent_gb'] = max(_COPIED_GB, 1.1e-9 * largest_bytes)
    arrays = ocp.StandardCheckpointHandler
    self._manager = ocp.CheckpointManager(
      storage.absolute(folder),
      options=ocp.CheckpointManagerOptions(
        create=True,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=self._in_background,
      ),
      item_handlers={
        PARAMS: arrays(**limits),
        OPTIMIZER: arrays(**limits),
        PROGRESS: ocp.JsonCheckpointHandler(),
      },
    )

  def save(
    self, state: TrainState, progress: dict, *, best: int, is_last: bool = False
  ) -> None:
    """Starts a save in the background, after the one before has ended.

    Collective: every process must call it.

    Args:
      state: what is saved, under its step.
      progress: JSON-ready; what the loop must know to go on.
      best: the step that stays beside the newest.
      is_last: the training has ended; its optimiser's state is left out.

    Raises:
      OSError: the disk is full.
    """
    step = int(state.step)
    self.wait()
    standing = sorted(self._manager.all_steps())
    # The best step of the newest complete save is kept until this one is
    # complete, which the next call knows.
    if self._best is not None:
      for stale in standing[:-1]:
        if stale not in (self._best, best):
          self._manager.delete(stale)
    self._best = best
    if step in standing:
      return
    items = {
      PARAMS: ocp.args.StandardSave(state.params),
      PROGRESS: ocp.args.JsonSave(progress),
    }
    if not is_last:
      items[OPTIMIZER] = ocp.args.StandardSave(state.opt_state)
    with storage.disk_errors(self._folder):
      # Forced: step 0 may be saved behind later ones.
      args = ocp.args.Composite(**items)
      self._manager.save(step, args=args, force=True)
    if not self._in_background:
      _return_freed_memory()

  def progress(self) -> tuple[int, dict] | None:
    """The newest step and its progress, or None where nothing was saved.

    Collective: every process must call it.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    items = ocp.args.Composite(**{PROGRESS: ocp.args.JsonRestore()})
    read = self._manager.restore(step, args=items)
    return step, json.loads(json.dumps(read[PROGRESS]))

  def restore(
    self, step: int, abstract: TrainState, shardings: TrainState
  ) -> TrainState:
    """A state to go on from, which was not its training's last.

    Collective: every process must call it.

    Args:
      step: of a save that is complete.
      abstract: shapes and dtypes of the state.
      shardings: where each of its arrays is put.
    """
    target = jax.tree.map(
      lambda leaf, where: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=where
      ),
      abstract,
      shardings,
    )
    read = self._manager.restore(
      step,
      args=ocp.args.Composite(
        **{
          PARAMS: ocp.args.StandardRestore(target.params),
          OPTIMIZER: ocp.args.StandardRestore(target.opt_state),
        }
      ),
    )
    counter = jax.device_put(np.int32(step), shardings.step)
    return TrainState(counter, read[PARAMS], read[OPTIMIZER])

  def holds(self, step: int) -> bool:
    """Whether a complete save of this step is kept."""
    self.wait()
    return step in self._manager.all_steps()

  def prune(self, keep: int) -> None:
    """Deletes all steps but one, once training is over.

    Args:
      keep: the step that stays.
    """
    self.wait()
    for step in self._manager.all_steps():
      if step != keep:
        self._manager.delete(step)

  def wait(self) -> None:
    """Returns once the last save is complete.

    Raises:
      OSError: the disk is full.
    """
    with storage.disk_errors(self._folder):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for the last save."""
    self.wait()
    self._manager.close()


def _return_freed_memory() -> None:
  """Gives what writing has used back to the system, where glibc would keep it.

  The next step needs as much again: 0.6 GB of SmolLM2's 6.
  """
  with contextlib.suppress(OSError, AttributeError):  # another C library
    ctypes.CDLL('libc.so.6').malloc_trim(0)
