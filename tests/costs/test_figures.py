"""Figures of chips and runs against hand arithmetic."""

import dataclasses

import numpy as np
import pytest
import small_networks

from rest_jax.costs import figures, report, training_rows, whole_run
from rest_jax.costs.figures import Figures, Sampling, Training
from rest_jax.executors.topologies import GENERATIONS
from rest_jax.training.hyperparameters import TrainConfig

# Round numbers, so that all can be computed in one's head.
CHIP = dataclasses.replace(
  GENERATIONS['v5e'],
  clock_hertz=1e9,
  hbm_bandwidth=100e9,
  peak_flops=10e12,
  links=1,
  link_speed=10e9,
  hbm_bytes=8 * 2**30,
)


def figures_of(cycles, waiting=0.0, beside=0.0, prefetched=0.0, parts=None):
  return Figures(
    chip=CHIP,
    memory={'arguments': 3, 'total': 3},
    cycles=cycles,
    prefetched_bytes=prefetched,
    parts=parts or {},
    waiting={'all-reduce': waiting},
    beside={'all-gather': beside},
  )


def test_collectives_beside_the_products_cost_what_they_take_longer():
  # 2 s of computing, 0.5 s of waiting.
  assert figures_of(2e9, waiting=5e9, beside=10e9).seconds == 2.5
  assert figures_of(2e9, waiting=5e9, beside=30e9).seconds == 2.5 + 1


def test_the_largest_costs_are_shares_of_all_seconds():
  of = figures_of(8e9, waiting=20e9, parts={'a': 1e9, 'b': 5e9, 'c': 2e9})
  assert of.largest() == [('b', 0.5), ('c', 0.2), ('collectives', 0.2)]


def test_mfu_and_rates_of_training():
  step = figures_of(2e9, waiting=20e9)  # 2 s, and 2 s of waiting
  of = Training(
    step=step, flops=40e12, chips=4, tokens=16_000, examples=40, fill=0.5
  )
  assert of.mfu == pytest.approx(40e12 / (4 * 10e12 * 4))
  assert of.mfu_alone == pytest.approx(40e12 / (4 * 10e12 * 2))
  assert of.tokens_per_second == 16_000 / 4 / 4
  assert of.examples_per_chip_hour == 40 / 4 / 4 * 3600


def test_the_next_choice_of_remat_is_named_where_there_is_room_for_it():
  step = figures_of(2e9, parts={'computed again (remat)': 5e8})
  of = Training(step, flops=1, chips=1, tokens=1, examples=1, fill=1)
  named = {}
  for remat in ('full', 'attention', 'dots', 'none'):
    model = small_networks.network(remat=remat)
    advice = [
      line for line in report.training(of, model) if 'computed again' in line
    ][1:]  # behind the largest costs
    named[remat] = [
      line.partition('remat=')[2].split(',')[0] for line in advice
    ]
  # TPUs would spend more on copies of what 'none' keeps.
  assert named == {
    'full': ['attention'],
    'attention': ['dots'],
    'dots': [],
    'none': [],
  }


def sampling_of(**changes):
  fields = dict(
    step=figures_of(5e6, prefetched=1e8),  # 5 ms, and 1 ms of prefetches
    prefill=figures_of(36e6),  # 36 ms
    prompts=4,
    chips=8,
    rows=64,
    least_bytes=3e8,  # 3 ms
    suffix_bytes=8e8,  # 2 x 8 ms in 16 steps
    chunk=16,
  )
  return Sampling(**(fields | changes))


def test_bandwidth_and_rates_of_sampling():
  of = sampling_of()
  assert of.seconds == pytest.approx(0.005 + 0.001 + 0.016 / 16)
  assert of.hbm_share == pytest.approx((3 / 7, 3 / 5))
  assert of.tokens_per_second == pytest.approx(64 / 0.007 / 8)


def test_hours_of_sampling():
  """640 samples in 64 lanes: ten after each other, of 76 + 24 steps."""
  of = sampling_of()
  seconds = 10 * (76 + 24) * 0.007 + 100 / 4 * 0.036
  assert of.hours(640, 100, 76) == pytest.approx(seconds / 3600)


def test_a_line_through_two_depths_goes_through_a_third():
  def depth(layers):
    parts = {'layers': 3e6 * layers, 'head': 7e6}
    return figures_of(
      7e6 + 3e6 * layers,
      beside=2e6 * layers,
      prefetched=1e6 * layers,
      parts=parts,
    )

  assert figures.line(depth(2), depth(4), (2, 4, 32)) == dataclasses.replace(
    depth(32), memory={'arguments': 3, 'total': 3}
  )


def size_of(**changes):
  extent = whole_run.Extent(
    iterations=3,
    learning_rates=(1e-5, 2e-5),
    eval_streams=('eval/greedy', 'eval/sampled'),
    eval_samples=16,
  )
  fields = dict(
    extent=extent,
    problems=100,
    dval_problems=32,
    eval_problems=50,
    num_samples=32,
    dval_samples=1,
    completion=76,
    longest=500,
    kept=5,
    steps=100,
    epochs=0.0,
    dval_every=40,
  )
  return whole_run.Size(**(fields | changes))


TRAINING = Training(
  step=figures_of(4e9), flops=1, chips=4, tokens=1, examples=50, fill=1
)


def test_hours_of_a_run_are_the_sum_of_its_stages():
  sample, dval = sampling_of(), sampling_of(chips=4)
  found = whole_run.hours(size_of(), TRAINING, sample, dval, workers=2)
  sampled = 3 * sample.hours(3200, 100, 76) / 2
  # Six trainings, each of 100 steps of 4 s with validations at 0, 40, 80; a
  # validation's longest sample takes longer than all would side by side.
  trained, validated = 6 * 100 * 4 / 3600, 6 * 3 * 500 * 0.007 / 3600
  # Four models greedily; two of them 16 times more.
  evaluated = sample.hours(4 * 50 + 2 * 50 * 16, 4 * 50 + 2 * 50, 76) / 2
  assert found.sampling == pytest.approx(sampled)
  assert found.training == pytest.approx(trained)
  assert found.validation == pytest.approx(validated)
  assert found.evaluation == pytest.approx(evaluated)
  assert found.chip_hours == pytest.approx(
    2 * 8 * (sampled + evaluated) + 4 * (trained + validated)
  )
  assert found.passes == pytest.approx(100 * 50 / 500)


@pytest.mark.parametrize(
  ('every', 'share', 'is_said'),
  [
    (40, 3.5 / 160, False),
    (5, 3.5 / 20, True),
    (400, 3.5 / 400, False),  # the training has 100 steps
  ],
)
def test_a_validation_is_set_against_the_steps_between_two(
  every, share, is_said
):
  """Its longest sample, 500 tokens of 7 ms, against steps of 4 s."""
  found = whole_run.hours(
    size_of(dval_every=every),
    TRAINING,
    sampling_of(),
    sampling_of(chips=4),
    workers=1,
  )
  assert found.dval_share == pytest.approx(share)
  lines = report.run(found, 3, 2, 'a slice')
  assert any(f'validation 3.5 s, {share:.1%} of' in line for line in lines)
  assert any('DVAL_EVERY' in line for line in lines) == is_said


def test_epochs_end_a_training_before_its_last_step():
  found = whole_run.hours(
    size_of(epochs=2.0), TRAINING, sampling_of(), sampling_of(), workers=1
  )
  assert found.steps == 2 * 500 / 50


MODEL = small_networks.network(
  vocab_size=1000,
  num_layers=2,
  embed_dim=64,
  num_heads=4,
  head_dim=16,
  mlp_dim=128,
  max_length=512,
  tie_embeddings=False,
)


def test_full_rows_need_what_the_field_counts():
  """6 for each weight and token, and half of 12 L H E S for causal scores."""
  rows = training_rows.full(MODEL, 512)
  weights = MODEL.num_parameters - 1000 * 64  # the lookup multiplies nothing
  scores = 12 * 2 * 4 * 16 * (512 * 513 / 2)
  assert rows.flops(MODEL, 3) == 3 * (6 * weights * 512 + scores)


def test_padding_prompts_and_windows_need_what_they_need():
  """Scores of targets alone; a prefix once; a window's pairs in its layer."""
  model = dataclasses.replace(
    MODEL, layer_pattern=('global', 'local'), window=4
  )
  rows = training_rows.Rows(
    plan=None,
    examples=2,
    tokens=100,
    targets=40,
    most_targets=50,
    pairs={'global': 3000.0, 'local': 350.0},
    prefix=10,
  )
  layers = MODEL.num_parameters - 2 * 1000 * 64
  # The prefix: 1 + 2 + … + 10 pairs, and 1 + 2 + 3 + 7 x 4 in the window.
  pairs = 5 * (3000 + 350) + 55 + 34
  needed = layers * (5 * 100 + 10) + 1000 * 64 * 5 * 40
  scores = 12 * 4 * 16 * pairs
  assert rows.flops(model, 5) == 6 * needed + scores
  # Frozen weights have no gradients of their own.
  assert rows.flops(model, 5, trained=0.25) == 4.5 * needed + scores


@pytest.mark.parametrize('share', [True, False])
def test_packed_rows_count_every_token_target_and_pair(share):
  texts = training_rows.Texts(
    prompts=[140] * 40, prefix=130, solution=20.0, longest=60, kept=4.0
  )
  config = TrainConfig(
    max_steps=1, batch_rows=8, row_length=512, share_prompt=share
  )
  rows = training_rows.packed(MODEL, config, texts)
  # An example of n tokens has n - 1 inputs; the first is the prompt's.
  tokens_of_targets = rows.targets / rows.examples
  assert 15 < tokens_of_targets < 27  # a solution of 20 and its EOS
  if share:
    assert rows.prefix == 130
    # Nine tokens of a question for four solutions.
    expected = 9 / 4 + tokens_of_targets
    first = 139  # tokens before a solution's first input
  else:
    assert rows.prefix == 0
    expected, first = 139 + tokens_of_targets, 139
  assert rows.tokens / rows.examples == pytest.approx(expected, rel=0.05)
  # Each input sees itself and all before it in its own text.
  longest = rows.pairs['global'] / rows.tokens
  assert longest > (first if share else first / 2)
  assert longest < first + 60
  assert rows.pairs['local'] == rows.pairs['global']  # without windows


def test_drawn_lengths_have_the_mean_that_was_asked_for():
  """Of 100,000 draws of standard deviation 0.8 x the mean: 0.25 % off at 1 s;
  wrong by 2 % once in 10^14."""
  drawn = training_rows.lengths(200, 100_000, 10_000, seed=3)
  assert np.mean(drawn) == pytest.approx(200, rel=0.02)
  assert training_rows.lengths(200, 1000, 150, seed=3).max() == 150
