"""Collectives are read from optimised HLO, and gathered activations named."""

import types

from rest_jax.models.architecture import DecoderConfig
from rest_jax.training import collectives

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

MODEL = DecoderConfig(
  vocab_size=512,
  num_layers=2,
  embed_dim=256,
  num_heads=4,
  num_kv_heads=4,
  head_dim=64,
  mlp_dim=768,
  max_length=384,
)


def test_collectives_are_read_with_the_shapes_that_they_give():
  assert list(collectives.read(HLO)) == [
    ('reduce-scatter', (('f32', (4096, 512)),)),
    ('all-gather', (('bf16', (4096, 14336)),)),
    ('all-gather', (('bf16', (16, 4096)), ('bf16', (4096, 4096)))),
    ('all-reduce', (('f32', ()), ('f32', (8, 2048)))),
    (
      collectives.GATHER_BY_SUM,
      (('bf16', (64, 8)), ('bf16', (8, 384, 256))),
    ),
  ]


def test_a_summary_counts_each_kind_and_names_its_largest_array():
  lines = collectives.summary(list(collectives.read(HLO)))
  assert lines[0].startswith('all-gather: 2 in')
  assert 'bf16[4096, 14336]' in lines[0]


def test_a_gathered_activation_is_named_and_a_parameter_is_not():
  mesh = types.SimpleNamespace(shape={'data': 1, 'fsdp': 4, 'tensor': 2})
  found = list(collectives.read(HLO))
  wrong = collectives.gathered_activations(found, MODEL, 8, 384, mesh)
  assert wrong == ['all-gather by all-reduce bf16[8, 384, 256]']
  assert not collectives.gathered_activations(found[:4], MODEL, 8, 384, mesh)
