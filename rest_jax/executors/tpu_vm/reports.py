"""What a launcher and the hosts of a job's TPU VMs tell each other.

In RUN_DIR/ledger/tpu_vm/REQUEST/, REQUEST being the queued resource:

    wanted.json     of the launcher: which attempt runs, or has to end
    HOST.json       of each host: its latest attempt and how that ended
    HOST.N.log      of each host: the output of attempt N so far

The attempts on the same VMs count from 0. The next one is asked for once all
hosts have said that the one before has ended, so that no process of it is left.
"""

import concurrent.futures
import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Literal

from rest_jax.artifacts import storage
from rest_jax.executors import exit_codes
from rest_jax.executors.ledger import FOLDER

# A host writes its report again as often as this, as a sign of life.
BEAT_SECONDS = 60.0
_WANTED = 'wanted.json'
_READS_AT_ONCE = 16  # requests of a store; v5e-256 has 64 hosts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
  """What the launcher wants of the hosts.

  Attributes:
    attempt: that runs.
    end: 'stop': the attempt saves its state and ends; 'kill': it ends at once.
  """

  attempt: int = 0
  end: Literal['', 'stop', 'kill'] = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What a host says of itself.

  Attributes:
    attempt: its latest; None: it can run none any more.
    exit_code: of that attempt; None: it runs.
    why: how that came, where the exit code does not say it.
    at: when it was written, by the host's clock; only its change counts.
  """

  attempt: int | None
  exit_code: int | None = None
  why: str = ''
  at: float = 0.0


class Record:
  """The folder of one queued resource; it need not be there yet."""

  def __init__(self, folder: storage.PathLike):
    self.folder = storage.path(folder)

  def wanted(self) -> Wanted:
    """What the launcher wants; at first, attempt 0."""
    file = self.folder / _WANTED
    if not file.exists():
      return Wanted()
    return Wanted(**json.loads(file.read_text()))

  def want(self, wanted: Wanted) -> None:
    """Of the launcher: says what it wants."""
    storage.write_json(self.folder / _WANTED, dataclasses.asdict(wanted))

  def reports(self) -> dict[str, Report]:
    """What each host has said last, by its name."""
    if not self.folder.exists():
      return {}
    files = [f for f in self.folder.glob('*.json') if f.name != _WANTED]
    with concurrent.futures.ThreadPoolExecutor(_READS_AT_ONCE) as pool:
      found = pool.map(lambda file: json.loads(file.read_text()), files)
    return {
      file.name.removesuffix('.json'): Report(**value)
      for file, value in zip(files, found, strict=True)
    }

  def report(self, host: str) -> Report | None:
    """What one host has said last."""
    file = self.folder / f'{host}.json'
    return Report(**json.loads(file.read_text())) if file.exists() else None

  def tell(self, host: str, report: Report) -> None:
    """Of a host: says how it is."""
    value = dataclasses.asdict(dataclasses.replace(report, at=time.time()))
    storage.write_json(self.folder / f'{host}.json', value)

  def log(self, host: str, attempt: int) -> storage.Path:
    """The file of a host's output."""
    return self.folder / f'{host}.{attempt}.log'

  def first_log(self, attempt: int) -> storage.Path | None:
    """The output of the first of the hosts that have any."""
    if not self.folder.exists():
      return None
    logs = sorted(self.folder.glob(f'*.{attempt}.log'))
    return logs[0] if logs else None


def record_of(run_dir: str, request: str) -> Record:
  """The record of a queued resource.

  Args:
    run_dir: of the run.
    request: its name.
  """
  return Record(storage.path(run_dir) / FOLDER / 'tpu_vm' / request)


def codes(reports: dict[str, Report], attempt: int) -> list[int]:
  """The exit codes of the hosts on which an attempt has ended.

  Args:
    reports: of the hosts.
    attempt: its number. A host that can run none has ended all.
  """
  return [
    report.exit_code
    for _, report in sorted(reports.items())
    if report.exit_code is not None and report.attempt in (attempt, None)
  ]


def worst(codes: Sequence[int]) -> int:
  """Of a program: what must not be tried again comes first."""
  for code in (exit_codes.CONFIGURATION, exit_codes.HELD):
    if code in codes:
      return code
  failed = [code for code in codes if code]
  # One that was killed takes the others with it, with codes of their own.
  return failed[0] if failed else exit_codes.DONE
