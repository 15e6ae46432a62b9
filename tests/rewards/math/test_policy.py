"""The policy table of docs/rewards.md is what the graders do."""

import pathlib

import pytest

from rest_jax.rewards import registry, verdicts

PAGE = pathlib.Path(__file__).parents[3] / 'docs' / 'rewards.md'


def table():
  lines = PAGE.read_text().splitlines()
  start = lines.index('## The policy table')
  rows = []
  for line in lines[start:]:
    if line.startswith('| ') and not line.startswith(('| grader', '|---')):
      cells = line.strip('| ').split(' | ')
      # Markdown needs a bar within a table escaped
      cells = [cell.strip('`').replace('\\|', '|') for cell in cells]
      grader, reference, text, outcome, why = cells
      rows.append((grader, reference, text, outcome, why))
    if line.startswith('## ') and line != lines[start]:
      return rows
  raise AssertionError('the table has no end')


def test_the_table_is_found_whole():
  rows = table()
  assert len(rows) > 60
  assert len({row[:3] for row in rows}) == len(rows)
  assert {row[0] for row in rows} == {'math', 'gsm8k', 'bbh'}
  assert {row[3] for row in rows} <= set(verdicts.OUTCOMES)
  # both ways: a grader that says one word to everything fails
  outcomes = [row[3] for row in rows]
  assert min(map(outcomes.count, ('correct', 'wrong', 'no_answer'))) >= 5


@pytest.mark.parametrize(
  ('grader', 'reference', 'text', 'outcome', 'why'), table()
)
def test_each_row_is_decided_as_written(grader, reference, text, outcome, why):
  verdict = registry.grade(grader, completion=text, reference=reference)
  assert verdict.outcome == outcome, why
  assert verdict.reward == (outcome == verdicts.CORRECT)


POLICIES = (
  'M15 M41 M47 M53 M59 M61 M67 M70 M76 M77 M79 M83 G01 G13 G17 G19 B01 B09'
).split()


@pytest.mark.parametrize('case', POLICIES)
def test_each_hostile_case_left_open_is_decided_on_the_page(case):
  assert case in PAGE.read_text()
