"""Queued resources of Cloud TPU, by the program gcloud.

https://cloud.google.com/tpu/docs/queued-resources
"""

import json
import shlex
import shutil
import subprocess
import tempfile
from typing import NamedTuple

from rest_jax.config import configuration
from rest_jax.executors import topologies
from rest_jax.executors.orders import Order
from rest_jax.executors.tpu_vm import agent
from rest_jax.executors.tpu_vm.reports import Record
from rest_jax.executors.tpu_vm.settings import TpuVmConfig

# While a request stands in these, its VMs are there or may come.
WAITING = ('CREATING', 'ACCEPTED', 'WAITING_FOR_RESOURCES', 'PROVISIONING')
ACTIVE = 'ACTIVE'
TAKEN = ('SUSPENDING', 'SUSPENDED')  # preempted
ENDING = ('DELETING',)
_TRIES = 5  # of a container that ends by itself, before its VMs are given up


class Unreachable(Exception):
  """gcloud failed for a reason that may pass."""


class Request(NamedTuple):
  """A queued resource.

  Attributes:
    name: of it.
    state: in Cloud's words.
    detail: why it failed, in Cloud's words.
  """

  name: str
  state: str
  detail: str


class QueuedResources:
  """Asks gcloud; see the module."""

  def __init__(self, config: TpuVmConfig):
    """Asks nothing yet.

    Args:
      config: where.

    Raises:
      ConfigurationError: gcloud is not installed.
    """
    if shutil.which('gcloud') is None:
      raise configuration.ConfigurationError(
        '--executor=tpu_vm needs gcloud, which is not on PATH: '
        'https://cloud.google.com/sdk/docs/install, then gcloud auth login.'
      )
    self._config = config

  def create(self, name: str, order: Order, script: str) -> None:
    """Asks for the slices of a job; a request of the same name stands.

    Args:
      name: of the request, and of its VMs.
      order: whose job says which slices.
      script: that each host runs when it has started.

    Raises:
      ConfigurationError: Cloud refuses the request, and says why.
      Unreachable: see the class.
    """
    topology = topologies.parse(order.job.topology, 'TOPOLOGY')
    config, slices = self._config, order.job.slices
    nodes = [f'--node-id={name}']
    if slices > 1:
      nodes = [f'--node-count={slices}', f'--node-prefix={name}']
    with tempfile.NamedTemporaryFile('w', suffix='.sh') as file:
      file.write(script)
      file.flush()
      self._gcloud(
        'create',
        name,
        f'--accelerator-type={topology.cloud_type}',
        f'--runtime-version={topology.generation.runtime}',
        *nodes,
        f'--metadata-from-file=startup-script={file.name}',
        f'--valid-until-duration={config.wait_hours * 3600:.0f}s',
        *(['--spot'] if config.spot else []),
        *(['--reserved'] if config.reserved else []),
        *(
          [f'--service-account={config.service_account}']
          if config.service_account
          else []
        ),
        *([f'--network={config.network}'] if config.network else []),
        '--async',
        unless='ALREADY_EXISTS',  # by a call whose answer was lost
      )

  def listed(self, prefix: str) -> dict[str, Request]:
    """The requests whose names begin so, by name.

    Raises:
      Unreachable: see the class.
    """
    found = {}
    for row in json.loads(self._gcloud('list', '--format=json') or '[]'):
      name = row['name'].rpartition('/')[2]
      if name.startswith(prefix):
        state = row.get('state') or {}
        detail = state.get('failedData', {}).get('error', {}).get('message', '')
        found[name] = Request(name, state.get('state', '?'), detail)
    return found

  def delete(self, name: str) -> None:
    """Deletes a request and its VMs; none may be there."""
    self._gcloud(
      *('delete', name, '--force', '--quiet', '--async'), unless='NOT_FOUND'
    )

  def _gcloud(self, verb: str, *arguments: str, unless: str = '') -> str:
    """What gcloud prints; '' where it fails with the word `unless`."""
    config = self._config
    command = [
      *('gcloud', 'compute', 'tpus', 'queued-resources', verb),
      *arguments,
      f'--zone={config.zone}',
      *([f'--project={config.project}'] if config.project else []),
    ]
    try:
      done = subprocess.run(
        command, capture_output=True, text=True, timeout=120
      )
    except subprocess.TimeoutExpired as error:
      raise Unreachable(f'gcloud {verb} takes more than 120 s') from error
    if done.returncode == 0:
      return done.stdout
    said = done.stderr.strip()
    if unless and unless in said:
      return ''
    passing = ('UNAVAILABLE', 'DEADLINE_EXCEEDED', 'Connection', 'timed out')
    if any(word in said for word in passing):
      raise Unreachable(said[-500:])
    raise configuration.ConfigurationError(
      f'{shlex.join(command)}\nfails: {said[-1000:]}'
    )


def startup_script(
  name: str, record: Record, order: Order, config: TpuVmConfig
) -> str:
  """What each host runs when it has started, or started again; as root.

  It keeps the agent going, which waits for further attempts itself, and in the
  end gives the VMs back where no launcher does.

  Args:
    name: of the request.
    record: of the request.
    order: the first attempt; later ones have the same arguments.
    config: of the VMs.
  """
  variables = {**order.defaults, **order.environment}
  arguments = [f'--env={key}={value}' for key, value in variables.items()]
  folder = shlex.quote(str(record.folder))
  stage = [
    *('python3', '-m', 'rest_jax.executors.tpu_vm.agent'),
    f'--record={record.folder}',
  ]
  where = [f'--zone={config.zone}']
  where += [f'--project={config.project}'] if config.project else []
  registry = config.image.partition('/')[0]
  metadata = 'http://metadata.google.internal/computeMetadata/v1/instance'
  return f"""#!/bin/bash
# rest_jax: {order.name}
host=$(curl -s -H 'Metadata-Flavor: Google' \\
  {metadata}/attributes/agent-worker-number)
worker=$(hostname)-$host
# Tells the launcher that this host runs nothing more. It deletes the VMs then,
# unless it has died.
give_up() {{
  echo "{{\\"attempt\\": null, \\"exit_code\\": $1, \\"why\\": \\"$2\\"}}" |
    gcloud storage cp - {folder}/"$worker".json
  sleep {agent.KEEP_SECONDS:.0f}
}}
run() {{
  for try in {{1..{_TRIES}}}; do
    docker run --rm --net=host --privileged --user=root \\
      {shlex.join(arguments)} \\
      {shlex.quote(config.image)} {shlex.join(stage)} \\
      --worker="$worker" -- {shlex.join(order.arguments)} && return
    sleep 10
  done
  give_up 1 'its container ends again and again'
}}
gcloud auth configure-docker {shlex.quote(registry)} --quiet
if docker pull {shlex.quote(config.image)}; then
  run
else
  give_up 2 'the image cannot be pulled'
fi
gcloud compute tpus queued-resources delete {name} {shlex.join(where)} \\
  --force --quiet --async
"""
