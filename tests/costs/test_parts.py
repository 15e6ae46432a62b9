"""The parts that costs are named by."""

import pytest

from rest_jax.costs import hlo_program, parts

_LAYER = 'jit(step)/jvp(Decoder)/while/body/closed_call/blocks.one/blocks'
_DECODE = 'jit(_decode)/while/body/closed_call'


@pytest.mark.parametrize(
  ('operation', 'part'),
  [
    (f'{_LAYER}/blocks._project/BLD,DF->BLF/dot_general', 'MLP products'),
    (
      f'{_LAYER}/blocks._project/BLD,DKRE->BLKRE/dot_general',
      'attention projections',
    ),
    (f'{_LAYER}/shard_map/splash_mha_fwd/pallas_call', 'attention kernel'),
    (f'{_LAYER}/KBME,KBSE->KBMS/dot_general', 'attention scores'),
    (f'{_LAYER}/exp', 'attention scores'),
    (f'{_LAYER}/mlp_norm/reduce_sum', 'norms'),
    (f'{_LAYER}/mul', 'rotation, activation, residuals'),
    ('jit(step)/jvp()/shard_map/while/body/TV,TD->VD', 'logits and loss'),
    ('jit(step)/jvp(Decoder)/Decoder.embed/convert', 'embedding'),
    ('jit(step)/mul', 'optimiser'),
    (f'{_DECODE}/Decoder.logits/BLD,VD->BLV/dot_general', 'logits and loss'),
    (f'{_DECODE}/shard_map/reduce_sum', 'choice of a token'),
    (f'{_DECODE}/Block/shard_map/pallas_call', 'attention kernel'),
    ('', 'everything else'),
  ],
)
def test_an_operation_belongs_to_the_part_that_it_was_traced_from(
  operation, part
):
  cost = hlo_program.Cost(cycles=3.0)
  cost.names[operation] = 3.0
  assert dict(parts.of(cost)) == {part: 3.0}


def test_what_is_computed_again_is_a_part_of_its_own():
  cost = hlo_program.Cost()
  again = _LAYER.replace('blocks.one', 'rematted_computation/blocks.one')
  cost.names[f'{again}/blocks._project/BLD,DF->BLF/dot_general'] = 2.0
  cost.names[f'{_LAYER}/blocks._project/BLD,DF->BLF/dot_general'] = 1.0
  assert dict(parts.of(cost)) == {parts.AGAIN: 2.0, 'MLP products': 1.0}
