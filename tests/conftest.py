"""What all tests share: the CPU, strict shapes, and a gs:// of our own."""

import os
import pathlib
import sys

# Before anything imports jax.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUMPY_RANK_PROMOTION', 'raise')
# Meshes are simulated: eight devices on one CPU. Most of the tests' time is
# spent on compiling, a third of that on LLVM's passes, which are not ours to
# test; `.ci/run` has them once, in the tests with the other Python.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0',
)

ROOT = pathlib.Path(__file__).resolve().parent.parent
# A checkout tests its own code, installed or not.
for folder in (ROOT, ROOT / 'tests'):
  if str(folder) not in sys.path:
    sys.path.append(str(folder))

import object_store  # noqa: E402
import pytest  # noqa: E402

os.environ |= object_store.CLIENTS


@pytest.fixture
def root() -> pathlib.Path:
  """The repository."""
  return ROOT


@pytest.fixture(scope='session')
def _served():
  """A server of Google Cloud Storage's API, started once (object_store.py)."""
  with object_store.serve() as served:
    yield served


@pytest.fixture
def store(_served, monkeypatch):
  """The empty store behind `bucket`; its requests can be made to fail."""
  import gcsfs
  from etils.epath import backend

  found, address = _served
  found.clear()
  for name, value in object_store.environment(address).items():
    monkeypatch.setenv(name, value)
  gcsfs.GCSFileSystem.clear_instance_cache()
  backend.fsspec_backend._get_filesystem.cache_clear()
  yield found
  gcsfs.GCSFileSystem.clear_instance_cache()
  backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def bucket(store) -> str:
  """The address of an empty bucket, served on this machine."""
  return 'gs://bucket'


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch):
  """A held folder is refused at once, so that no test waits for it."""
  from rest_jax.artifacts import file_leases

  monkeypatch.setattr(file_leases, 'GRACE_SECONDS', 0.0)
