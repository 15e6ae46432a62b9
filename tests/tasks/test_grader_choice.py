"""The grader that suits a file's answers."""

import json

import pytest

from rest_jax.config import configuration
from rest_jax.tasks import grader_choice


def write(path, answers, **more):
  rows = [
    {'question': f'q{i}', 'answer': answer} | more
    for i, answer in enumerate(answers)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


@pytest.mark.parametrize(
  'answers, grader',
  [
    ([3, 4.5, '1,200', '$7', '-2'], 'gsm8k'),
    (['48/2 = 24 of them.\n#### 24', '#### 3'], 'gsm8k'),
    (['\\frac{1}{2}', '3', 'x^2+1', '\\sqrt{2}'], 'math'),
    (['Paris', 'yes', '3', '(B)'], 'exact'),
    (['a $5 note', 'no'], 'exact'),
  ],
)
def test_answers_decide(tmp_path, answers, grader):
  found, reason = grader_choice.guess(write(tmp_path / 'p.jsonl', answers))
  assert found == grader
  assert f'of {len(answers)} answers' in reason


def test_tests_are_for_programs(tmp_path):
  path = write(tmp_path / 'p.jsonl', [None, None], tests=['assert f(1) == 2'])
  assert grader_choice.guess(path)[0] == 'program'


def test_a_bad_row_in_ten_changes_nothing(tmp_path):
  path = write(tmp_path / 'p.jsonl', list(range(20)))
  path.write_text(path.read_text() + 'not JSON\n{"question": "q"}\n[]\n')
  assert grader_choice.guess(path)[0] == 'gsm8k'


def test_a_file_of_two_kinds_is_refused(tmp_path):
  path = write(tmp_path / 'p.jsonl', [1, 2, 3])
  rows = write(tmp_path / 'q.jsonl', [None] * 3, tests=['assert f(1) == 2'])
  path.write_text(path.read_text() + rows.read_text())
  with pytest.raises(
    configuration.ConfigurationError, match='3 of 6 rows have tests'
  ):
    grader_choice.guess(path)


def test_a_file_without_a_usable_row_is_refused(tmp_path):
  (tmp_path / 'p.jsonl').write_text('nothing\n')
  with pytest.raises(configuration.ConfigurationError, match='no row with'):
    grader_choice.guess(tmp_path / 'p.jsonl')
