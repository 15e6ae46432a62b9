"""Costs of programs, added up by hand from small HLO texts."""

import pytest

from rest_jax.costs import hlo_program, kernels
from rest_jax.executors.topologies import GENERATIONS

CHIP = GENERATIONS['v5e']  # 1.5 GHz, 819 GB/s, 197 TFLOP/s


def fusion(name, cycles, operation=''):
  return (
    f'  %{name} = f32[8]{{0}} fusion(%p), kind=kLoop, calls=%inner, '
    f'metadata={{op_name="{operation}"}}, '
    f'backend_config={{"estimated_cycles":"{cycles}"}}'
  )


def loop(name, body, condition, trips=None):
  noted = f', backend_config={{"known_trip_count":{{"n":"{trips}"}}}}'
  return (
    f'  %{name} = (s32[]) while(%t), condition=%{condition}, body=%{body}'
    + (noted if trips else '')
  )


NESTED = '\n'.join(
  [
    '%inner (p: f32[8]) -> f32[8] {',
    '  ROOT %n = f32[8]{0} negate(%p)',
    '}',
    '%compared (p: s32[]) -> pred[] {',
    '  %c = s32[] constant(5)',
    '  ROOT %lt = pred[] compare(%p, %c), direction=LT',
    '}',
    '%open (p: s32[]) -> pred[] {',
    '  ROOT %lt = pred[] compare(%p, %q), direction=LT',
    '}',
    '%innermost (p: f32[8]) -> f32[8] {',
    fusion('a', 100, 'deep'),
    '}',
    '%middle (p: f32[8]) -> f32[8] {',
    fusion('b', 10, 'middle'),
    loop('w', 'innermost', 'compared'),  # 5 x 100
    '}',
    '%unknown (p: f32[8]) -> f32[8] {',
    fusion('c', 1000, 'unknown'),
    '}',
    'ENTRY %main (p: f32[8]) -> f32[8] {',
    fusion('d', 1, 'outer'),
    loop('w.1', 'middle', 'open', trips=3),  # 3 x (10 + 500)
    loop('w.2', 'unknown', 'open'),
    '}',
  ]
)


def test_a_loop_counts_as_often_as_it_goes_round():
  read = hlo_program.Program.read(NESTED, CHIP, unknown_trips=7)
  cost = read.cost()
  assert cost.cycles == 1 + 3 * (10 + 5 * 100) + 7 * 1000
  assert dict(cost.names) == {
    'outer': 1,
    'middle': 30,
    'deep': 1500,
    'unknown': 7000,
  }


def test_the_loop_whose_round_costs_most_is_found():
  read = hlo_program.Program.read(NESTED, CHIP)
  assert read.loop() == 'unknown'
  assert read.cost('middle').cycles == 510


def kernel(flops, moved):
  """A kernel whose attributes go over several lines, as splash's do."""
  return (
    '  %k.1 = bf16[8]{0} custom-call(%p), custom_call_target="tpu_custom_call",'
    ' frontend_attributes={kernel_metadata={\n"note":"{}"\n}}, '
    'backend_config={"custom_call_config":{"cost_estimate":'
    f'{{"flops":"{flops}","bytes_accessed":"{moved}","transcendentals":"1"}}}}}}'
  )


@pytest.mark.parametrize(
  ('flops', 'moved', 'seconds'),
  [
    (197e12, 819e6, 1.0),  # a second of products, a millisecond of memory
    (197e9, 819e9, 1.0),  # the other way round
  ],
)
def test_a_kernel_costs_the_larger_of_its_bytes_and_operations(
  flops, moved, seconds
):
  text = '\n'.join(
    [
      'ENTRY %main (p: bf16[8]) -> bf16[8] {',
      kernel(int(flops), int(moved)),
      fusion('after', 11, 'behind the kernel'),
      '}',
    ]
  )
  cost = hlo_program.Program.read(text, CHIP).cost()
  assert cost.kernel_cycles == pytest.approx(seconds * 1.5e9)
  assert cost.cycles == pytest.approx(seconds * 1.5e9 + 11)


def test_a_kernel_that_states_no_cost_is_not_passed_over():
  line = '%mine = bf16[8] custom-call(%p), custom_call_target="tpu_custom_call"'
  with pytest.raises(ValueError, match='states no cost'):
    kernels.of(line)


def splash(kind, blocks):
  heads, length, width = 4, 1024, 128
  queries = f'bf16[{heads},{length},{width}]{{2,1,0}}'
  keys = f'bf16[2,{length},{width}]{{2,1,0}}'
  return (
    f'  %splash_mha_{kind}.1 = {queries} custom-call(%a, %b), '
    'custom_call_target="tpu_custom_call", operand_layout_constraints='
    f'{{s8[1,{blocks}]{{2,1,0}}, {queries}, {keys}, {keys}}}, '
    'frontend_attributes={}'
  )


@pytest.mark.parametrize(
  ('kind', 'products'), [('fwd_residuals', 2), ('dq', 3), ('dkv', 4)]
)
def test_splash_computes_the_blocks_below_the_diagonal(kind, products):
  """Four blocks of 256: 1 + 2 + 3 + 4 of 16 are computed."""
  done = kernels.of(splash(kind, '4,4'))
  assert done.flops == products * 2 * 4 * 10 * 256**2 * 128
  assert done.bytes == 16 + 2 * 2 * 4 * 1024 * 128 + 2 * 2 * 2 * 1024 * 128


def test_splash_of_a_window_computes_what_the_window_sees():
  """Each block sees itself and the one before: 1 + 2 + 2 + 2."""
  done = kernels.of(splash('dq', '4,2'))
  assert done.flops == 3 * 2 * 4 * 7 * 256**2 * 128


BRANCHES = '\n'.join(
  [
    '%cheap (p: f32[8]) -> f32[8] {',
    fusion('a', 10),
    '}',
    '%dear (p: f32[8]) -> f32[8] {',
    fusion('b', 99),
    '}',
    'ENTRY %main (p: f32[8]) -> f32[8] {',
    '  %c = f32[8] conditional(%i, %p), branch_computations={%cheap, %dear}',
    '}',
  ]
)


def test_of_two_branches_the_chosen_one_counts():
  for pick, cycles in ((min, 10), (max, 99)):
    read = hlo_program.Program.read(BRANCHES, CHIP, pick=pick)
    assert read.cost().cycles == cycles


SENT = """
%gathers (p: bf16[16,64]) -> bf16[256,64] {
  %all-gather.2 = bf16[256,64]{1,0} all-gather(%p), channel_id=7, replica_groups=mesh['a'=16,'b'=2] {'a'}, dimensions={0}
  ROOT %s = (bf16[16,64]) custom-call(%all-gather.2), custom_call_target="AsyncCollectiveStart"
}
%goes_on (p: bf16[16,64]) -> bf16[256,64] {
  %all-gather.3 = bf16[256,64]{1,0} all-gather(%p), channel_id=7, replica_groups=mesh['a'=16,'b'=2] {'a'}, dimensions={0}
  ROOT %s = (bf16[16,64]) custom-call(%all-gather.3), custom_call_target="AsyncCollectiveDone"
}
%all-reduce-scatter.1 (p: f32[64,64]) -> f32[8,64] {
  %all-reduce.9 = f32[64,64]{1,0} all-reduce(%p), channel_id=8, replica_groups=[4,8]<=[32], to_apply=%add
}
%never (p: s32[]) -> pred[] {
  %c = s32[] constant(10)
}
%body (p: bf16[16,64]) -> bf16[256,64] {
  %start = (bf16[16,64]) fusion(%p), kind=kCustom, calls=%gathers
  %done = bf16[256,64] fusion(%start), kind=kCustom, calls=%goes_on
  %rs = f32[8,64] fusion(%q), kind=kCustom, calls=%all-reduce-scatter.1
}
ENTRY %main (p: bf16[16,64]) -> f32[4] {
  %w = (s32[]) while(%t), condition=%never, body=%body
  %all-reduce.1 = f32[100]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  %copy-start.3 = (bf16[8,128]{1,0:T(8,128)S(1)}, bf16[8,128]{1,0}, u32[]) copy-start(%p)
}
"""  # noqa: E501


def test_collectives_are_counted_once_and_as_often_as_they_run():
  cost = hlo_program.Program.read(SENT, CHIP).cost()
  found = {
    sent.collective.kind: (sent.sent_bytes, sent.is_beside)
    for sent in cost.sent
  }
  assert len(cost.sent) == 3
  assert found == {
    # Ten times 15/16 of 256 x 64 numbers of two bytes, beside the products.
    'all-gather': (10 * 15 / 16 * 256 * 64 * 2, True),
    'reduce-scatter': (10 * 7 / 8 * 64 * 64 * 4, False),
    'all-reduce': (2 * 3 / 4 * 400, False),
  }
  assert cost.prefetched_bytes == 8 * 128 * 2
