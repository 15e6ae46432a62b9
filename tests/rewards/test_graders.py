"""The registry of graders."""

import pytest

from rest_jax import configuration
from rest_jax.evaluation import metrics
from rest_jax.rewards import graders, verdicts


def test_every_grader_loads_and_gives_verdicts():
  texts = {'math': '\\boxed{4}', 'bbh': 'The answer is 4.'}
  for name, grader in graders.REGISTRY.items():
    assert grader.label == f'{name}/{grader.version}'
    if grader.reads == 'answer':
      text = texts.get(name, '#### 4')
      verdict = graders.grade(name, completion=text, reference='4')
      assert verdict.outcome == verdicts.CORRECT
    verdict = graders.grade(name, completion='4', reference='')
    assert verdict.outcome == verdicts.HARNESS_ERROR


def test_a_misspelt_grader_names_the_nearest():
  with pytest.raises(configuration.ConfigurationError, match='Nearest: number'):
    graders.get('numbr')


def test_a_grader_that_raises_gives_a_harness_error():
  verdict = graders.grade_with(
    'operator:add', completion='#### 4', reference='4'
  )
  assert verdict.outcome == verdicts.HARNESS_ERROR
  assert 'TypeError' in verdict.detail


@pytest.mark.parametrize('reason', ['length', 'prompt'])
def test_no_grader_sees_an_unfinished_completion(reason):
  verdict = graders.grade_with(
    'operator:add', completion='x', reference='4', finish_reason=reason
  )
  assert verdict.outcome == verdicts.TRUNCATED


def test_metrics_know_the_outcomes_by_the_same_names():
  assert metrics.CORRECT == verdicts.CORRECT
  assert metrics.WRONG == verdicts.WRONG
  assert metrics.HARNESS_ERROR == verdicts.HARNESS_ERROR
