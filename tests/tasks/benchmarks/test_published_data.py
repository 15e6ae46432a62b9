"""The real data sets, where they are at hand beside the checkout."""

import json

import math_rewritings
import pytest

from rest_jax.rewards.code import programs, reference_check
from rest_jax.rewards.code.program_tests import Tests
from rest_jax.rewards.math import math_answer
from rest_jax.tasks.benchmarks import (
  catalogue,
  parsed_dataset,
  published_files,
  verification,
)

DATA = math_rewritings.SHARED / 'data'

pytestmark = pytest.mark.skipif(
  not DATA.exists(), reason='../shared/data is not here'
)


@pytest.mark.parametrize(
  ('name', 'counts', 'skipped'),
  [
    ('math', {'train': 7498, 'test': 5000}, 2),
    ('math500', {'test': 500}, 0),
    ('gsm8k', {'train': 7473, 'test': 1319}, 0),
    ('humaneval', {'test': 164}, 0),
    ('mbpp', {'prompt': 10, 'test': 500, 'validation': 90, 'train': 374}, 0),
    ('bbh', {'prompts': 81, 'test': 6511}, 0),
    ('hungarian_exam', {'test': 33}, 0),
  ],
)
def test_a_set_is_all_there_and_sound(name, counts, skipped):
  dataset = published_files.read(name, DATA)
  found = verification.verify(published_files.data_set(name), dataset)
  assert found.summary.rows == counts and not found.summary.partial
  assert skipped == sum(
    len(where)
    for reasons in dataset.skipped.values()
    for where in reasons.values()
  )
  # the oddities of the published sets, and no others
  odd = {what: len(where) for what, where in found.summary.found.items()}
  assert odd == {
    'math': {'questions in two splits': 1},
    'bbh': {'repeated questions': 4},
  }.get(name, {})


def test_math_answers_are_the_last_boxes_and_equal_themselves():
  dataset = published_files.read('math', DATA)
  assert list(dataset.skipped) == ['train']
  assert dataset.skipped['train'] == {
    parsed_dataset.NO_BOX: ['train.jsonl:5342', 'train.jsonl:5344']
  }
  boxes = dict(math_rewritings.problems())
  rows = [*dataset.rows['train'], *dataset.rows['test']]
  assert len(rows) == 12_498
  for row in rows:
    assert row.answer == boxes[row.solution].strip(), row.key
    assert row.level in '12345?' and row.type
  for answer in {row.answer for row in rows}:
    text = math_answer.extract(f'so \\boxed{{{answer}}}.')
    assert math_answer.equivalent(answer, text), answer


def test_gsm8k_solutions_keep_the_answer_and_lose_the_calculator():
  for split, rows in published_files.read('gsm8k', DATA).rows.items():
    raw = (DATA / 'gsm8k' / f'{split}.jsonl').read_text().splitlines()
    answers = {}
    for line in raw:
      row = json.loads(line)
      answers[row['question'].strip()] = row['answer'].split('#### ')[1]
    for row in rows:
      assert row.answer == answers[row.question]
      assert row.solution.endswith(f'\n#### {row.answer}')
      assert '<<' not in row.solution


def test_bbh_prompts_can_be_put_together_again():
  """Lead, examples and template give the published prompts, byte for byte."""
  rows = published_files.read('bbh', DATA).rows
  template = catalogue.get('bbh').template
  others = []
  for subtask in sorted({row.type for row in rows['test']}):
    exemplars = [row for row in rows['prompts'] if row.type == subtask]
    text = exemplars[0].lead + template.separator.join(
      template.question.replace('{question}', row.question)
      + template.solution.replace('{solution}', row.solution)
      for row in exemplars
    )
    path = DATA / 'bbh' / 'cot-prompts' / f'{subtask}.txt'
    published = path.read_text().split('-----\n', 1)[1].rstrip('\n')
    if text != published:
      others.append(subtask)
      assert text.replace('step by step.\n', 'step by step. ') == published
    leads = {row.lead for row in rows['test'] if row.type == subtask}
    assert leads == {exemplars[0].lead}
  # its reasoning goes on behind the sentence, on the same line
  assert others == ['sports_understanding']
  assert len({row.type for row in rows['test']}) == 27


def test_apps_problems_at_hand_can_be_graded():
  dataset = published_files.read('apps', DATA)
  rows = dataset.rows['train']
  assert len(rows) == 50 and not dataset.skipped
  kinds = [Tests.from_json(row.tests).kind for row in rows]
  assert (kinds.count('stdin'), kinds.count('calls')) == (38, 12)
  for row, kind in zip(rows, kinds, strict=True):
    starts = 'Write ' if kind == 'calls' else 'Read from standard input'
    assert row.question.rpartition('\n')[2].startswith(starts)
    assert row.solution and row.level == 'introductory'
  try:
    with programs.Grader() as grader:
      for row in [*rows[:3], *rows[-3:]]:
        tests = Tests.from_json(row.tests)
        found = reference_check.examine(tests, [row.solution], grader=grader)
        assert not found.fault, (row.key, found.fault)
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))


def test_humaneval_and_mbpp_references_pass_their_own_tests():
  humaneval = published_files.read('humaneval', DATA).rows['test'][:3]
  mbpp = published_files.read('mbpp', DATA).rows['prompt'][:3]
  pairs = [
    *((row.tests, row.question + row.solution) for row in humaneval),
    *((row.tests, row.solution) for row in mbpp),
  ]
  try:
    with programs.Grader() as grader:
      for tests, program in pairs:
        tests = Tests.from_json(tests)
        found = reference_check.examine(tests, [program], grader=grader)
        assert not found.fault, found.fault
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))


def test_a_part_of_apps_is_not_taken_for_all_of_it():
  from rest_jax.config import configuration

  dataset = published_files.read('apps', DATA)
  with pytest.raises(configuration.ConfigurationError) as error:
    verification.verify(catalogue.get('apps'), dataset)
  assert 'train has 50 problems, published are 5,000' in str(error.value)
