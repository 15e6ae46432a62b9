"""What preflight reads from compiled programs, and a small compile."""

import importlib.util
import os
import subprocess
import sys

import pytest

HLO = """
%all-reduce-scatter.7 (param_0: f32[4096,512]) -> f32[64,512] {
  %ar.0 = f32[4096,512]{1,0} all-reduce(%param_0), to_apply=%add
  ROOT %ds = f32[64,512]{1,0} dynamic-slice(%ar.0, %i, %j)
}

ENTRY %main (p.1: bf16[64,14336]) -> f32[8,2048] {
  %all-gather.1 = bf16[4096,14336]{1,0:T(8,128)(2,1)} all-gather(%p.1), channel_id=1
  %ag = (bf16[16,4096]{1,0}, bf16[4096,4096]{1,0:T(8,128)S(1)}) all-gather-start(%p.2), x=1
  %done = bf16[4096,4096]{1,0} all-gather-done(%ag)
  %ar.2 = (f32[], /*index=1*/f32[8,2048]{1,0}) all-reduce(%a, %b), to_apply=%add
  %ar.3 = (bf16[64,8]{1,0}, bf16[8,384,256]{2,1,0}) all-reduce(%copy-done.6, %dynamic-update-slice.104), to_apply=%add
  %fusion = f32[8,2048]{1,0} fusion(%all-gather.1), kind=kLoop
"""  # noqa: E501

SCRIPT = """
from rest_jax import preflight
from rest_jax.models.architecture import DecoderConfig

hlo = {hlo!r}
found = list(preflight.collectives(hlo))
assert found.pop(0) == ('reduce-scatter', (('f32', (4096, 512)),))
assert found == [
  ('all-gather', (('bf16', (4096, 14336)),)),
  ('all-gather', (('bf16', (16, 4096)), ('bf16', (4096, 4096)))),
  ('all-reduce', (('f32', ()), ('f32', (8, 2048)))),
  (preflight.GATHER_BY_SUM, (('bf16', (64, 8)), ('bf16', (8, 384, 256)))),
], found
lines = preflight.summary(found)
assert lines[0].startswith('all-gather: 2 in'), lines
assert 'bf16[4096, 14336]' in lines[0], lines
model = DecoderConfig(
  vocab_size=512, num_layers=2, embed_dim=256, num_heads=4, num_kv_heads=4,
  head_dim=64, mlp_dim=768, max_length=384,
)


class mesh:
  shape = {{'data': 1, 'fsdp': 4, 'tensor': 2}}


assert preflight.gathered_activations(found[:3], model, 8, 384, mesh) == []
wrong = preflight.gathered_activations(found, model, 8, 384, mesh)
assert wrong == ['all-gather by all-reduce bf16[8, 384, 256]'], wrong
"""


def test_collectives_are_read_from_optimised_hlo_and_activations_are_named():
  # In a process of its own: importing preflight sets up jax for a lookalike.
  subprocess.run(
    [sys.executable, '-c', SCRIPT.format(hlo=HLO)], check=True, env=os.environ
  )


@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='needs libtpu: extra tpu'
)
def test_a_small_training_step_compiles_for_a_tpu_that_is_not_here():
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'rest_jax.main',
      'preflight',
      '--gin_file=models/tiny.gin',
      '--gin.PREFLIGHT_TOPOLOGY=v5e:2x4',
      '--gin.BATCH_ROWS=8',
      '--gin.ROW_LENGTH=128',
    ],
    capture_output=True,
    text=True,
    env=os.environ,
  )
  assert done.returncode == 0, done.stderr
  assert 'fits v5e:2x4' in done.stdout
  assert 'all-gather' in done.stdout  # fsdp gathers its parameters
