"""Sizes that are derived: they fit, divide evenly, and follow what is asked."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from sized_run import (
  GIB,
  GPU,
  LAPTOP,
  LLAMA_8B,
  POD,
  SMOLLM2,
  asked,
  prompts,
  values,
)

from rest_jax.config import configuration
from rest_jax.models import lora
from rest_jax.pipeline import (
  sampling_sizes,
  sizes,
  training_sizes,
  validation_sizes,
  weight_splits,
)

LLAMA_70B = dataclasses.replace(
  LLAMA_8B, num_layers=80, embed_dim=8192, num_heads=64, mlp_dim=28672
)


@pytest.mark.parametrize('machine', [LAPTOP, GPU, POD], ids=lambda m: m.kind)
@pytest.mark.parametrize('num_samples', [1, 3, 8, 32, 64])
def test_sizes_divide_evenly_and_hold_what_they_must(machine, num_samples):
  for many, longest in itertools.product((1, 7, 45, 7000), (20, 500)):
    texts = prompts(train=(20,) * (many - 1) + (longest,), evaluated=(30,) * 9)
    found = values(asked(num_samples=num_samples), texts, machine)
    assert found['LANES'] <= num_samples
    for name in ('GROUPS', 'GREEDY_GROUPS', 'BATCH_ROWS'):
      assert found[name] % machine.devices == 0, name
    rows = found['BATCH_ROWS'] // found['MICROBATCHES']
    assert found['BATCH_ROWS'] % found['MICROBATCHES'] == 0
    assert rows % machine.devices == 0
    assert found['ROW_LENGTH'] >= longest + 96
    assert found['PROMPT_BUCKET'] >= 1
    assert found['PROBLEMS_PER_PART'] >= found['GREEDY_GROUPS']


@pytest.mark.parametrize('gib', [4, 8, 16, 64])
def test_a_training_step_fits_into_the_memory(gib):
  machine = dataclasses.replace(LAPTOP, device_bytes=gib * GIB)
  found = values(asked(), prompts(), machine)
  needed = sizes.training_bytes(
    SMOLLM2,
    machine,
    found['BATCH_ROWS'] // found['MICROBATCHES'] * found['ROW_LENGTH'],
    found['ROW_LENGTH'],
    found['REMAT'],
  )
  assert needed < gib * GIB


def test_with_lora_a_model_trains_where_its_gradients_would_not_fit():
  """8 G weights in bfloat16, and moments of some tens of millions."""
  gpu = dataclasses.replace(GPU, device_bytes=40 * GIB)
  texts = prompts(train=(300,) * 500)
  model = dataclasses.replace(LLAMA_8B, max_length=2048)
  with pytest.raises(
    configuration.ConfigurationError, match='training: .* LORA_RANK = 16'
  ):
    values(asked(model), texts, gpu)
  config = lora.LoraConfig(rank=16)
  found = values(asked(model, adapters=config), texts, gpu)
  tokens = found['BATCH_ROWS'] // found['MICROBATCHES'] * found['ROW_LENGTH']
  length = found['ROW_LENGTH']
  needed = sizes.training_bytes(
    model, gpu, tokens, length, found['REMAT'], config
  )
  state = 2 * model.num_parameters + 16 * lora.num_parameters(model, config)
  assert state < needed < 40 * GIB
  nothing = sizes.training_bytes(model, gpu, 0, length, 'full', config)
  assert nothing == state


def test_bfloat16_parameters_save_themselves_and_their_gradients():
  """The optimiser's state is float32 in both cases."""
  work = (LAPTOP, 0, 1, 'full')  # no tokens: parameters, gradients, moments
  exact = sizes.training_bytes(SMOLLM2, *work)
  half = dataclasses.replace(SMOLLM2, param_dtype='bfloat16')
  assert exact == 16 * SMOLLM2.num_parameters
  assert sizes.training_bytes(half, *work) == 12 * SMOLLM2.num_parameters


def test_recomputation_is_a_last_resort():
  order = ['full', 'attention', 'dots', 'none']
  remats = []
  for gib in np.arange(2.85, 3.4, 0.025):
    machine = dataclasses.replace(LAPTOP, device_bytes=int(gib * GIB))
    remats.append(values(asked(), prompts(), machine)['REMAT'])
  assert remats == sorted(remats, key=order.index)
  assert set(remats) == set(order)


def test_chips_do_not_keep_what_costs_less_to_compute_again():
  chips = dataclasses.replace(POD, device_bytes=1000 * GIB)
  found = values(asked(LLAMA_8B), prompts(train=(300,) * 7000), chips)
  assert found['REMAT'] == 'dots'


def test_all_activations_of_8b_take_what_the_compiler_says():
  """Two rows of 4,096 on a chip of v5p:4x4x8: 85.2 GiB."""
  chips = dataclasses.replace(POD, devices=128)
  needed = sizes.training_bytes(LLAMA_8B, chips, 8192, 4096, 'none')
  assert 0.9 < needed / (85.17 * GIB) < 1.1


def test_the_less_is_computed_again_the_more_memory_it_takes():
  needed = [
    sizes.training_bytes(LLAMA_8B, POD, 4096, 4096, remat)
    for remat in ('full', 'attention', 'dots', 'none')
  ]
  assert needed == sorted(needed) and needed[0] < needed[-1] / 3


def test_twice_the_vocabulary_takes_less_than_twice_the_memory_of_the_loss():
  """8 G weights with 256,512 ids fit a v5e:16x16; by the compiler 10.3 GiB."""
  large = dataclasses.replace(LLAMA_8B, vocab_size=256_512)
  texts = prompts(train=(300,) * 7000)
  found = values(asked(large, row_length=4096), texts, POD)
  assert found['MICROBATCHES'] == found['BATCH_ROWS'] // 256
  needed = sizes.training_bytes(large, POD, 4096, 4096, 'full')
  assert 8 * GIB < needed < 12 * GIB


def test_a_row_of_70b_on_four_chips_takes_what_the_compiler_says():
  """v5e:16x16, MESH_TENSOR = 4, 64 rows of 4,096, remat full: 14.25 GiB."""
  needed = sizes.training_bytes(LLAMA_70B, POD, 4096, 4096, 'full', tensor=4)
  assert 0.85 < needed / (14.25 * GIB) < 1.1


def test_a_model_that_needs_rows_on_several_chips_is_told_so_and_then_fits():
  texts = prompts(train=(300,) * 7000)
  alone = asked(LLAMA_70B, row_length=3584, sample_weights='int8')
  with pytest.raises(configuration.ConfigurationError) as refused:
    training_sizes.derive(alone, texts, POD)
  tensor, rows = re.search(
    r'MESH_TENSOR = (\d+) with BATCH_ROWS = (\d+) fits', str(refused.value)
  ).groups()
  told = dataclasses.replace(
    alone, train_tensor=int(tensor), batch_rows=int(rows)
  )
  found = training_sizes.derive(told, texts, POD)
  assert found['REMAT'].value == 'full'
  assert found['MICROBATCHES'].value == 1
  open_rows = dataclasses.replace(told, batch_rows='auto')
  found = training_sizes.derive(open_rows, texts, POD)
  assert found['BATCH_ROWS'].value % (POD.devices // int(tensor)) == 0


def test_the_layers_of_a_pattern_are_counted_together():
  """XLA's CPU compiler: 106, 182, 498 MiB for patterns of 1, 2 and 6 layers.

  That was of a network of 12 layers with embed_dim 256 and one row of 1024.
  """

  def activations(pattern, remat):
    window = 256 if 'local' in pattern else None
    model = dataclasses.replace(
      SMOLLM2,
      num_layers=12,
      vocab_size=256,
      layer_pattern=pattern,
      window=window,
    )
    full = sizes.training_bytes(model, LAPTOP, 1024, 1024, remat)
    return full - sizes.training_bytes(model, LAPTOP, 0, 1024, remat)

  six = ('local',) * 5 + ('global',)
  one, two, many = (
    activations(pattern, 'full')
    for pattern in (('global',), ('local', 'global'), six)
  )
  assert 1.5 < two / one < 2 and 4 < many / one < 6
  assert many < activations(six, 'none') == activations(('global',), 'none')


def test_an_8b_model_fits_a_pod_and_no_laptop():
  found = values(asked(LLAMA_8B), prompts(train=(300,) * 7000), POD)
  assert found['GROUPS'] * found['LANES'] >= 256
  with pytest.raises(
    configuration.ConfigurationError, match='sampling: 8.03 G parameters'
  ):
    values(asked(LLAMA_8B), prompts(), LAPTOP)


def test_weights_that_no_more_devices_can_split_ask_for_other_ones():
  """Llama-3.1-70B: 131.4 GiB, of which eight v5e hold 128."""
  model = dataclasses.replace(
    LLAMA_8B, num_layers=80, embed_dim=8192, num_heads=64, mlp_dim=28672
  )
  texts = prompts(train=(300,) * 7000)
  with pytest.raises(configuration.ConfigurationError) as refused:
    sampling_sizes.derive(asked(model), texts, POD)
  for words in (
    'a copy on every 8 devices',
    'need 16.4 GiB of each device',
    'has 12.8 to use',
    "Set SAMPLE_WEIGHTS = 'int8', or take devices of more memory",
    'divide by 8 at most',
  ):
    assert words in str(refused.value)
  # The advice helps; more devices or shorter completions would not.
  sampling_sizes.derive(asked(model, sample_weights='int8'), texts, POD)
  sampling_sizes.derive(
    asked(model), texts, dataclasses.replace(POD, device_bytes=32 * GIB)
  )
  for work, machine in (
    (asked(model), dataclasses.replace(POD, devices=2048)),
    (asked(model, max_decode_length=1), POD),
  ):
    with pytest.raises(configuration.ConfigurationError):
      sampling_sizes.derive(work, texts, machine)


def test_what_fits_for_sampling_and_not_for_training_says_so():
  machine = dataclasses.replace(GPU, device_bytes=40 * GIB)
  with pytest.raises(
    configuration.ConfigurationError, match='training: 8.03 G parameters'
  ):
    values(asked(LLAMA_8B), prompts(), machine)


def test_little_memory_decodes_fewer_rows_at_once():
  rows = []
  for gib in (1, 2, 8):
    machine = dataclasses.replace(LAPTOP, device_bytes=gib * GIB)
    work = asked(max_decode_length=2048, num_samples=1)
    rows.append(sampling_sizes.derive(work, prompts(), machine)['GROUPS'].value)
  assert rows == sorted(rows) and rows[0] < rows[-1]


def test_int8_weights_leave_room_for_more_rows():
  machine = dataclasses.replace(GPU, device_bytes=24 * GIB)
  rows = []
  for weights in ('as_trained', 'int8'):
    work = asked(
      LLAMA_8B, max_decode_length=1024, num_samples=1, sample_weights=weights
    )
    texts = prompts(train=(500,) * 1000)
    rows.append(sampling_sizes.derive(work, texts, machine)['GROUPS'].value)
  assert rows[1] > 1.5 * rows[0]
  # They are read before they are rounded.
  machine = dataclasses.replace(GPU, device_bytes=18 * GIB)
  with pytest.raises(
    configuration.ConfigurationError,
    match='need 15.0 GiB of each device; .* 14.4 to use. Take more devices',
  ):
    sampling_sizes.derive(work, prompts(), machine)


def test_few_problems_make_small_batches():
  found = values(asked(), prompts(train=(50,) * 2, evaluated=(50,) * 7), LAPTOP)
  assert found['GROUPS'] == 2 and found['GREEDY_GROUPS'] == 7


def test_sets_that_are_not_evaluated_together_need_no_rows_together():
  """D_val's rows would wait beside the test problems', and the reverse."""
  texts = sizes.Prompts(train=(50,) * 9, evaluated=(50,) * 19, largest_set=12)
  assert values(asked(), texts, LAPTOP)['GREEDY_GROUPS'] == 12


def test_a_device_that_takes_long_for_a_step_is_looked_at_more_often():
  chunks = [
    values(asked(), prompts(), machine)['DECODE_CHUNK']
    for machine in (LAPTOP, GPU, POD)
  ]
  assert chunks[0] < chunks[1] == chunks[2]


def test_what_is_set_is_kept_and_the_rest_follows():
  found = values(
    asked(row_length=512, batch_rows=6, lanes=2, prompt_bucket=77),
    prompts(),
    LAPTOP,
  )
  assert found['PROMPT_BUCKET'] == 77 and found['LANES'] == 2
  assert found['ROW_LENGTH'] == 512 and found['BATCH_ROWS'] == 6


def test_short_prompts_do_not_pay_for_a_few_long_ones():
  texts = prompts(train=(20,) * 40 + (400,) * 3)
  bucket = values(asked(), texts, LAPTOP)['PROMPT_BUCKET']
  assert bucket <= 112 and bucket * 4 >= 400


def test_few_problems_of_like_lengths_have_one_program():
  """Each program of sampling ends with its last sample alone."""
  lengths = (50,) * 40 + (120,) * 20
  few = values(asked(), prompts(train=lengths, evaluated=()), LAPTOP)
  many = values(asked(), prompts(train=lengths * 9, evaluated=()), LAPTOP)
  assert many['PROMPT_BUCKET'] < 120 <= few['PROMPT_BUCKET']


def test_a_prefix_that_all_prompts_share_is_not_padded_with_each_question():
  lengths = dict(train=(450,) * 40, evaluated=(460,) * 20)
  alone = values(asked(), sizes.Prompts(**lengths), LAPTOP)
  shared = values(asked(), sizes.Prompts(**lengths, shared=400), LAPTOP)
  assert alone['PROMPT_BUCKET'] >= 460 and 60 <= shared['PROMPT_BUCKET'] < 80


def test_the_fewest_chips_that_hold_the_weights():
  """16 GB of bfloat16 on chips of 16 GiB; kv heads divide over the chips."""
  assert weight_splits.fewest(asked(LLAMA_8B), POD) == 2
  half = asked(LLAMA_8B, sample_weights='int8')
  assert weight_splits.fewest(half, POD) == 1
  assert weight_splits.fewest(asked(LLAMA_8B), POD, beside=3 * GIB) == 4
  assert weight_splits.fewest(asked(), POD) == 1


def test_a_validation_splits_weights_over_more_devices_where_rows_are_few():
  """Reading them takes the time; beside the state of the training they fit."""
  few = prompts(train=(300,) * 7000, evaluated=(300,) * 500)
  model = asked(LLAMA_8B)
  assert values(model, few, POD)['DVAL_MESH_TENSOR'] == 8
  assert validation_sizes.tensor(model, POD, 512).value == 8
  many = validation_sizes.tensor(model, POD, 64 * 256)
  assert many.value == 4  # 256 rows a copy and device
  small = dataclasses.replace(POD, devices=16, name='v5e:4x4')
  assert weight_splits.fewest(model, small) == 2
  crowded = validation_sizes.tensor(model, small, 16 * 256)
  assert crowded.value == 4  # 5.6 GiB of state are beside them
  layout = {'split': 4, 'prompts': few, 'bucket': 512}
  for rows, fitting in ((64, 64), (16 * 256, None)):
    found = validation_sizes.fitting_rows(model, small, rows=rows, **layout)
    needed = validation_sizes.needs(
      model, small, problems=500, rows=found, cores=1, **layout
    )
    assert needed.device_bytes <= sizes.USABLE * small.device_bytes
    assert found == (fitting or found) <= rows and found % 16 == 0
  assert values(asked(), prompts(), LAPTOP)['DVAL_MESH_TENSOR'] == 1


def test_lanes_are_fewer_than_samples_where_there_are_problems_enough():
  """So that they are refilled; with few problems all rows are used."""
  enough = prompts(train=(50,) * 500)
  assert values(asked(num_samples=32), enough, LAPTOP)['LANES'] == 8
  assert values(asked(num_samples=8), enough, LAPTOP)['LANES'] == 2
  few = values(asked(num_samples=32), prompts(train=(50,) * 2), LAPTOP)
  assert few['LANES'] * few['GROUPS'] == 32


def test_prompts_that_leave_no_room_are_counted():
  tight = dataclasses.replace(SMOLLM2, max_length=128)
  sizes.require_room(
    asked(tight), prompts(train=(20,) * 199 + (33,), evaluated=())
  )
  with pytest.raises(
    configuration.ConfigurationError, match='3 of 100 prompts do not fit'
  ):
    sizes.require_room(
      asked(tight), prompts(train=(20,) * 97 + (33,) * 3, evaluated=())
    )


def test_of_several_tasks_the_largest_counts():
  found = sizes.sizes(
    model=SMOLLM2,
    num_samples={'math': 32, 'apps': 64},
    max_decode_length=96,
    solutions_kept={'math': 10, 'apps': 4},
    prompt_bucket='auto',
    lanes='auto',
    row_length=None,
    batch_rows='auto',
  )
  assert (found.num_samples, found.solutions_kept) == (64, 10)


def test_rows_that_do_not_divide_over_the_devices_are_allowed():
  simulated = dataclasses.replace(LAPTOP, devices=8)
  found = values(asked(batch_rows=6, row_length=512), prompts(), simulated)
  assert 6 % found['MICROBATCHES'] == 0


def test_the_remat_of_a_model_that_is_set_decides_the_microbatches():
  """What would fit only with recomputation is not counted on."""
  machine = dataclasses.replace(LAPTOP, device_bytes=4 * GIB)
  full = dataclasses.replace(SMOLLM2, remat='full')
  kept = asked(full, derives_remat=False)
  found = values(kept, prompts(), machine)
  assert found['REMAT'] == 'full'
  tight = dataclasses.replace(LAPTOP, device_bytes=3 * GIB)
  values(kept, prompts(), tight)  # fits
  with pytest.raises(configuration.ConfigurationError, match="remat = 'none'"):
    values(asked(derives_remat=False), prompts(), tight)


MATH = sizes.Prompts(
  train=(692,) * 7000, evaluated=(692,) * 100, validated=50, shared=603
)
OF_MATH = {'num_samples': 32, 'max_decode_length': 1024}


def test_rows_have_room_for_two_problems_whose_examples_lie_together():
  """89 tokens of a question and five solutions of 512, as is assumed."""
  remat = dataclasses.replace(LLAMA_8B, remat='full')
  wanted = asked(remat, derives_remat=False, **OF_MATH)
  found = values(wanted, MATH, POD)
  assert (found['ROW_LENGTH'], found['BATCH_ROWS']) == (4096, 256)
  apart = dataclasses.replace(wanted, share_prompt=False)
  assert values(apart, MATH, POD)['ROW_LENGTH'] == 2048
  short = asked(max_decode_length=256)  # problems of 689 tokens
  assert values(short, MATH, POD)['ROW_LENGTH'] == 2048
  small = dataclasses.replace(remat, max_length=3000)
  tight = dataclasses.replace(wanted, model=small)
  assert values(tight, MATH, POD)['ROW_LENGTH'] == 3000


def test_rows_are_not_longer_where_more_would_be_computed_again():
  lengths = set()
  wanted = asked(LLAMA_8B, **OF_MATH)
  for tenths in range(60, 260, 2):
    machine = dataclasses.replace(POD, device_bytes=int(tenths * GIB / 10))
    try:
      found = values(wanted, MATH, machine)
    except configuration.ConfigurationError:
      continue
    short = values(dataclasses.replace(wanted, row_length=2048), MATH, machine)
    assert found['REMAT'] == short['REMAT'], tenths
    lengths.add(found['ROW_LENGTH'])
  assert lengths == {2048, 4096}
