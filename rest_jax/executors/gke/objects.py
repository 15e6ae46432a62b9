"""The Kubernetes objects of a job: a JobSet on TPUs, a plain Job on CPUs.

A program on TPUs is one JobSet: a Job for each slice, a pod for each host. All
its pods are started anew together: one alone would wait in vain for the others.

Exit codes (exit_codes.py): after 42 (preempted, state saved) and from 128 on
(killed, evicted) the cluster itself starts the job again, up to
MAX_PREEMPTIONS times, also while no launcher is there. Any other code ends the
job, and the scheduler decides.

https://jobset.sigs.k8s.io, https://cloud.google.com/kubernetes-engine/docs
"""

import hashlib
import re
from typing import Any

from rest_jax.artifacts import holders
from rest_jax.config import configuration
from rest_jax.executors import exit_codes, topologies
from rest_jax.executors.gke.settings import FUSE_FOLDER, GkeConfig
from rest_jax.executors.orders import Order

PREFIX = 'rest-jax.io'
RUN, JOB = f'{PREFIX}/run', f'{PREFIX}/job'  # labels: digests
NAME, DIGEST = f'{PREFIX}/name', f'{PREFIX}/digest'  # annotations
CONTAINER = 'rest-jax'
COMMAND = ('python3', '-m', 'rest_jax.main')
JOBSET_API = 'jobset.x-k8s.io/v1alpha2'
_REPLICATED = 'slice'
# After these the cluster starts a job again. Kubernetes wants each of them.
_RESTARTED = [exit_codes.PREEMPTED, *range(128, 256)]
_TPU = 'google.com/tpu'
_SPOT = 'cloud.google.com/gke-spot'


def run_label(run_dir: str) -> str:
  """What the objects of a run are found by."""
  return _digest(run_dir.rstrip('/'))


def job_label(name: str) -> str:
  """What the objects of a job, or of one worker of it, are found by.

  Args:
    name: Order.name.
  """
  return _digest(name)


def of_order(
  order: Order, run_dir: str, command: tuple[str, ...], config: GkeConfig
) -> dict[str, Any]:
  """The object that runs one attempt.

  Args:
    order: the attempt.
    run_dir: of the run.
    command: of the process, before its arguments.
    config: of the cluster.

  Returns:
    A JobSet or a Job, JSON-ready.

  Raises:
    ConfigurationError: a job on TPUs does not say on which.
  """
  label, job = run_label(run_dir), order.job
  container = {
    'name': CONTAINER,
    'image': config.image,
    'command': list(command),
    'args': list(order.arguments),
    'env': [
      {'name': name, 'value': value}
      for name, value in {**order.defaults, **order.environment}.items()
    ],
  }
  meta = {
    'name': _name(order, label),
    'namespace': config.namespace,
    'labels': {
      RUN: label,
      JOB: job_label(order.name),
      'app.kubernetes.io/name': 'rest-jax',
    }
    | ({'kueue.x-k8s.io/queue-name': config.queue} if config.queue else {}),
    'annotations': {NAME: order.name, 'rest-jax.io/run-dir': run_dir},
  }
  if job.accelerator == 'cpu':
    made = _job(order, meta, container, config)
  elif job.topology is None:
    raise configuration.ConfigurationError(
      f'{job.name}: a job on TPUs, and TOPOLOGY says not on which: '
      '--gin.TOPOLOGY=v5e:4x4.'
    )
  else:
    made = _jobset(order, meta, container, config)
  # Of everything but the name, which differs between attempts.
  meta['annotations'][DIGEST] = _digest(repr((order.arguments, config)))
  return made


def _job(order: Order, meta: dict, container: dict, config: GkeConfig) -> dict:
  size = {'cpu': config.cpu, 'memory': config.memory}
  container['resources'] = {'requests': size, 'limits': size}
  return {
    'apiVersion': 'batch/v1',
    'kind': 'Job',
    'metadata': meta,
    'spec': {
      'ttlSecondsAfterFinished': config.keep_seconds,
      'backoffLimit': order.job.retry.preemptions,
      'podFailurePolicy': _failure_policy(),
      'template': _pod(meta, container, {}, config),
    },
  }


def _jobset(
  order: Order, meta: dict, container: dict, config: GkeConfig
) -> dict:
  job = order.job
  topology = topologies.parse(job.topology, 'TOPOLOGY')
  container |= {
    'resources': {
      'requests': {_TPU: str(topology.chips_per_host)},
      'limits': {_TPU: str(topology.chips_per_host)},
    },
    'ports': [{'containerPort': port} for port in (8471, 8476, 8080)],
    'volumeMounts': [{'name': 'shared-memory', 'mountPath': '/dev/shm'}],
  }
  pod = {
    'nodeSelector': {
      'cloud.google.com/gke-tpu-accelerator': topology.generation.gke_label,
      'cloud.google.com/gke-tpu-topology': topology.grid,
    },
    'tolerations': [
      {'key': _TPU, 'operator': 'Exists', 'effect': 'NoSchedule'}
    ],
    'volumes': [{'name': 'shared-memory', 'emptyDir': {'medium': 'Memory'}}],
  }
  if config.host_network:
    pod |= {'hostNetwork': True, 'dnsPolicy': 'ClusterFirstWithHostNet'}
  if config.spot:
    pod['nodeSelector'][_SPOT] = 'true'
    pod['tolerations'].append(
      {'key': _SPOT, 'operator': 'Equal', 'value': 'true'}
    )
  if config.reservation:
    pod['nodeSelector'] |= {
      'cloud.google.com/reservation-name': config.reservation,
      'cloud.google.com/reservation-affinity': 'specific',
    }
  meta['annotations'] |= {
    # A slice has its nodes for itself.
    'alpha.jobset.sigs.k8s.io/exclusive-topology': (
      'cloud.google.com/gke-nodepool'
    ),
  }
  return {
    'apiVersion': JOBSET_API,
    'kind': 'JobSet',
    'metadata': meta,
    'spec': {
      'ttlSecondsAfterFinished': config.keep_seconds,
      'failurePolicy': {
        'maxRestarts': job.retry.preemptions,
        'rules': [
          {
            'name': 'notRestarted',
            'action': 'FailJobSet',
            'onJobFailureReasons': ['PodFailurePolicy'],
          }
        ],
      },
      'replicatedJobs': [
        {
          'name': _REPLICATED,
          'replicas': job.slices,
          'template': {
            'spec': {
              'parallelism': topology.hosts,
              'completions': topology.hosts,
              'completionMode': 'Indexed',
              'backoffLimit': 0,
              'podFailurePolicy': _failure_policy(),
              'template': _pod(meta, container, pod, config),
            }
          },
        }
      ],
    },
  }


def _failure_policy() -> dict:
  return {
    'rules': [
      {
        'action': 'FailJob',
        'onExitCodes': {
          'containerName': CONTAINER,
          'operator': 'NotIn',
          'values': _RESTARTED,
        },
      }
    ]
  }


def _pod(meta: dict, container: dict, spec: dict, config: GkeConfig) -> dict:
  """A pod template; `spec` holds what is of TPUs."""
  spec = {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': config.grace_seconds,
    'containers': [container],
    **spec,
  }
  if config.service_account:
    spec['serviceAccountName'] = config.service_account
  if config.priority:
    spec['priorityClassName'] = config.priority
  if config.node_selector:
    spec['nodeSelector'] = {
      **spec.get('nodeSelector', {}),
      **config.node_selector,
    }
  for number, path in enumerate(config.host_paths):
    _mount(
      container, spec, f'host-{number}', path, {'hostPath': {'path': path}}
    )
  labels = {name: meta['labels'][name] for name in (RUN, JOB)}
  pod = {'metadata': {'labels': labels}, 'spec': spec}
  if config.fuse_bucket:
    pod['metadata']['annotations'] = {'gke-gcsfuse/volumes': 'true'}
    driver = {
      'driver': 'gcsfuse.csi.storage.gke.io',
      'volumeAttributes': {'bucketName': config.fuse_bucket},
    }
    _mount(container, spec, 'bucket', FUSE_FOLDER, {'csi': driver})
  return pod


def _mount(
  container: dict, spec: dict, name: str, path: str, source: dict
) -> None:
  """Adds a volume to a pod, and its place to the container."""
  container.setdefault('volumeMounts', []).append(
    {'name': name, 'mountPath': path}
  )
  spec.setdefault('volumes', []).append({'name': name, **source})


def _name(order: Order, run: str) -> str:
  """Of the object: short, since names of pods and hosts are made from it."""
  words = re.sub(r'[^a-z0-9]+', '-', order.name.lower()).strip('-')
  words = words.replace('iteration-', 'i')[:20].rstrip('-')
  launch = order.environment[holders.RUN_TOKEN]
  unique = _digest(f'{run} {order.name} {launch} {order.attempt}')
  return f'rj-{words}-{unique[:8]}'


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:16]
