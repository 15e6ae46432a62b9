"""Whether this host is one of several of a TPU pod, from what surrounds it.

A program that is started on one host of a pod, and does not join the others,
fails deep inside the TPU runtime. Looked at, in this order:

    TPU_PROCESS_ADDRESSES, TPU_WORKER_HOSTNAMES    GKE: the hosts of the slice
    MEGASCALE_NUM_SLICES, MEGASCALE_COORDINATOR_ADDRESS    several slices
    the metadata server                            a Cloud TPU VM

https://cloud.google.com/kubernetes-engine/docs/how-to/tpus
https://docs.jax.dev/en/latest/multi_process.html
"""

import dataclasses
import glob
import importlib.util
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from rest_jax.config import configuration

CHIPS = ('/dev/accel[0-9]*', '/dev/vfio/[0-9]*')  # of this host; one kind
_METADATA_SECONDS = 3.0
_ATTRIBUTES = '/computeMetadata/v1/instance/attributes/'


@dataclasses.dataclass(frozen=True)
class Pod:
  """A TPU slice of several hosts, or several slices.

  Attributes:
    hosts: names of the hosts of this host's slice; empty where unknown.
    slices: how many slices work together.
    source: what said so, for messages.
  """

  hosts: tuple[str, ...]
  slices: int
  source: str


def find(
  environment: Mapping[str, str],
  metadata: Callable[[str], str | None] | None = None,
) -> Pod | None:
  """The pod that this host belongs to, or None where it works alone.

  Args:
    environment: os.environ, or a test's own.
    metadata: reads an attribute of the machine; None: from the metadata server
      if a TPU and libtpu are here.

  Raises:
    ConfigurationError: MEGASCALE_NUM_SLICES is no number.
  """
  platforms = environment.get('JAX_PLATFORMS', '')
  if platforms and 'tpu' not in platforms:
    return None  # this process uses no TPU
  for name in ('TPU_PROCESS_ADDRESSES', 'TPU_WORKER_HOSTNAMES'):
    if name in environment:
      hosts = tuple(filter(None, environment[name].split(',')))
      source = f'{name}={environment[name]}'
      break
  else:
    hosts, source = (), ''
  slices = environment.get('MEGASCALE_NUM_SLICES', '')
  told_slices = _slices(slices, 'MEGASCALE_NUM_SLICES')
  if told_slices > 1 or environment.get('MEGASCALE_COORDINATOR_ADDRESS'):
    source = source or f'MEGASCALE_NUM_SLICES={slices or "(not set)"}'
    return Pod(hosts, told_slices, source)
  if hosts:
    return Pod(hosts, 1, source) if len(hosts) > 1 else None
  if metadata is None:
    if environment.get('TPU_SKIP_MDS_QUERY') or not _has_tpu():
      return None
    metadata = _metadata
  endpoints = metadata('worker-network-endpoints') or ''
  hosts = tuple(part.split(':')[-1] for part in endpoints.split(',') if part)
  slices = _tpu_env(metadata('tpu-env') or '', 'MEGASCALE_NUM_SLICES')
  told_slices = _slices(slices, "the metadata server's MEGASCALE_NUM_SLICES")
  if len(hosts) > 1 or told_slices > 1:
    return Pod(hosts, told_slices, 'the metadata server')
  return None


def _slices(text: str, where: str) -> int:
  try:
    return int(text or 1)
  except ValueError:
    raise configuration.ConfigurationError(
      f'{where}: got {text!r}; allowed: the number of slices.'
    ) from None


def _tpu_env(text: str, name: str) -> str:
  """A value of the attribute tpu-env, whose lines are NAME: 'value'."""
  for line in text.splitlines():
    key, _, value = line.partition(':')
    if key.strip() == name:
      return value.strip().strip('\'"')
  return ''


def _has_tpu() -> bool:
  return (
    any(map(glob.glob, CHIPS))
    and importlib.util.find_spec('libtpu') is not None
  )


def _metadata(attribute: str) -> str | None:
  """An attribute of this machine, or None where there is no such server."""
  server = os.environ.get('GCE_METADATA_IP', 'metadata.google.internal')
  request = urllib.request.Request(
    f'http://{server}{_ATTRIBUTES}{attribute}',
    headers={'Metadata-Flavor': 'Google'},
  )
  try:
    with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as answer:
      return answer.read().decode()
  except (OSError, urllib.error.URLError):
    return None
