"""D_val's verdicts: the same graders as the stage score's, programs too."""

import types

import pytest

from rest_jax.rewards import pool, registry, verdicts
from rest_jax.rewards.code import programs
from rest_jax.training import dval


def pair(text, *, reason='eos', index=0, **columns):
  completion = types.SimpleNamespace(
    text=text, finish_reason=reason, sample_index=index
  )
  problem = types.SimpleNamespace(id='t/dval/a', **columns)
  return dval._Drawn(completion, problem, card=None)


def test_answers_are_compared_and_the_unfinished_earn_nothing():
  drawn = [
    pair('The answer is 7.', answer='7'),
    pair('The answer is 8.', answer='7', index=1),
    pair('The answer is 7.', answer='7', reason='length', index=2),
  ]
  found = dval._verdicts(drawn, pool.Pool(registry.get('number')))
  assert [verdict.outcome for verdict in found] == [
    verdicts.CORRECT,
    verdicts.WRONG,
    verdicts.TRUNCATED,
  ]
  assert [verdict.sample_index for verdict in found] == [0, 1, 2]
  assert {verdict.grader for verdict in found} == {registry.get('number').label}


def test_programs_run_in_the_sandbox():
  try:
    with programs.Grader() as grader:
      assert grader.tier
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))
  tests = programs.Tests.stdin(['3\n'], ['6\n']).to_json()
  drawn = [
    pair('print(2 * int(input()))', answer=None, tests=tests),
    pair('print(input())', answer=None, tests=tests, index=1),
  ]
  with pool.Pool(registry.get('program')) as workers:
    found = dval._verdicts(drawn, workers)
  assert [verdict.reward for verdict in found] == [1.0, 0.0]
