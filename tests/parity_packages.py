"""The packages that our network is compared with: the extra `parity`."""

import importlib
import os
from types import ModuleType

import pytest

REQUIRED = 'REST_JAX_REQUIRE_PARITY'  # set where a skipped test is a failure


def need(name: str) -> ModuleType:
  """The package, or a skip of the whole module that asks for it."""
  if os.environ.get(REQUIRED):
    return importlib.import_module(name)
  return pytest.importorskip(
    name,
    reason=f"needs {name}: pip install 'rest_jax[parity]' (docs/models.md says "
    'how to get a build of torch for CPUs)',
  )
