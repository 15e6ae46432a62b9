"""What Google Cloud must be told beside the jobs; see gin/stages/tpu_vm.gin."""

import dataclasses

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.executors.jobs import Job


@dataclasses.dataclass(frozen=True, kw_only=True)
class TpuVmConfig(configuration.Configuration):
  """Where TPU VMs are asked for.

  Attributes:
    image: of the container, which holds rest_jax and what it needs.
    zone: of the TPUs.
    project: of Google Cloud; None: gcloud's own.
    service_account: that the VMs run as; it may write to RUN_DIR's bucket.
    network: of the VMs.
    spot: take capacity that may be taken away at any moment.
    reserved: take reserved capacity.
    wait_hours: for capacity; then the request ends.
  """

  image: str | None = None
  zone: str | None = None
  project: str | None = None
  service_account: str | None = None
  network: str | None = None
  spot: bool = False
  reserved: bool = False
  wait_hours: float = 24.0

  def check(self) -> None:
    for name, dial, example in (
      ('image', 'IMAGE', 'LOCATION-docker.pkg.dev/PROJECT/NAME:TAG'),
      ('zone', 'TPU_VM_ZONE', 'us-east5-a'),
    ):
      if not getattr(self, name):
        raise configuration.ConfigurationError(
          f'{dial} is not set: --gin.{dial}={example} (docs/launching.md).'
        )
    self.require(self.wait_hours > 0, 'wait_hours', 'above 0')
    self.require(
      not (self.spot and self.reserved), 'spot', 'False where reserved is True'
    )

  # Where a path of the user's can be read, for the launcher to check.
  advice = ''

  def runs(self, job: Job) -> bool:
    """Whether a job runs elsewhere: those without TPUs run on this machine."""
    return job.accelerator == 'tpu'

  def sees(self, path: str) -> bool:
    """Whether the VMs see what this machine has at a path."""
    return storage.is_remote(path)


def tpu_vm(*, config: TpuVmConfig) -> TpuVmConfig:
  """What gin/stages/tpu_vm.gin binds."""
  return config
