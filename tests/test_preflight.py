"""Preflight: small compiles of all programs, and what it prints."""

import importlib.util
import os
import subprocess
import sys

import pytest

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='needs libtpu: extra tpu'
)


def preflight(*bindings):
  return subprocess.run(
    [
      *(sys.executable, '-m', 'rest_jax.main', 'preflight'),
      '--gin_file=models/tiny.gin',
      '--gin.PREFLIGHT_TOPOLOGY=v5e:2x4',
      '--gin.MAX_DECODE_LENGTH=64',
      '--gin.BATCH_ROWS=8',
      *(f'--gin.{binding}' for binding in bindings),
    ],
    capture_output=True,
    text=True,
    env=os.environ,
  )


@needs_libtpu
def test_all_programs_of_a_small_run_compile_for_a_tpu_that_is_not_here():
  done = preflight('ROW_LENGTH=384', 'GREEDY_GROUPS=8', 'GROUPS=8')
  assert done.returncode == 0, done.stderr
  blocks = [line.split()[0] for line in done.stdout.splitlines()]
  for name in ('assumed', 'derived', 'sample', 'train', 'D_val', 'run'):
    assert name in blocks, done.stdout
  for words in (
    *('fits v5e:2x4', "All figures are the compiler's estimates", 'MFU'),
    *('of the HBM bandwidth', 'tokens/s per chip', 'chip-hours'),
    *('largest costs', 'all-gather'),  # fsdp gathers its parameters
  ):
    assert words in done.stdout


@needs_libtpu
def test_a_mesh_that_does_not_divide_the_model_is_refused_in_one_sentence():
  done = preflight(
    *('ROW_LENGTH=384', 'MESH_TENSOR=8', "PREFLIGHT_PROGRAMS=['train']")
  )
  assert done.returncode == 2
  assert 'is not divisible by 8' in done.stderr
  assert 'divides everything on 8 chips' in done.stderr


@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is not None, reason='libtpu is here'
)
def test_without_libtpu_it_says_what_to_install():
  done = preflight()
  assert done.returncode == 2
  assert "pip install 'rest_jax[tpu]'" in done.stderr
