"""Over how many chips a copy of the weights is split, against brute force."""

import dataclasses

import numpy as np
import pytest
from sized_run import GIB, GPU, LAPTOP, LLAMA_8B, SMOLLM2, asked

from rest_jax.executors import machine, topologies
from rest_jax.pipeline import (
  decoding_time,
  sampling_memory,
  sampling_sizes,
  sizes,
  weight_splits,
)

MATH = sizes.Prompts(
  train=(692,) * 7000 + (853,) * 120,
  evaluated=(692,) * 5000,
  largest_set=5000,
  shared=603,
)
OF_MATH = {'num_samples': 32, 'max_decode_length': 1024}
MODELS = {
  'smollm2_135m': dataclasses.replace(SMOLLM2, dtype='bfloat16'),
  'llama3p2_1b': dataclasses.replace(
    LLAMA_8B,
    num_layers=16,
    embed_dim=2048,
    head_dim=64,
    mlp_dim=8192,
    tie_embeddings=True,
  ),
  'llama3_8b': LLAMA_8B,
  'gemma2_9b': dataclasses.replace(
    LLAMA_8B,
    vocab_size=256000,
    num_layers=42,
    embed_dim=3584,
    num_heads=16,
    head_dim=256,
    tie_embeddings=True,
  ),
  'llama3_70b': dataclasses.replace(
    LLAMA_8B, num_layers=80, embed_dim=8192, num_heads=64, mlp_dim=28672
  ),
}
SLICES = (
  *('v4:2x2x1', 'v5e:2x2', 'v5e:2x4', 'v5e:4x4', 'v5p:2x2x1', 'v5p:4x4x8'),
  *('v6e:2x2', 'v6e:2x4', 'v6e:16x16'),
)


def chips(name):
  return machine.of_slices(topologies.parse(name, 'a slice'))


def derived(model, chips, **changes):
  found = sampling_sizes.derive(asked(model, **OF_MATH | changes), MATH, chips)
  return found['SAMPLE_MESH_TENSOR'].value


def by_hand(model, machine, split, rows, row_bytes):
  """Seconds of a step of 16-bit weights, written out."""
  chip = machine.topology.generation
  here = rows / machine.devices
  weights = 1.03 * 2 * model.num_parameters / split / chip.hbm_bandwidth
  caches = 1.13 * here * row_bytes / chip.hbm_bandwidth
  choice = 84 * here * model.vocab_size / chip.hbm_bandwidth
  products = 1.05 * 2 * model.num_parameters * here / chip.peak_flops
  sent = 0.0
  if split > 1:
    array = here * split * model.embed_dim * 2
    # Each chip sends its share of the sums on, n - 1 times, twice; a pair has
    # one link, a ring one in each direction.
    links = 1 if split == 2 else 2
    one = 2 * (split - 1) * array / split / (links * chip.link_speed)
    hops = {2: 1, 4: 2, 8: 4}[split]  # of 1 x 2, 2 x 2, 2 x 4 chips
    sent = (2 * model.num_layers + 1) * (one + 2 * hops * 2.7e-6)
  return weights + caches + choice + products + sent


@pytest.mark.parametrize('split', [1, 2, 4, 8])
@pytest.mark.parametrize('model', MODELS.values(), ids=MODELS)
def test_a_step_is_what_is_read_multiplied_and_sent(model, split):
  for found in map(chips, ('v5e:2x4', 'v5p:2x2x2', 'v6e:4x4')):
    step = decoding_time.step(
      asked(model, sample_tensor=split), found, rows=96, row_bytes=1e8, cores=1
    )
    expected = by_hand(model, found, split, 96, 1e8)
    assert step == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('name', SLICES)
@pytest.mark.parametrize('model', MODELS.values(), ids=MODELS)
def test_the_split_is_what_brute_force_finds(model, name):
  found, at_once = chips(name), {}
  prefix = 4 * model.num_layers * model.num_kv_heads * model.head_dim
  lanes, question, new = 8, 256, 1024
  rates = {}
  for split in (1, 2, 4, 8):
    whole = (model.num_heads, model.num_kv_heads, found.devices)
    if any(size % split for size in whole):
      continue
    if 2 * model.num_parameters / split > 0.6 * found.device_bytes:
      continue
    free = 0.8 * found.device_bytes
    free -= (2 * model.num_parameters + 603 * prefix) / split
    memory = sampling_memory.sample_bytes(model, lanes, question, new)
    rows = int(min(256, free / memory) * found.devices) // lanes * lanes
    rows = at_once[split] = max(0, min(rows, 32 * 7120))
    if not rows:
      rates[split] = 0.0
      continue
    row_bytes = prefix * (new + question / lanes)
    rates[split] = rows / by_hand(model, found, split, rows, row_bytes)
  if not rates:
    return  # refused: test_sizes.py
  host = found.topology.chips_per_host
  within = [split for split in rates if split <= host] or [min(rates)]
  best = within[0]
  for split in within[1:]:
    if rates[split] > 1.1 * rates[best]:
      best = split
  assert derived(model, found) == best


@pytest.mark.parametrize('name', SLICES)
def test_small_models_stay_on_one_chip(name):
  for model in (MODELS['smollm2_135m'], MODELS['llama3p2_1b']):
    assert derived(model, chips(name)) == 1


def test_what_is_derived_for_models_of_8b():
  """v5p has memory for all rows at once."""
  found = {
    (model, name): derived(MODELS[model], chips(name))
    for model in ('llama3_8b', 'gemma2_9b')
    for name in ('v5e:2x2', 'v5p:2x2x1', 'v6e:2x2')
  }
  assert found == {
    ('llama3_8b', 'v5e:2x2'): 4,
    ('llama3_8b', 'v5p:2x2x1'): 1,
    ('llama3_8b', 'v6e:2x2'): 2,
    ('gemma2_9b', 'v5e:2x2'): 4,
    ('gemma2_9b', 'v5p:2x2x1'): 1,
    ('gemma2_9b', 'v6e:2x2'): 4,
  }


def test_a_copy_stays_within_a_host_where_one_holds_it():
  """v5e:2x4 is one host, v5e:4x4 four hosts of four."""
  quick = {'_HOP': 0.0, '_TPU_CHOICE_BYTES': 0.0}
  with pytest.MonkeyPatch.context() as patch:
    for constant, value in quick.items():
      patch.setattr(decoding_time, constant, value)
    patch.setattr(weight_splits, 'LEAST_GAIN', 0.0)
    few = sizes.Prompts(train=(692,), evaluated=(692,))

    def split(name, model):
      found = sampling_sizes.derive(
        asked(model, num_samples=1), few, chips(name)
      )
      return found['SAMPLE_MESH_TENSOR'].value

    assert split('v5e:2x4', LLAMA_8B) == 8
    assert split('v5e:4x4', LLAMA_8B) == 4
    # No host of four holds it: the fewest chips that do, and no more.
    assert split('v6e:4x4', MODELS['llama3_70b']) == 8


def test_a_split_is_raised_only_for_what_it_gains():
  """Whatever the links: against the fewest chips, and against every lower."""
  work = asked(LLAMA_8B, **OF_MATH)
  slow = chips('v5e:2x4')
  seen = set()
  for speed in np.geomspace(1e8, 1e13, 40):
    chip = dataclasses.replace(
      slow.topology.generation, link_speed=float(speed)
    )
    here = dataclasses.replace(
      slow, topology=dataclasses.replace(slow.topology, generation=chip)
    )
    rows, row_bytes = {2: 320, 4: 544, 8: 1100}, 1.0e8

    def rate(split, here=here, rows=rows, row_bytes=row_bytes):
      of_split = dataclasses.replace(work, sample_tensor=split)
      return rows[split] / decoding_time.step(
        of_split, here, rows=rows[split], row_bytes=row_bytes, cores=1
      )

    best = weight_splits.cheapest(work, here, rows.get, row_bytes)
    for split in (2, 4, 8):
      if split < best:
        assert rate(best) > 1.1 * rate(split)
      if split > best:
        assert rate(split) <= 1.1 * rate(best)
    seen.add(best)
  assert seen == {2, 4, 8}


def test_other_devices_share_weights_only_where_one_does_not_hold_them():
  """Nothing is known of their links."""
  for found in (GPU, dataclasses.replace(GPU, devices=8)):
    assert derived(LLAMA_8B, found) == 1
  two = dataclasses.replace(GPU, devices=8, device_bytes=24 * GIB)
  assert derived(LLAMA_8B, two, max_decode_length=256) == 2
  assert derived(SMOLLM2, dataclasses.replace(LAPTOP, devices=4)) == 1


def test_what_is_set_by_hand_is_kept():
  for split in (2, 4, 8):
    assert derived(LLAMA_8B, chips('v5e:2x4'), sample_tensor=split) == split


@pytest.mark.parametrize(
  'model, name, split, rows, milliseconds',
  [
    ('llama3_8b', 'v5e:2x2', 2, 40, 21.9),
    ('llama3_8b', 'v5e:2x2', 4, 40, 16.4),
    ('llama3_8b', 'v5e:2x4', 4, 64, 23.6),
    ('llama3_8b', 'v5p:2x2x1', 1, 256, 30.8),
    ('llama3_8b', 'v6e:2x2', 1, 72, 18.6),
    ('llama3_70b', 'v6e:2x4', 8, 32, 24.4),
    ('llama3p2_1b', 'v5e:2x2', 1, 144, 13.8),
    ('smollm2_135m', 'v5e:2x2', 1, 256, 10.7),
  ],
)
def test_a_step_takes_what_the_compiler_says(
  model, name, split, rows, milliseconds
):
  """What preflight printed for `rows` a chip, less its collectives."""
  found, network = chips(name), MODELS[model]
  work = asked(network, sample_tensor=split)
  rows *= found.devices
  row_bytes = sampling_memory.row_bytes(network, 8, 256, 1024)
  step = decoding_time.step(
    work, found, rows=rows, row_bytes=row_bytes, cores=1
  )
  computing = step - decoding_time._waiting(work, found, rows)
  assert 1e3 * computing == pytest.approx(milliseconds, rel=0.05)
