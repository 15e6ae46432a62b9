"""XLA_FLAGS of tests: devices are simulated, and programs compile quickly.

Most of the tests' time is spent on compiling: half as long without LLVM's
passes and with XLA's older way to write loops. `.ci/run` has what depends most
on jax compiled as users' programs are, with the other Python.
"""

from importlib import metadata

_HAS_OLDER_LOOPS = metadata.version('jaxlib').startswith('0.10.')
QUICK = '--xla_backend_optimization_level=0'
if _HAS_OLDER_LOOPS:  # others end at this flag
  QUICK += ' --xla_cpu_use_fusion_emitters=false'
# What jax.jit is told where bits depend on how loops are written.
USUAL_LOOPS = {'xla_cpu_use_fusion_emitters': True} if _HAS_OLDER_LOOPS else {}


def simulated(devices: int) -> str:
  """The flags for so many devices on one CPU."""
  return f'{QUICK} --xla_force_host_platform_device_count={devices}'
