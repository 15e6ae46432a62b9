"""The executors by their names, which --executor takes."""

from collections.abc import Callable
from typing import Any

from rest_jax.executors.executor import Executor
from rest_jax.executors.local import LocalExecutor

EXECUTORS = ('local', 'gke', 'tpu_vm')


def config_of(name: str, settings: dict[str, Any]) -> Any:
  """The configuration of an executor, from Executor.settings."""
  if name == 'gke':
    from rest_jax.executors.gke.settings import GkeConfig

    return GkeConfig(**settings)
  if name == 'tpu_vm':
    from rest_jax.executors.tpu_vm.settings import TpuVmConfig

    return TpuVmConfig(**settings)
  return None


def make(
  name: str, config: Any, run_dir: str, say: Callable[[str], None]
) -> Executor:
  """An executor.

  Args:
    name: of EXECUTORS.
    config: of it; None for 'local'.
    run_dir: of the run.
    say: shows a line to the person who watches.

  Raises:
    ConfigurationError: a package, a program or a cluster is missing.
  """
  if name == 'local':
    return LocalExecutor()
  if name == 'gke':
    from rest_jax.executors.gke.gke import GkeExecutor

    return GkeExecutor(config, run_dir, say)
  from rest_jax.executors.tpu_vm.tpu_vm import TpuVmExecutor

  return TpuVmExecutor(config, run_dir, say)
