"""Names and numbers as the page writes them."""

import pytest

from rest_jax.evaluation import results
from rest_jax.reporting import formatting


@pytest.mark.parametrize(
  ('name', 'shown'),
  [
    ('base', 'base'),
    ('sft_human', 'SFT on human solutions'),
    ('iteration_03', 'iteration 3'),
    ('iteration_12', 'iteration 12'),
    ('iteration_best', 'iteration_best'),
    ('my_iteration_03', 'my_iteration_03'),
  ],
)
def test_models_have_names_for_readers(name, shown):
  assert formatting.model_name(name) == shown


@pytest.mark.parametrize(
  ('value', 'shown'),
  [
    (None, '–'),
    (0, '0'),
    (1921, '1,921'),
    (1921.0, '1,921'),
    (76035, '76,035'),
    (0.0003, '0.0003'),
    (29.514, '29.51'),
    (12345.6, '12,346'),
    (-4000.5, '-4,000'),
    (1e-05, '1e-05'),
    (12345678.0, '12,345,678'),
  ],
)
def test_a_count_is_written_the_same_whether_it_is_stored_as_a_float(
  value, shown
):
  assert formatting.number(value) == shown


@pytest.mark.parametrize(
  ('value', 'share', 'other'),
  [
    (0.71, '71.0%', '0.710'),
    (0.6933, '69.3%', '0.693'),
    (1, '100.0%', '1.000'),
    (None, '–', '–'),
  ],
)
def test_rewards_have_one_precision(value, share, other):
  assert formatting.reward(value, True) == share
  assert formatting.reward(value, False) == other


@pytest.mark.parametrize(
  ('seconds', 'shown'),
  [
    (0.4, '0:00:00'),
    (59.6, '0:01:00'),
    (3599.5, '1:00:00'),
    (90061, '25:01:01'),
    (None, '–'),
  ],
)
def test_times_are_hours_minutes_and_seconds(seconds, shown):
  assert formatting.duration(seconds) == shown


def test_an_interval_stands_beside_its_value_where_there_is_one():
  known = results.Estimate(value=0.7, ci_low=0.66, ci_high=0.74, n=500)
  assert formatting.estimated(known) == '70.0% [66.0,\u00a074.0]'
  unknown = results.Estimate(value=0.7, ci_low=None, ci_high=None, n=1)
  assert formatting.estimated(unknown) == '70.0%'
  assert formatting.estimated(None) == '–'
