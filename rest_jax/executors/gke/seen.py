"""What a cluster says of a JobSet or Job and of its pods."""

from typing import Literal, NamedTuple

from rest_jax.executors.gke import objects

# Reasons for which a container waits, and will for ever.
_HOPELESS = (
  'ErrImagePull',
  'ImagePullBackOff',
  'InvalidImageName',
  'CreateContainerConfigError',
  'CreateContainerError',
)


class Seen(NamedTuple):
  """A JobSet or Job of the run, as the cluster knows it.

  Attributes:
    name: of the object.
    job: the label of what it runs.
    digest: of what was asked for.
    state: of the whole.
    restarts: by the cluster.
    pods: of the latest start.
  """

  name: str
  job: str
  digest: str
  state: Literal['running', 'done', 'failed', 'ending']
  restarts: int
  pods: tuple[dict, ...]

  def exit_codes(self) -> list[int]:
    """Of the pods' processes that have ended."""
    return [
      ended['exitCode']
      for pod in self.pods
      for ended in [_ended(pod)]
      if ended is not None
    ]

  def out_of_memory(self) -> bool:
    """Whether a process was killed for its memory."""
    ends = map(_ended, self.pods)
    return any(end and end.get('reason') == 'OOMKilled' for end in ends)

  def first_pod(self) -> str | None:
    """Of process 0: the latest, since a Job keeps those of earlier starts."""
    same = [
      pod for pod in self.pods if place(pod)[:2] == place(self.pods[0])[:2]
    ]
    return same[-1]['metadata']['name'] if same else None

  def hopeless(self) -> str:
    """Why a pod will never start, in the cluster's words; '' while it may."""
    for pod in self.pods:
      for container in pod.get('status', {}).get('containerStatuses') or ():
        waiting = container.get('state', {}).get('waiting') or {}
        if waiting.get('reason') in _HOPELESS:
          return f'{waiting["reason"]}: {waiting.get("message", "")}'.rstrip(
            ': '
          )
    return ''

  def waits(self) -> str:
    """Why it has not started yet, in the cluster's words; '' once it has."""
    for pod in self.pods:
      for condition in pod.get('status', {}).get('conditions') or ():
        if (
          condition['type'] == 'PodScheduled' and condition['status'] != 'True'
        ):
          return (
            condition.get('message') or condition.get('reason') or 'pending'
          )
    return '' if self.pods else 'no pod yet'


def _ended(pod: dict) -> dict | None:
  """The end of a pod's container, if it has ended."""
  for container in pod.get('status', {}).get('containerStatuses') or ():
    if container['name'] == objects.CONTAINER:
      return container.get('state', {}).get('terminated')
  return None


def place(pod: dict) -> tuple[int, int, str]:
  """Of a pod among those of its JobSet: process 0 first."""
  labels = pod['metadata'].get('labels', {})
  return (
    int(labels.get('jobset.sigs.k8s.io/job-index', 0)),
    int(labels.get('batch.kubernetes.io/job-completion-index', 0)),
    pod['metadata'].get('creationTimestamp') or '',
  )


def state_of(body: dict) -> str:
  if body['metadata'].get('deletionTimestamp'):
    return 'ending'
  for condition in body.get('status', {}).get('conditions') or ():
    if condition['status'] != 'True':
      continue
    if condition['type'] in ('Completed', 'Complete'):
      return 'done'
    if condition['type'] == 'Failed':
      return 'failed'
  return 'running'


def restarts_of(body: dict) -> int:
  status = body.get('status', {})
  return status.get('restarts') or status.get('failed') or 0
