"""Collectives are read from optimised HLO, and gathered activations named."""

import types

import pytest

from rest_jax.costs import collectives
from rest_jax.models.architecture import DecoderConfig

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


@pytest.mark.parametrize(
  ('groups', 'chips'),
  [
    ("mesh['a'=4,'b'=8] {'b'}", 8),
    ("mesh['a'=4,'b'=8,'c'=2] {'a','c'}", 8),
    ('[4,64]<=[256]', 64),
    ('{{0,1,2},{3,4,5}}', 3),
  ],
)
@pytest.mark.parametrize(
  ('operation', 'times'),
  [
    ('all-gather', 1),
    ('all-reduce', 2),  # a reduce-scatter and an all-gather
    ('reduce-scatter', 1),
    ('all-to-all', 1),
  ],
)
def test_what_a_chip_sends_on_a_ring(groups, chips, operation, times):
  line = f'  %x = bf16[8,128]{{1,0}} {operation}(%p), replica_groups={groups}'
  found = collectives.parse(line, 'main')
  assert found.chips == chips
  assert found.sent_bytes == times * (chips - 1) / chips * 8 * 128 * 2


def test_a_gathered_activation_is_named_and_a_parameter_is_not():
  mesh = types.SimpleNamespace(shape={'data': 1, 'fsdp': 4, 'tensor': 2})
  found = list(collectives.read(HLO))
  wrong = collectives.gathered_activations(found, MODEL, 8, 384, mesh)
  assert wrong == ['all-gather by all-reduce bf16[8, 384, 256]']
  assert not collectives.gathered_activations(found[:4], MODEL, 8, 384, mesh)


def test_a_gathered_activation_is_named_where_rows_are_as_long_as_states():
  mesh = types.SimpleNamespace(shape={'data': 1, 'fsdp': 256, 'tensor': 1})
  wide, layers = MODEL.embed_dim, MODEL.num_layers
  stack = ('all-gather', [('bf16', (layers, wide, MODEL.mlp_dim))])
  states = ('all-gather', [('bf16', (512, wide, wide))])
  assert collectives.gathered_activations(
    [stack, states], MODEL, 1024, wide, mesh
  ) == [f'all-gather bf16[512, {wide}, {wide}]']
