"""When an M-step stops, on sequences made by hand."""

import pytest

from rest_jax.training.early_stopping import Decision, decide
from rest_jax.training.hyperparameters import ValidationConfig

FIRST = ValidationConfig(every=10, rule='first_non_increase')
BEST = ValidationConfig(every=10, rule='best', patience=2)


def decisions(config, rewards):
  """The decision after each validation, until the first that stops."""
  result = []
  for count in range(1, len(rewards) + 1):
    steps = range(0, 10 * count, 10)
    pairs = list(zip(steps, rewards[:count], strict=True))
    result.append(decide(config, pairs))
    if result[-1].stop:
      break
  return result


@pytest.mark.parametrize(
  'rewards, best, after',
  [
    ([0.5, 0.6, 0.7, 0.6, 0.9], 20, 4),  # the later 0.9 is never seen
    ([0.5, 0.5, 0.9], 0, 2),  # no gain is no increase
    ([0.5, 0.4], 0, 2),  # step 0, the untouched base, counts
    ([0.0, 0.1, 0.1], 10, 3),
  ],
)
def test_first_non_increase_takes_the_step_before(rewards, best, after):
  found = decisions(FIRST, rewards)
  assert found[-1] == Decision(True, best)
  assert len(found) == after


@pytest.mark.parametrize(
  'rewards, best, after',
  [
    ([0.5, 0.4, 0.6, 0.5, 0.55, 0.9], 20, 5),
    ([0.5, 0.4, 0.3], 0, 3),
    ([0.5, 0.6, 0.6, 0.6], 10, 4),  # of equals the earlier
    ([0.1, 0.0, 0.2, 0.0, 0.3, 0.0, 0.0], 40, 7),
  ],
)
def test_best_waits_for_its_patience_and_takes_the_earliest_best(
  rewards, best, after
):
  found = decisions(BEST, rewards)
  assert found[-1] == Decision(True, best)
  assert len(found) == after


@pytest.mark.parametrize('config', [FIRST, BEST])
def test_rising_rewards_never_stop_and_the_newest_is_best(config):
  found = decisions(config, [0.1, 0.2, 0.3, 0.4])
  assert found == [Decision(False, step) for step in (0, 10, 20, 30)]


def test_patience_one_stops_at_the_first_that_is_no_new_best():
  config = ValidationConfig(every=10, rule='best', patience=1)
  assert decisions(config, [0.3, 0.5, 0.4])[-1] == Decision(True, 10)
