"""What a launcher that has died has left on a cluster, or on TPU VMs.

`rest-jax status` shows it, `rest-jax stop` ends it; both from any machine that
sees RUN_DIR and may ask the cluster or Google Cloud.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from rest_jax.executors import orders
from rest_jax.executors.launch_record import LaunchRecord

State = Literal['running', 'waiting', 'ending', 'ended']


class Left(NamedTuple):
  """An attempt that outlived its launcher.

  Attributes:
    name: of the object on the cluster, or of the queued resource.
    job: the name of the job that it is of.
    state: what became of it.
    lasts: whether it stays, and may cost, until somebody ends it.
    end: asks it to save its state and to end.
  """

  name: str
  job: str
  state: State
  lasts: bool
  end: Callable[[], None]


class UnknownError(RuntimeError):
  """The cluster, or Google Cloud, does not answer."""


def find(run_dir: str, launched: LaunchRecord) -> list[Left]:
  """What a launch has left; [] of an executor whose jobs end with it.

  Args:
    run_dir: of the run.
    launched: its last launch.

  Raises:
    ConfigurationError: a program, a package or credentials are missing.
    UnknownError: see the class.
  """
  jobs = {
    orders.numbered(job, worker, launched.workers.get(job, 1)): job
    for job in launched.jobs
    for worker in range(launched.workers.get(job, 1))
  }
  if launched.executor == 'gke':
    return _on_gke(run_dir, launched, jobs)
  if launched.executor == 'tpu_vm':
    return _on_tpu_vms(run_dir, launched, jobs)
  return []


def _on_gke(
  run_dir: str, launched: LaunchRecord, jobs: dict[str, str]
) -> list[Left]:
  from rest_jax.executors.gke import objects
  from rest_jax.executors.gke.cluster import Cluster, Unreachable
  from rest_jax.executors.gke.settings import GkeConfig

  cluster = Cluster(GkeConfig(**launched.settings), run_dir)
  labels = {objects.job_label(name): job for name, job in jobs.items()}
  try:
    seen = cluster.look().values()
  except Unreachable as error:
    raise UnknownError(f'the cluster does not answer: {error}') from error
  found = []
  for one in seen:
    state: State = 'ending' if one.state == 'ending' else 'ended'
    if one.state == 'running':
      state = 'waiting' if one.waits() else 'running'
    found.append(
      Left(
        one.name,
        labels.get(one.job, one.name),
        state,
        lasts=one.state == 'running',
        end=lambda one=one: cluster.delete(one, grace_seconds=None),
      )
    )
  return found


def _on_tpu_vms(
  run_dir: str, launched: LaunchRecord, jobs: dict[str, str]
) -> list[Left]:
  from rest_jax.executors.tpu_vm import queued_resources, reports, tpu_vm
  from rest_jax.executors.tpu_vm.settings import TpuVmConfig

  cloud = queued_resources.QueuedResources(TpuVmConfig(**launched.settings))
  stems = {tpu_vm.stem_of(name, run_dir): job for name, job in jobs.items()}
  try:
    requests = cloud.listed(tpu_vm.prefix_of(run_dir)).values()
  except queued_resources.Unreachable as error:
    raise UnknownError(f'Google Cloud does not answer: {error}') from error
  found = []
  for one in requests:
    stem = next((stem for stem in stems if one.name.startswith(stem)), '')
    state: State = 'ended'
    if one.state in queued_resources.ENDING:
      state = 'ending'
    elif one.state in queued_resources.WAITING:
      state = 'waiting'
    elif one.state == queued_resources.ACTIVE:
      record = reports.record_of(run_dir, one.name)
      codes = reports.codes(record.reports(), record.wanted().attempt)
      state = 'ended' if codes else 'running'
    found.append(
      Left(
        one.name,
        stems.get(stem, one.name),
        state,
        lasts=state != 'ending',  # VMs whose job has ended are paid for
        end=lambda one=one: cloud.delete(one.name),
      )
    )
  return found
