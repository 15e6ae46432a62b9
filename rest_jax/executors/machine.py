"""What the accelerator jobs of a run will find: devices and their memory.

Looked up without jax, which would take the devices from the jobs.
"""

import dataclasses
import glob
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Literal

from rest_jax.config import configuration
from rest_jax.distributed import pods
from rest_jax.executors import topologies
from rest_jax.executors.jobs import Resources

_CGROUP = pathlib.Path('/sys/fs/cgroup/memory.max')
_MEMORY = pathlib.Path('/proc/meminfo')
_SIMULATED = re.compile(r'--xla_force_host_platform_device_count=(\d+)')
_TPU_DEVICES = pods.CHIPS
_KINDS = Literal['cpu', 'gpu', 'tpu']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
  """What sampling and training run on.

  Attributes:
    kind: of the devices.
    devices: how many, over all hosts.
    device_bytes: memory of one device; of a CPU, what is free now.
    name: for a person, such as 'CPU, 2 cores' or 'v5e:4x4'.
    topology: of TPUs: one of their slices; None: no TPUs.
  """

  kind: _KINDS
  devices: int
  device_bytes: int
  name: str
  topology: topologies.Topology | None = None

  def __post_init__(self):
    assert (self.kind == 'tpu') == (self.topology is not None), self

  def shared(self, workers: int) -> 'Machine':
    """What one of several workers of this machine has, see device_shares.py."""
    if self.kind != 'gpu' or workers == 1:
      return self  # of TPUs SAMPLE_TOPOLOGY says it, and CPUs are not divided
    number = max(1, self.devices // workers)
    name = f'{number} of {self.name}'
    return dataclasses.replace(self, devices=number, name=name)

  def __str__(self) -> str:
    size = f'{self.device_bytes / 2**30:.1f} GiB'
    return f'{self.name}, {size}{" each" if self.devices > 1 else ""}'


def of_slices(slice_: topologies.Topology, number: int = 1) -> Machine:
  """The chips of some TPU slices of one kind."""
  return Machine(
    kind='tpu',
    devices=slice_.chips * number,
    device_bytes=slice_.generation.hbm_bytes,
    name=f'{number} x {slice_}' if number > 1 else f'{slice_}',
    topology=slice_,
  )


def find(
  resources: Resources, environment: Mapping[str, str] = os.environ
) -> Machine:
  """The devices of a run's accelerator jobs.

  Args:
    resources: of the run; a topology that it names is taken at its word.
    environment: JAX_PLATFORMS=cpu there rules accelerators out.

  Raises:
    ConfigurationError: a TPU is here and nothing says which.
  """
  if resources.topology:
    named = topologies.parse(resources.topology, 'TOPOLOGY')
    return of_slices(named, resources.slices)
  if environment.get('JAX_PLATFORMS', '').startswith('cpu'):
    return _cpu(environment)
  if _tpu_chips():
    accelerator = environment.get('TPU_ACCELERATOR_TYPE')
    if not accelerator:
      raise configuration.ConfigurationError(
        'TOPOLOGY: a TPU is here, and sizes that are derived need to know '
        'which: --gin.TOPOLOGY=v5e:2x4 (or its type, such as v5litepod-8).'
      )
    return find(dataclasses.replace(resources, topology=accelerator))
  return _gpus() or _cpu(environment)


def visible(
  environment: Mapping[str, str] = os.environ,
) -> tuple[_KINDS, list[str]]:
  """The accelerators that a process of this machine sees, by their names there.

  Args:
    environment: of the process.

  Returns:
    (their kind, their numbers as text); ('cpu', []) where there is none.
  """
  if environment.get('JAX_PLATFORMS', '').startswith('cpu'):
    return 'cpu', []
  if chips := _tpu_chips():
    named = environment.get('TPU_VISIBLE_CHIPS')
    return 'tpu', named.split(',') if named else list(map(str, range(chips)))
  if found := _gpus():
    named = environment.get('CUDA_VISIBLE_DEVICES')
    every = list(map(str, range(found.devices)))
    return 'gpu', every if named is None else [n for n in named.split(',') if n]
  return 'cpu', []


def _tpu_chips() -> int:
  return max((len(glob.glob(files)) for files in _TPU_DEVICES), default=0)


def _cpu(environment: Mapping[str, str]) -> Machine:
  cores = len(os.sched_getaffinity(0))
  simulated = _SIMULATED.search(environment.get('XLA_FLAGS', ''))
  devices = int(simulated[1]) if simulated else 1
  return Machine(
    kind='cpu',
    devices=devices,
    device_bytes=_free_bytes() // devices,
    name=f'CPU, {cores} core{"s" if cores > 1 else ""}',
  )


def _free_bytes() -> int:
  """Memory that a process can take now, within the limit of its container."""
  free = 4 << 30  # where nothing says
  if _MEMORY.exists():
    for line in _MEMORY.read_text().splitlines():
      if line.startswith('MemAvailable:'):
        free = int(line.split()[1]) * 1024
  if _CGROUP.exists() and (limit := _CGROUP.read_text().strip()).isdigit():
    free = min(free, int(limit))
  return free


def _gpus() -> Machine | None:
  """The GPUs that the driver lists; None without one."""
  program = shutil.which('nvidia-smi')
  if program is None:
    return None
  listed = subprocess.run(
    [program, '--query-gpu=name,memory.total', '--format=csv,noheader,nounits'],
    capture_output=True,
    text=True,
  )
  rows = [line.rpartition(',') for line in listed.stdout.splitlines()]
  rows = [(name, total) for name, _, total in rows if total.strip().isdigit()]
  if listed.returncode != 0 or not rows:
    return None
  return Machine(
    kind='gpu',
    devices=len(rows),
    # jax takes three quarters of it at the start, by default.
    device_bytes=min(int(total) for _, total in rows) * 2**20 * 3 // 4,
    name=f'{len(rows)} x {rows[0][0]}',
  )
