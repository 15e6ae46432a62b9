"""The launcher's record of a job: RUN_DIR/jobs/<name>.json.

A job is skipped if its record has the same configuration, the same inputs, the
same files of the user's (job_files.py) and the same outputs, and these are
complete. Any other job is started, and its stage finds out whether there is
something to do (artifacts/manifests.py). A record that is wrong or lost
therefore costs seconds, never a result. What a changed file leads to is decided
in changes.py, before the first job.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence

from rest_jax import __version__
from rest_jax.artifacts import (
  file_digests,
  manifests,
  storage,
)
from rest_jax.config import gin_names, packaged_gin
from rest_jax.executors import job_files
from rest_jax.executors.jobs import Job

# What a job makes does not depend on these.
_WITHOUT_EFFECT = (
  *('RUN_DIR', 'WORKERS', 'WORKER_INDEX', 'AWAIT_SAMPLES', 'DVAL_GRADING'),
)
FOLDER = 'ledger'  # of RUN_DIR: what is known of more than one job


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
  """The configuration that all jobs of a launch share.

  Attributes:
    bindings: gin_parser.bindings() after the plan was made.
    others: the command line's bindings of parameters (train.train.mesh=…),
      which the launcher passes on and does not resolve.
  """

  bindings: Mapping[str, str]
  others: Sequence[str]

  def digest(self, job: Job, run_dir: str) -> str:
    """A digest of the bindings that this job can depend on.

    Bindings that neither the stage's gin file nor the job's arguments refer to
    are left out, so that NUM_ITERATIONS, TASKS and CHECKPOINTS may grow and no
    finished job starts again. RUN_DIR is left out too: a run can be moved.

    Args:
      job: whose arguments count.
      run_dir: the run's folder.
    """
    told = [
      argument
      for argument in job.arguments
      if argument.removeprefix('--gin.').partition('=')[0]
      not in _WITHOUT_EFFECT
    ]
    text = [_stage_text(job.stage), *told]
    value = [text, sorted(self._reached(job).items())]
    line = json.dumps([__version__, value, list(self.others)]).replace(
      f'{run_dir}/', '$RUN/'
    )
    return hashlib.sha256(line.encode()).hexdigest()[:32]

  def files(self, job: Job, run_dir: str) -> list[job_files.File]:
    """The user's files that this job depends on; see job_files.py."""
    return job_files.of(job, self._reached(job), self.bindings, run_dir)

  def paths(self, job: Job, run_dir: str) -> list[job_files.Named]:
    """The user's paths that this job's configuration names."""
    return job_files.paths(job, self._reached(job), self.bindings, run_dir)

  def _reached(self, job: Job) -> dict[str, str]:
    """The bindings that the stage's gin file and the arguments refer to."""
    text = [_stage_text(job.stage), *job.arguments]
    reached = gin_names.reached(' '.join(text), self.bindings)
    for name in _WITHOUT_EFFECT:
      reached.pop(name, None)
    return reached


class Ledger:
  """The records of a run's jobs.

  Attributes:
    cache: digests of the user's files.
    again: names of jobs that count as not done, whatever is recorded.
  """

  def __init__(self, run_dir: str, configuration: Configuration):
    """Reads nothing yet.

    Args:
      run_dir: the run's folder.
      configuration: of this launch.
    """
    self.run_dir = run_dir
    self.configuration = configuration
    self.cache = file_digests.Cache(f'{run_dir}/{FOLDER}/files.json')
    self.again: set[str] = set()
    self._begun: dict[str, dict[str, str]] = {}

  def is_done(self, job: Job) -> bool:
    """Whether there is nothing to start."""
    record = self.read(job)
    return (
      record is not None
      and job.name not in self.again
      and record.get('exit_code') == 0
      and record.get('digest') == self.digest(job)
      and record.get('inputs') == self._digests(job.inputs)
      and record.get('outputs') == self._digests(job.outputs)
      and None not in record['outputs'].values()
      and self._has_same_files(job, record.get('files'))
    )

  def digest(self, job: Job) -> str:
    """Configuration.digest of a job of this run."""
    return self.configuration.digest(job, self.run_dir)

  def has_same_inputs(self, job: Job) -> bool:
    """Whether the folders that a job reads are those of its record."""
    record = self.read(job) or {}
    return record.get('inputs') == self._digests(job.inputs)

  def files(self, job: Job) -> dict[str, str]:
    """Digests of the user's files that a job depends on and that are there."""
    found = {}
    for file in self.configuration.files(job, self.run_dir):
      digest = file.digest(self.cache)
      if digest is not None:
        found[file.key] = digest
    return found

  def changed(self, job: Job) -> list[job_files.File]:
    """The files that are not what they were when the job used them.

    A file that is not there any more counts as unchanged: a finished run does
    not need it, and a job that does says so.
    """
    recorded = (self.read(job) or {}).get('files')
    if recorded is None:
      recorded = job_files.stated(job)
    return [
      file
      for file in self.configuration.files(job, self.run_dir)
      if file.key in recorded
      and file.digest(self.cache) not in (None, recorded[file.key])
    ]

  def begin(self, job: Job, *, anew: bool = False) -> None:
    """Notes the files that a job is about to use.

    Args:
      job: that is about to start.
      anew: whether what it had made before was set aside; else the record of
        what stands is kept until the job has ended.
    """
    self._begun[job.name] = files = self.files(job)
    old = {} if anew else self.read(job) or {}
    if old.get('exit_code') != 0:
      fields = {'name': job.name, 'stage': job.stage, 'seconds': 0.0}
      unknown = {'exit_code': None, 'files': files}
      storage.write_json(self._path(job), fields | old | unknown)

  def paths(self, job: Job) -> list[job_files.Named]:
    """The user's paths that a job's configuration names."""
    return self.configuration.paths(job, self.run_dir)

  def outputs(self, job: Job) -> dict[str, str | None]:
    """Folder to the digest of its manifest, None where it is not done."""
    return self._digests(job.outputs)

  def read(self, job: Job) -> dict | None:
    """A job's record, or None where there is none that can be read."""
    source = self._path(job)
    if not source.exists():
      return None
    try:
      value = json.loads(source.read_text())
    except json.JSONDecodeError:
      return None
    return value if isinstance(value, dict) else None

  def write(
    self, job: Job, *, before: Mapping, seconds: float, exit_code: int
  ) -> None:
    """Records an attempt.

    Args:
      job: what ran.
      before: its outputs before the attempt. Where it changed nothing, the
        seconds of the work itself stay; where an earlier attempt was cut
        short, its seconds are added.
      seconds: of this attempt.
      exit_code: of this attempt.
    """
    old = self.read(job) or {}
    outputs = self.outputs(job)
    if exit_code != 0 and old.get('exit_code') == 0 and outputs == before:
      return  # refused: what was done before still stands
    changed = outputs != before or not outputs  # some make nothing of their own
    if exit_code == 0 and not changed and 'seconds' in old:
      seconds = old['seconds']
    elif old.get('exit_code', 0) != 0:  # None: it was killed, or runs first
      seconds += old.get('seconds', 0.0)
    storage.write_json(
      self._path(job),
      {
        'name': job.name,
        'stage': job.stage,
        'digest': self.digest(job),
        'inputs': self._digests(job.inputs),
        'files': self._begun.pop(job.name, None) or self.files(job),
        'outputs': outputs,
        'seconds': round(seconds, 3),
        'exit_code': exit_code,
      },
    )

  def _has_same_files(self, job: Job, recorded: Mapping | None) -> bool:
    """Whether the files that are there are those of the record."""
    if recorded is None:  # of an earlier version: the stage finds out
      return False
    now = self.files(job)
    return all(recorded.get(key) == digest for key, digest in now.items())

  def _path(self, job: Job) -> storage.Path:
    return storage.path(self.run_dir) / 'jobs' / f'{job.name}.json'

  def _digests(self, folders: Sequence[str]) -> dict[str, str | None]:
    found = {}
    for folder in folders:
      manifest = manifests.load_if_done(folder)
      key = folder.replace(f'{self.run_dir}/', '$RUN/')
      whole = manifest is not None and manifest.is_whole()
      found[key] = manifest.digest if whole else None
    return found


def _stage_text(stage: str) -> str:
  """The stage's own gin file and what it includes."""
  text, todo = '', [f'stages/{stage}.gin']
  while todo:
    name = packaged_gin.path(todo.pop())
    if os.path.exists(name):
      with open(name) as file:
        found = file.read()
      todo += re.findall(r"^include '([^']+)'", found, re.M)
      text += found
  return text
