"""What all tests share: the CPU, strict shapes, and a gs:// of our own."""

import os
import pathlib
import sys
import tempfile
import types

# Before anything imports jax.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUMPY_RANK_PROMOTION', 'raise')
ROOT = pathlib.Path(__file__).resolve().parent.parent
# A checkout tests its own code, installed or not.
for folder in (ROOT, ROOT / 'tests'):
  if str(folder) not in sys.path:
    sys.path.append(str(folder))

import object_store  # noqa: E402
import pytest  # noqa: E402
import xla_flags  # noqa: E402

os.environ |= object_store.CLIENTS
os.environ.setdefault('XLA_FLAGS', xla_flags.simulated(8))
# A program is compiled once, by this process or by those that its tests start.
_compiled = tempfile.TemporaryDirectory(prefix='compiled-')
os.environ |= {
  'JAX_COMPILATION_CACHE_DIR': _compiled.name,
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
}


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
  from etils.epath import backend

  from rest_jax.artifacts import gs_files

  found, address = _served
  found.clear()
  for name, value in object_store.environment(address).items():
    monkeypatch.setenv(name, value)
  gs_files.PatientFiles.clear_instance_cache()
  backend.fsspec_backend._get_filesystem.cache_clear()
  yield found
  gs_files.PatientFiles.clear_instance_cache()
  backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def bucket(store) -> str:
  """The address of an empty bucket, served on this machine."""
  return 'gs://bucket'


@pytest.fixture
def away(store, monkeypatch):
  """Makes some requests to the store fail; nobody pauses between two tries."""
  import gcsfs.retry

  from rest_jax.artifacts import generations, store_patience

  async def sleep(seconds):
    pass

  monkeypatch.setattr(
    gcsfs.retry, 'asyncio', types.SimpleNamespace(sleep=sleep)
  )
  monkeypatch.setattr(store_patience, 'AGAIN_SECONDS', 0.02)
  monkeypatch.setattr(generations, 'RETRY_SECONDS', 0.01)
  return lambda times, pattern='.': store.fault(pattern, times=times)


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch):
  """A held folder is refused at once, so that no test waits for it."""
  from rest_jax.artifacts import file_leases

  monkeypatch.setattr(file_leases, 'GRACE_SECONDS', 0.0)
