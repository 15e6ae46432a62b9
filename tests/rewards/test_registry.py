"""The registry of graders."""

import operator
import sys

import pytest

from rest_jax.config import configuration
from rest_jax.rewards import pool, registry, verdicts


def test_every_grader_loads_and_gives_verdicts():
  texts = {
    'math': '\\boxed{4}',
    'bbh': 'The answer is 4.',
    'bbh_direct': '4',
  }
  for name, grader in registry.REGISTRY.items():
    assert grader.label == f'{name}/{grader.version}'
    if name == 'by_hand':
      continue  # it has no reference; below
    if grader.reads == 'answer':
      text = texts.get(name, '#### 4')
      verdict = registry.grade(name, completion=text, reference='4')
      assert verdict.outcome == verdicts.CORRECT
    verdict = registry.grade(name, completion='4', reference='')
    assert verdict.outcome == verdicts.HARNESS_ERROR


def test_a_misspelt_grader_names_the_nearest():
  with pytest.raises(configuration.ConfigurationError, match='Nearest: number'):
    registry.get('numbr')


def test_a_built_in_grader_that_raises_gives_a_harness_error(monkeypatch):
  monkeypatch.setattr(registry, 'load', lambda path: operator.add)
  verdict = registry.grade('number', completion='#### 4', reference='4')
  assert verdict.outcome == verdicts.HARNESS_ERROR
  assert 'TypeError' in verdict.detail


def test_a_grader_of_your_own_that_raises_is_an_error():
  with pytest.raises(registry.GraderError, match='TypeError'):
    registry.grade_with('operator:add', completion='#### 4', reference='4')


_OWN = {
  'one_argument': ('def grade(text): pass', 'missing|too many|unexpected'),
  'positional': ('def grade(text, answer): pass', 'finish_reason'),
  'no_function': ('grade = 3', 'it is a int'),
  'no_name': ('def other(a, b, *, finish_reason=None): pass', 'grade'),
  'raises': ('1 / 0', 'ZeroDivisionError'),
  'no_python': ('def grade(:', 'SyntaxError'),
}


@pytest.mark.parametrize('case', _OWN)
def test_a_grader_of_your_own_that_cannot_be_called_is_found_before_it_is_used(
  case, tmp_path, monkeypatch
):
  source, said = _OWN[case]
  (tmp_path / f'own_{case}.py').write_text(source)
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(configuration.ConfigurationError, match=said):
    registry.get(f'own_{case}:grade')


@pytest.mark.parametrize('reason', ['length', 'prompt'])
def test_no_grader_sees_an_unfinished_completion(reason):
  verdict = registry.grade_with(
    'operator:add', completion='x', reference='4', finish_reason=reason
  )
  assert verdict.outcome == verdicts.TRUNCATED


@pytest.mark.parametrize(
  ('completion', 'finish_reason', 'outcome'),
  [
    ('x = 3', 'eos', verdicts.UNGRADED),
    ('x = 3', 'length', verdicts.TRUNCATED),
    (' \n', 'stop', verdicts.NO_ANSWER),
  ],
)
def test_what_a_person_grades_earns_nothing(completion, finish_reason, outcome):
  for reference in (None, '3'):
    verdict = registry.grade(
      'by_hand',
      completion=completion,
      reference=reference,
      finish_reason=finish_reason,
    )
    assert (verdict.outcome, verdict.reward) == (outcome, 0.0)


OWN = """
from rest_jax.rewards import verdicts

def grade(completion, reference, *, finish_reason=None):
  right = completion.strip() == reference[::-1]
  return verdicts.Verdict(
    outcome='correct' if right else 'wrong',
    reward=float(right),
    answer=completion.strip(),
  )

def boolean(completion, reference, *, finish_reason=None):
  return True

def tested(completion, reference, *, finish_reason=None):
  raise AssertionError

tested.reads = 'tests'
"""


def test_a_grader_of_your_own_is_found_where_the_command_is_given(
  tmp_path, monkeypatch
):
  (tmp_path / 'backwards.py').write_text(OWN)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  grader = registry.get('backwards:grade')
  assert not grader.bounded and grader.reads == 'answer'
  items = [pool.Item(completion=c, reference='abc') for c in ('cba', 'abc')]
  with pool.Pool(grader, num_workers=1) as workers:
    outcomes = [one.verdict.outcome for one in workers.grade(items)]
  assert outcomes == [verdicts.CORRECT, verdicts.WRONG]
  assert registry.get('backwards:tested').reads == 'tests'
  with pytest.raises(registry.GraderError, match='True, which is no Verdict'):
    registry.grade('backwards:boolean', completion='', reference='')


def test_another_text_of_your_grader_is_another_version(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  labels = set()
  for name, text in (('one', OWN), ('two', OWN), ('three', OWN + '\n')):
    (tmp_path / f'grader_{name}.py').write_text(text)
    labels.add(registry.get(f'grader_{name}:grade').label.rpartition('/')[2])
  assert len(labels) == 2


@pytest.mark.parametrize('name', ['no_such_module:grade', 'os:no_such_name'])
def test_a_grader_that_cannot_be_imported_says_where_to_start(name):
  with pytest.raises(configuration.ConfigurationError, match='PYTHONPATH'):
    registry.get(name)
