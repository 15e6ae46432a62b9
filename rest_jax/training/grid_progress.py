"""How far the trainings of an M-step are, for the person who watches."""

import time
from collections.abc import Mapping

from rest_jax.artifacts import progress_lines
from rest_jax.distributed import multihost


class GridProgress:
  """Tells steps done of all trainings, the loss, and the speed.

  Attributes:
    compiled: whether a training step has run since the training began.
  """

  def __init__(self, steps: int, trainings: int):
    """Tells nothing yet.

    Args:
      steps: of each training, at most.
      trainings: of the grid of learning rates.
    """
    self.compiled = False
    self._steps, self._trainings = steps, trainings
    self._meter = progress_lines.Meter(steps * trainings, multihost.say)
    self._ended = 0  # trainings
    self._done = 0  # steps of the running training
    self._name = self._measured = ''
    self._first: tuple[int, float] | None = None  # step and clock of the rate

  def begin_training(self, learning_rate: float) -> None:
    """A training with this learning rate begins."""
    self.compiled = False
    number = f' ({self._ended + 1} of {self._trainings})'
    self._name = f'learning rate {learning_rate:g}'
    self._name += number if self._trainings > 1 else ''
    self._measured = ''
    self.begin_steps(0)

  def end_training(self) -> None:
    """A training has ended, perhaps before its last step."""
    self._ended += 1
    self._done = 0
    self._tell(self._name, now=True)

  def begin_steps(self, done: int) -> None:
    """Steps go on from this one; the speed is reckoned from here."""
    self._done, self._first = done, None
    self._tell(self._name, now=True)

  def stepped(self, done: int) -> None:
    """So many steps are done."""
    now = time.monotonic()
    self._done, self.compiled = done, True
    first = self._first = self._first or (done, now)
    words = f'{self._name}{self._measured}'
    if done > first[0]:
      words += f', {(done - first[0]) / (now - first[1]):.3g} steps/s'
    self._tell(words)

  def measured(self, values: Mapping[str, float]) -> None:
    """Takes the metrics of the last steps."""
    self._measured = (
      f', loss {values["token_loss"]:.4f}, '
      f'{values["tokens_per_second"]:,.0f} tokens/s'
    )

  def tell(self, words: str) -> None:
    """Tells what is done between two steps, such as the validation."""
    self._tell(words, now='compiling' in words or 'grading' in words)

  def phase(self, words: str) -> None:
    """Tells what is done before the steps go on."""
    self._meter.phase(words)

  def _tell(self, words: str, *, now: bool = False) -> None:
    self._meter.at(self._ended * self._steps + self._done, words, now=now)
