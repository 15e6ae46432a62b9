"""What all tests share: the CPU, strict shapes, and a gs:// in memory."""

import os
import pathlib
import sys

# Before anything imports jax.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUMPY_RANK_PROMOTION', 'raise')
# Meshes are simulated: eight devices on one CPU.
os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=8')

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


@pytest.fixture
def bucket(monkeypatch) -> str:
  """The address of an empty bucket in a gs:// that lives in memory."""
  import fsspec
  from etils.epath import backend
  from object_store import ObjectStore

  monkeypatch.setattr(ObjectStore, 'objects', {})
  known = dict(fsspec.registry)
  for name in ObjectStore.protocol:
    fsspec.register_implementation(name, ObjectStore, clobber=True)
  backend.fsspec_backend._get_filesystem.cache_clear()
  monkeypatch.setenv('REST_JAX_LEASE_SETTLE_SECONDS', '0.01')
  yield 'gs://bucket'
  backend.fsspec_backend._get_filesystem.cache_clear()
  for name in ObjectStore.protocol:
    if name in known:
      fsspec.register_implementation(name, known[name], clobber=True)


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch):
  """A held folder is refused at once, so that no test waits for it."""
  from rest_jax.artifacts import leases

  monkeypatch.setattr(leases, 'GRACE_SECONDS', 0.0)
