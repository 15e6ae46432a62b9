"""What all tests share: the CPU, strict shapes, and a gs:// of our own."""

import os
import pathlib
import sys

# Before anything imports jax.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUMPY_RANK_PROMOTION', 'raise')
# gcsfs looks for no credentials, and for no other kinds of buckets by gRPC.
os.environ['FSSPEC_GS'] = '{"token": "anon"}'
os.environ['GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT'] = 'false'
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

import pytest  # noqa: E402


@pytest.fixture
def root() -> pathlib.Path:
  """The repository."""
  return ROOT


@pytest.fixture(scope='session')
def _served():
  """A server of Google Cloud Storage's API, started once (object_store.py)."""
  import object_store

  with object_store.serve() as served:
    yield served


@pytest.fixture
def store(_served, monkeypatch):
  """The empty store behind `bucket`; its requests can be made to fail."""
  import gcsfs
  from etils.epath import backend

  found, address = _served
  found.clear()
  # Both clients read it: gcsfs and google-cloud-storage; TensorStore another.
  monkeypatch.setenv('STORAGE_EMULATOR_HOST', address)
  monkeypatch.setenv('TENSORSTORE_GCS_HTTP_URL', address)
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
  from rest_jax.artifacts import leases

  monkeypatch.setattr(leases, 'GRACE_SECONDS', 0.0)
