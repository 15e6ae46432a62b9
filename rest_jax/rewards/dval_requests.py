"""Where a training and the stage that grades beside it meet: three files.

    validation/asked.json    whose verdicts the training waits for now
    validation/grader.json   the sign of life of the stage grade_dval
    .validation.lease        one such stage at a time

Each is written by one side and read by the other. Samples and verdicts lie
below the same folder (dval_grading.py).
"""

import contextlib
import dataclasses
import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from rest_jax.artifacts import holders, records, storage
from rest_jax.config import configuration

FOLDER = 'validation'  # beside that of the checkpoints
SIGN_SECONDS = 5.0  # between two signs of life
_FINAL = (configuration.ConfigurationError, records.CorruptPartError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """A validation whose verdicts are waited for.

  Attributes:
    folder: of the validation, below the one in which all of them lie.
    parts: of its samples, as records.write_table described them.
    token: differs between any two requests.
  """

  folder: str
  parts: Sequence[dict[str, Any]]
  token: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sign:
  """The last that was heard of the stage that grades.

  Attributes:
    holder: the process, as holders.record describes it.
    does: what it was doing, in words.
    failed: whether it has ended with an error that stays until it is mended.
    token: differs between any two signs.
  """

  holder: dict[str, Any]
  does: str
  failed: bool
  token: str


class Place:
  """The folder in which the two meet.

  Attributes:
    folder: of all validations of a training job.
  """

  def __init__(self, checkpoints_dir: storage.PathLike):
    """Reads nothing.

    Args:
      checkpoints_dir: of the training job.
    """
    self.folder = storage.path(checkpoints_dir).parent / FOLDER
    self._asked = self.folder / 'asked.json'
    self._sign = self.folder / 'grader.json'

  def ask(self, folder: storage.Path, parts: Sequence[dict[str, Any]]) -> None:
    """Asks for the verdicts on a validation whose samples are written."""
    name = str(folder.relative_to(self.folder))
    asked = Asked(folder=name, parts=parts, token=uuid.uuid4().hex)
    storage.write_json(self._asked, dataclasses.asdict(asked))

  def asked(self) -> Asked | None:
    """What is asked for now."""
    value = _read(self._asked)
    return value and Asked(**value)

  def withdraw(self) -> None:
    """From now on nothing is asked for."""
    self._asked.unlink(missing_ok=True)

  def sign(self) -> Sign | None:
    """The last sign of life; None: there is none."""
    value = _read(self._sign)
    return value and Sign(**value)

  @contextlib.contextmanager
  def signing(self) -> Iterator['Signs']:
    """Gives signs of life while the block runs, and says how it ends."""
    signs = Signs(self._sign)
    try:
      yield signs
    except BaseException as error:
      final = isinstance(error, _FINAL)
      signs.end(str(error) or type(error).__name__, failed=final)
      raise
    signs.end()


class Signs:
  """The signs of life of this process, given by a thread.

  Attributes:
    does: what the process is doing, in words.
  """

  def __init__(self, path: storage.Path):
    self.does = 'waits for samples'
    self._path, self._holder = path, holders.record('grade_dval')
    self._stop = threading.Event()
    self._give()
    self._thread = threading.Thread(target=self._go_on, daemon=True)
    self._thread.start()

  def end(self, why: str = '', *, failed: bool = False) -> None:
    """Gives no more signs.

    Args:
      why: what ends the process; '': it has nothing more to do.
      failed: as of Sign.
    """
    self._stop.set()
    self._thread.join()
    with contextlib.suppress(OSError):  # a store that fails just then
      if why:
        self._give(f'has ended: {why}', failed)
      else:
        self._path.unlink(missing_ok=True)

  def _go_on(self) -> None:
    while not self._stop.wait(SIGN_SECONDS):
      with contextlib.suppress(OSError):  # the next one may reach the store
        self._give()

  def _give(self, does: str = '', failed: bool = False) -> None:
    sign = Sign(
      holder=self._holder,
      does=does or self.does,
      failed=failed,
      token=uuid.uuid4().hex,
    )
    storage.write_json(self._path, dataclasses.asdict(sign))


def _read(path: storage.Path) -> dict[str, Any] | None:
  """A JSON object; None where there is none."""
  try:
    value = json.loads(path.read_text())
  except (FileNotFoundError, json.JSONDecodeError):
    return None
  return value if isinstance(value, dict) else None
