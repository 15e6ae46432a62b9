"""What a launch tells other machines: RUN_DIR/ledger/launch.json.

It holds the plan and what runs it, so that `rest-jax status` and `stop` need no
more than RUN_DIR. A request to stop lies beside it.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import holders, storage
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import FOLDER

_LAUNCH, _STOP = 'launch.json', 'stop.json'
LOOK_SECONDS = 5.0  # between two looks at the request; on gs:// it costs one


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchRecord:
  """A launch.

  Attributes:
    holder: the launcher, as in the lease of RUN_DIR (holders.record).
    executor: its name.
    settings: of the executor: field to value.
    jobs: of the plan: name to the jobs that it needs.
    workers: of each job of several: name to their number.
  """

  holder: dict[str, Any]
  executor: str
  settings: dict[str, Any]
  jobs: dict[str, list[str]]
  workers: dict[str, int] = dataclasses.field(default_factory=dict)


def write(
  run_dir: str, jobs: Sequence[Job], executor: str, settings: Mapping[str, Any]
) -> None:
  """Records the launch that begins, and forgets an earlier request to stop."""
  folder = storage.path(run_dir) / FOLDER
  storage.write_json(
    folder / _LAUNCH,
    dataclasses.asdict(
      LaunchRecord(
        holder=holders.record('launcher'),
        executor=executor,
        settings=dict(settings),
        jobs={job.name: list(job.needs) for job in jobs},
        workers={job.name: job.workers for job in jobs if job.workers > 1},
      )
    ),
  )
  (folder / _STOP).unlink(missing_ok=True)


def read(run_dir: storage.PathLike) -> LaunchRecord | None:
  """The last launch of a run; None: of an earlier version, or none."""
  source = storage.path(run_dir) / FOLDER / _LAUNCH
  if not source.exists():
    return None
  value = storage.read_json(source)
  names = [field.name for field in dataclasses.fields(LaunchRecord)]
  # One of an earlier version says nothing of workers.
  return LaunchRecord(**{name: value[name] for name in names if name in value})


def ask_to_stop(run_dir: storage.PathLike) -> None:
  """Leaves a request that the launcher finds within LOOK_SECONDS or so."""
  target = storage.path(run_dir) / FOLDER / _STOP
  storage.write_json(target, holders.record('rest-jax stop'))


class StopRequests:
  """The launcher's side of `ask_to_stop`."""

  def __init__(self, run_dir: str):
    self._path = storage.path(run_dir) / FOLDER / _STOP
    self._looked = time.monotonic()

  def asked(self) -> bool:
    """Whether there is a request; looks only now and then."""
    now = time.monotonic()
    if now - self._looked < LOOK_SECONDS:
      return False
    self._looked = now
    return self._is_there()

  def _is_there(self) -> bool:
    try:
      return self._path.exists()
    except OSError:
      return False  # a file system that fails for a moment
