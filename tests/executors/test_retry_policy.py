"""How often a job is started again, and after which pause."""

import pytest

from rest_jax.config import configuration
from rest_jax.executors import exit_codes
from rest_jax.executors.retry_policy import Attempts, RetryPolicy


def test_retries_and_preemptions_are_counted_apart():
  attempts = Attempts(RetryPolicy(retries=2, preemptions=3))
  codes = [7, 42, 42, -9, 42]
  assert all(attempts.ended(code).again for code in codes)
  assert not attempts.ended(1).again
  assert not attempts.ended(exit_codes.PREEMPTED).again


@pytest.mark.parametrize('code', [1, 7, 75, -9, -11, 137, 255])
def test_an_unknown_end_is_retried_as_often_as_the_policy_says(code):
  for retries in range(4):
    attempts = Attempts(RetryPolicy(retries=retries))
    again = [attempts.ended(code).again for _ in range(retries + 1)]
    assert again == [True] * retries + [False]


def test_a_wrong_configuration_is_never_tried_again():
  attempts = Attempts(RetryPolicy(retries=9, preemptions=9))
  assert not attempts.ended(exit_codes.CONFIGURATION).again


def test_the_pause_doubles_up_to_its_limit_and_a_preemption_has_none():
  attempts = Attempts(RetryPolicy(retries=12, backoff_seconds=2.0))
  pauses = [attempts.ended(1).pause_seconds for _ in range(12)]
  assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
  assert pauses == sorted(pauses) and pauses[-1] == 300.0
  assert attempts.ended(exit_codes.PREEMPTED).pause_seconds == 0.0


@pytest.mark.parametrize('field', ['retries', 'preemptions', 'backoff_seconds'])
def test_a_negative_number_is_refused(field):
  with pytest.raises(configuration.ConfigurationError, match=field):
    RetryPolicy(**{field: -1})


def test_what_ran_out_of_memory_is_not_tried_again():
  decision = Attempts(RetryPolicy(retries=9)).ended(-9, 'try GROUPS=8')
  assert (decision.again, decision.reason) == (False, 'try GROUPS=8')
