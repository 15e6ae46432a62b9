"""A training's wait for verdicts that the stage grade_dval makes.

Process 0 alone looks, and tells the others after each look, so that none of
them waits for it longer than that takes.
"""

import shlex
import time
from collections.abc import Callable, Sequence

import pyarrow as pa

from rest_jax.artifacts import progress_lines, storage
from rest_jax.config import configuration
from rest_jax.distributed import multihost
from rest_jax.rewards import dval_grading, dval_requests

_POLL_SECONDS = 1.0  # between two looks
# Without a sign of life of the stage grade_dval: it is said, and said again,
# and in the end the training stops. A pod may wait for a node for minutes; a
# slice of TPUs that waits for one costs more.
SILENT_SECONDS = 300.0
PATIENCE_SECONDS = 3600.0


class NoGraderError(configuration.ConfigurationError):
  """D_val's samples wait for verdicts, and nobody grades them."""


class Waiting:
  """Waits for the verdicts on one validation after the other."""

  def __init__(
    self,
    checkpoints_dir: storage.PathLike,
    dval_dirs: Sequence[str],
    tell: Callable[[str], None],
  ):
    """Args:
    checkpoints_dir: of the training.
    dval_dirs: folders of D_val problems.
    tell: is called with words about the wait.
    """
    self._place = dval_requests.Place(checkpoints_dir)
    self._tell = tell
    self._command = shlex.join(
      [
        'rest-jax',
        'grade_dval',
        f'--gin.CHECKPOINTS_DIR={checkpoints_dir}',
        f'--gin.DVAL_DIRS={list(dval_dirs)}',
      ]
    )

  def begin(self) -> None:
    """Withdraws what was asked for before the samples change. By process 0."""
    self._place.withdraw()

  def wait(
    self, validation: dval_grading.Validation | None
  ) -> list[pa.Table] | None:
    """The verdicts on a validation, by part, once all are there. Collective.

    Args:
      validation: whose samples are written; None in all processes but 0.

    Returns:
      None in all processes but 0.

    Raises:
      Preempted: SIGTERM has come to any process.
      NoGraderError: the stage gave no sign of life for PATIENCE_SECONDS.
      ConfigurationError: the stage has ended with an error that stays.
    """
    look = _Look(self._place, validation, self._command)
    while words := multihost.from_writer(look):
      self._tell(words)
      multihost.check_preemption('train: validation')
    return look.found


class _Look:
  """A look of process 0 at the verdicts, and at who makes them.

  Attributes:
    found: the verdicts, once all are there.
  """

  def __init__(
    self,
    place: dval_requests.Place,
    validation: dval_grading.Validation | None,
    command: str,
  ):
    self._place, self._validation = place, validation
    self._command = command
    self.found: list[pa.Table] | None = None
    self._is_asked = False
    self._first: dval_requests.Sign | None = None  # perhaps of one long gone
    self._sign: dval_requests.Sign | None = None
    self._since = self._said = time.monotonic()

  def __call__(self) -> str:
    """What to tell while verdicts are missing; '' when all are there."""
    self.found = dval_grading.standing(self._validation)
    if self.found is not None:
      self._place.withdraw()
      return ''
    if not self._is_asked:
      self._first = self._sign = self._place.sign()
      self._place.ask(self._validation.folder, self._validation.rows)
      self._is_asked = True
    else:
      time.sleep(_POLL_SECONDS)
      self._listen()
    samples = sum(row['rows'] for row in self._validation.rows)
    does = ''
    if self._sign is not None and self._sign != self._first:
      does = f' ({self._sign.does} on {self._sign.holder.get("host", "?")})'
    return f'D_val: {samples} samples wait for verdicts{does}'

  def _listen(self) -> None:
    """Takes a sign of life; says, and at last raises, where there is none."""
    sign, now = self._place.sign(), time.monotonic()
    if sign is not None and sign != self._sign:
      self._sign, self._since, self._said = sign, now, now
      if sign.failed:
        raise configuration.ConfigurationError(
          f'train: D_val: the stage grade_dval {sign.does}'
        )
      return
    if now - self._since > PATIENCE_SECONDS:
      raise NoGraderError(self._missing(now - self._since))
    if now - self._said > SILENT_SECONDS:
      self._said = now
      print(
        progress_lines.warning(self._missing(now - self._since)), flush=True
      )

  def _missing(self, seconds: float) -> str:
    last = 'It was never there'
    if self._sign is not None:
      last = (
        f'The last was of process {self._sign.holder.get("pid", "?")} on host '
        f'{self._sign.holder.get("host", "?")}, which {self._sign.does}'
      )
    return (
      f'train: D_val: the samples in {self._validation.folder} wait for '
      f'verdicts, and the stage grade_dval gave no sign of life for '
      f'{seconds:.0f} s. '
      f'{last}. The launcher starts it with the training; by hand, on a '
      f'machine that may run the programs: {self._command} — or grade on this '
      'host: the command of the training with --gin.DVAL_GRADING=here.'
    )
