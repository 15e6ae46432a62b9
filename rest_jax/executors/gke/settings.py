"""What a GKE cluster must be told beside the jobs; see gin/stages/gke.gin."""

import dataclasses
import os
from collections.abc import Mapping

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.executors.jobs import Job

FUSE_FOLDER = '/gcs'


@dataclasses.dataclass(frozen=True, kw_only=True)
class GkeConfig(configuration.Configuration):
  """Where and as whom jobs run on a cluster.

  Attributes:
    image: of the container, which holds rest_jax and what it needs.
    namespace: of all objects.
    context: of the kubeconfig; None: its current one, or the service account
      of the pod where the launcher runs in one.
    service_account: of Kubernetes, that the pods run as.
    queue: Kueue's local queue; None: without Kueue.
    priority: a PriorityClass.
    spot: run TPU jobs on spot nodes.
    reservation: of TPUs, by name.
    node_selector: further labels of the nodes.
    host_network: give TPU pods the network of their node, which several slices
      need for their speed.
    fuse_bucket: a bucket that is mounted at /gcs through Cloud Storage FUSE;
      None: gs:// paths alone.
    host_paths: folders of the nodes (NFS, Lustre, a local cluster's) that pods
      see under the same path.
    cpu, memory: of the other jobs (scoring runs a process on each core).
    grace_seconds: that a pod has to save its state when it is evicted.
    keep_seconds: that a job which has ended stays to be looked at.
  """

  image: str | None = None
  namespace: str = 'default'
  context: str | None = None
  service_account: str | None = None
  queue: str | None = None
  priority: str | None = None
  spot: bool = False
  reservation: str | None = None
  node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
  host_network: bool = True
  fuse_bucket: str | None = None
  host_paths: tuple[str, ...] = ()
  cpu: str = '4'
  memory: str = '16Gi'
  grace_seconds: int = 300
  keep_seconds: int = 86_400

  def check(self) -> None:
    if not self.image:
      raise configuration.ConfigurationError(
        'IMAGE names no image. Build one with launch/Dockerfile, push it, '
        'and give --gin.IMAGE=LOCATION-docker.pkg.dev/PROJECT/NAME:TAG.'
      )
    self.require(self.grace_seconds >= 20, 'grace_seconds', 'at least 20')
    self.require(self.keep_seconds >= 600, 'keep_seconds', 'at least 600')
    self.require(
      not (self.spot and self.reservation),
      'spot',
      'False with a reservation, which spot nodes are not part of',
    )

    lost = [path for path in self.host_paths if not os.path.isabs(path)]
    self.require(not lost, 'host_paths', 'whole paths, such as /mnt/nfs')

  # Where a path of the user's can be read, for the launcher to check.
  advice = (
    'Or mount what holds them on the nodes, under the same path as here, and '
    "give --gin.GKE_HOST_PATHS=['/mnt/nfs']."
  )

  def runs(self, job: Job) -> bool:
    """Whether a job runs elsewhere: all of them do."""
    return True

  def sees(self, path: str) -> bool:
    """Whether the pods see what this machine has at a path."""
    folders = [*self.host_paths, *([FUSE_FOLDER] if self.fuse_bucket else [])]
    return storage.is_remote(path) or any(
      f'{os.path.abspath(path)}/'.startswith(f'{folder.rstrip("/")}/')
      for folder in folders
    )


def gke(*, config: GkeConfig) -> GkeConfig:
  """What gin/stages/gke.gin binds."""
  return config
