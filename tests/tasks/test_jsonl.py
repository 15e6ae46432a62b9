"""Problems from a JSONL file: good rows, bad rows, and the splits."""

import json

import pytest

from rest_jax.config import configuration
from rest_jax.rewards import registry
from rest_jax.tasks import jsonl, jsonl_rows


def write(path, rows):
  lines = [
    row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows
  ]
  path.write_bytes(b'\n'.join(lines) + b'\n')
  return str(path)


def good(number, prefix='q'):
  return [
    {
      'id': f'{prefix}{i}',
      'question': f'What is {prefix} {i} plus one?',
      'answer': str(i + 1),
      'solution': f'{i}+1={i + 1}. The answer is {i + 1}.',
    }
    for i in range(number)
  ]


def read(path, seed=0, **fields):
  return jsonl.JsonlConfig(input=path, **fields).read(seed)


def keys(problem_set):
  return {row.key for row in problem_set.rows}


BAD = {
  b'{"id": "x", "question": "a"': 'not valid JSON',
  b'[1, 2]': 'not a JSON object',
  b'{"question": "a", "answer": "1", "x": NaN}': 'not valid JSON',
  b'{"id": "y", "answer": "1"}': 'no question',
  b'{"id": "z", "question": " ", "answer": "1"}': 'no question',
  b'{"id": "w", "question": "a", "answer": ""}': 'no answer',
  b'{"id": "v", "question": "a", "answer": null}': 'no answer',
  b'{"id": "u", "question": "a", "answer": ["1"]}': 'answer is neither',
  b'{"id": "t", "question": "a", "answer": true}': 'answer is neither',
  b'{"id": "q1", "question": "a", "answer": "1"}': 'an id that an earlier',
  b'{"id": "s", "question": "\xff", "answer": "1"}': 'not UTF-8',
  b'{"id": "r", "question": "\\ud83d", "answer": "1"}': 'not UTF-8',
  b'{"id": "p", "question": "a", "answer": "blue"}': 'not a number',
  b'[' * 100_000: 'not valid JSON',
}


@pytest.mark.parametrize('line', BAD)
def test_a_bad_row_is_left_out_and_listed_by_its_line(tmp_path, line):
  rows = good(10)
  path = write(tmp_path / 'p.jsonl', [*rows[:5], line, *rows[5:]])
  found, skipped = jsonl_rows.read_rows(path, 'number')
  assert [row.key for row in found] == [row['id'] for row in rows]
  ((reason, where),) = skipped.items()
  assert BAD[line] in reason and where == ['line 6']


def test_mostly_bad_rows_or_none_at_all_are_an_error(tmp_path):
  for number, content in enumerate([[b'x'] * 3 + good(2), [b''], [b'x']]):
    path = write(tmp_path / f'{number}.jsonl', content)
    with pytest.raises(configuration.ConfigurationError, match='bad rows'):
      jsonl_rows.read_rows(path, 'number')
  path = write(tmp_path / 'half.jsonl', [b'x'] * 2 + good(2))
  assert len(jsonl_rows.read_rows(path, 'number')[0]) == 2
  with pytest.raises(configuration.ConfigurationError, match='no such file'):
    jsonl_rows.read_rows(tmp_path / 'none.jsonl', 'number')


def test_windows_files_and_numbers_are_read(tmp_path):
  content = (
    b'\xef\xbb\xbf{"question": "a", "answer": 1.5, "id": 7}\r\n\r\n'
    b'{"question": "b\\u2028c", "answer": -2, "level": 3}\r\n'
  )
  (tmp_path / 'p.jsonl').write_bytes(content)
  rows, skipped = jsonl_rows.read_rows(tmp_path / 'p.jsonl', 'number')
  assert not skipped
  assert [(r.key, r.answer, r.level) for r in rows] == [
    ('7', '1.5', None),
    ('line-000003', '-2', '3'),
  ]


@pytest.mark.parametrize(
  ('typed', 'answer'),
  [
    ('0.00001', '0.00001'),
    ('1e-5', '0.00001'),
    ('1e22', '10000000000000000000000'),
    ('1.50', '1.50'),
    ('2E3', '2000'),
    ('7', '7'),
    ('1' + '0' * 5000, '1' + '0' * 5000),
  ],
)
def test_a_number_keeps_the_text_that_was_typed(tmp_path, typed, answer):
  (tmp_path / 'p.jsonl').write_text(f'{{"question": "a", "answer": {typed}}}\n')
  rows, skipped = jsonl_rows.read_rows(tmp_path / 'p.jsonl', 'exact')
  assert not skipped and rows[0].answer == answer


def test_exact_answers_are_any_one_line(tmp_path):
  rows = [
    {'question': 'a', 'answer': 'blue'},
    {'question': 'b', 'answer': 'red\ngreen'},
  ]
  path = write(tmp_path / 'p.jsonl', rows)
  found, skipped = jsonl_rows.read_rows(path, 'exact')
  assert [row.answer for row in found] == ['blue']
  assert list(skipped.values()) == [['line 2']]


def test_gsm8k_answers_are_split_and_their_annotations_removed():
  text = 'He has 4*2=<<4*2=8>>8 pens.\nThen 8+10=<<8+10=18>>18.\n#### 18'
  assert jsonl_rows.gsm8k_answer(text) == (
    '18',
    'He has 4*2=8 pens.\nThen 8+10=18.\n#### 18',
  )
  assert jsonl_rows.gsm8k_answer('18') is None
  assert jsonl_rows.gsm8k_answer('see ####') is None


def test_splits_are_disjoint_and_complete(tmp_path):
  path = write(tmp_path / 'p.jsonl', good(300))
  texts = read(path, num_shots=4)
  train, dval, test = (keys(s) for s in texts.sets)
  exemplars = {row.key for row in texts.exemplars}
  assert len(exemplars) == 4
  assert not train & dval and not train & test and not dval & test
  assert not exemplars & (train | dval | test)
  assert len(train | dval | test | exemplars) == 300
  # 30 expected, binomial: outside 8..60 with odds below 1e-6.
  assert 8 < len(dval) < 60 and 8 < len(test) < 60


def test_a_problem_keeps_its_split_when_others_come_and_go(tmp_path):
  some = read(write(tmp_path / 'a.jsonl', good(100)), num_shots=0)
  more = read(write(tmp_path / 'b.jsonl', good(200)[::-1]), num_shots=0)
  for one, other in zip(some.sets, more.sets, strict=True):
    assert keys(one) <= keys(other)
  moved = read(write(tmp_path / 'a.jsonl', good(100)), seed=1, num_shots=0)
  assert keys(moved.sets[0]) != keys(some.sets[0])


@pytest.mark.parametrize('seed', range(20))
def test_of_few_problems_each_split_gets_at_least_half_its_share(
  tmp_path, seed
):
  texts = read(
    write(tmp_path / 'few.jsonl', good(60)),
    seed=seed,
    num_shots=0,
    test_share=0.2,
    dval_share=0.15,
  )
  train, dval, test = (len(one.rows) for one in texts.sets)
  assert train + dval + test == 60
  assert test >= 6 and dval >= 3


def test_a_test_question_is_never_trained_on_nor_shown(tmp_path):
  train = good(50)
  test = [
    {'id': f't{i}', 'question': row['question'].upper() + ' ', 'answer': '1'}
    for i, row in enumerate(train[:20])
  ]
  texts = read(
    write(tmp_path / 'train.jsonl', train),
    input_test=write(tmp_path / 'test.jsonl', test),
    num_shots=4,
  )
  leaked = {row['id'] for row in train[:20]}
  used = keys(texts.sets[0]) | keys(texts.sets[1])
  used |= {row.key for row in texts.exemplars}
  assert len(used) == 30 and not used & leaked
  assert texts.sets[0].skipped == {jsonl.IN_TEST: 20}
  assert len(texts.sets[2].rows) == 20


def test_where_all_problems_are_tested_it_is_said_that_none_is_left(tmp_path):
  path = write(tmp_path / 'p.jsonl', good(5))
  with pytest.raises(configuration.ConfigurationError, match='own/train: no'):
    read(path, input_test=path)


def test_two_rows_with_one_question_lie_on_one_side(tmp_path):
  rows = good(150)
  rows += [row | {'id': f'again{i}'} for i, row in enumerate(good(150))]
  texts = read(write(tmp_path / 'p.jsonl', rows), num_shots=4)
  questions = [{r.question for r in s.rows} for s in texts.sets]
  shown = {row.question for row in texts.exemplars}
  assert len(shown) == 4
  assert not questions[0] & questions[1]
  assert not (questions[0] | questions[1]) & (questions[2] | shown)


def test_limits_take_a_seeded_choice_that_grows(tmp_path):
  path = write(tmp_path / 'p.jsonl', good(300))
  few = read(path, max_train=16, max_dval=5, max_test=16)
  more = read(path, max_train=40)
  assert [len(s.rows) for s in few.sets] == [16, 5, 16]
  assert keys(few.sets[0]) < keys(more.sets[0])


def test_exemplars_can_be_named_and_must_have_a_solution(tmp_path):
  path = write(tmp_path / 'p.jsonl', good(100))
  chosen = [row.key for row in read(path, num_shots=2).exemplars]
  texts = read(path, num_shots=2, exemplars=tuple(chosen[::-1]))
  assert [row.key for row in texts.exemplars] == chosen[::-1]
  with pytest.raises(configuration.ConfigurationError, match='nobody'):
    read(path, num_shots=1, exemplars=('nobody',))


def test_without_solutions_the_prompt_has_no_shots(tmp_path):
  rows = [{k: row[k] for k in ('id', 'question', 'answer')} for row in good(50)]
  texts = read(write(tmp_path / 'p.jsonl', rows), num_shots=4)
  assert texts.exemplars == []


def test_few_problems_leave_one_for_each_split(tmp_path):
  path = write(tmp_path / 'p.jsonl', good(3))
  texts = read(path, num_shots=0, dval_share=0.001, test_share=0.001)
  assert [len(s.rows) for s in texts.sets] == [1, 1, 1]


def test_an_empty_split_says_what_to_do(tmp_path):
  path = write(tmp_path / 'p.jsonl', good(2))
  with pytest.raises(configuration.ConfigurationError, match='NUM_SHOTS'):
    read(path, num_shots=0)


def test_the_content_of_the_file_is_in_the_fingerprint(tmp_path):
  path = write(tmp_path / 'p.jsonl', good(10))
  config = jsonl.JsonlConfig(input=path)
  before = config.inputs()
  write(tmp_path / 'p.jsonl', good(11))
  assert config.inputs() != before


PROGRAM = 'def f(x):\n  return x * x'
TESTS = {
  'assertions': ['assert f(3) == 9', 'assert f(0) == 0'],
  'calls': {'fn_name': 'f', 'inputs': [[3], [0]], 'outputs': [9, 0]},
  'check': {
    'entry_point': 'f',
    'test': 'def check(candidate):\n  assert candidate(3) == 9\n',
  },
  'text': '{"fn_name": "f", "inputs": [[3]], "outputs": [9]}',
}


@pytest.mark.parametrize('form', TESTS)
def test_own_tests_are_met_by_the_right_program_alone(tmp_path, form):
  row = {'question': 'Square it.', 'tests': TESTS[form], 'solution': PROGRAM}
  path = write(tmp_path / 'p.jsonl', [row])
  [found], skipped = jsonl_rows.read_rows(path, 'program')
  assert not skipped and found.answer is None
  for program, outcome in ((PROGRAM, 'correct'), (PROGRAM + ' + 1', 'wrong')):
    verdict = registry.grade(
      'program', completion=program, reference=found.tests
    )
    assert verdict.outcome == outcome, verdict


BAD_TESTS = {
  'no tests': None,
  'tests that are no JSON': 'assert f(3) == 9',
  'tests that are neither an object nor a list': 5,
  'tests that test nothing: no tests': {'inputs': [], 'outputs': []},
  'tests that test nothing: 1 inputs for 2 outputs': {
    'inputs': ['1'],
    'outputs': ['1', '2'],
  },
  'tests that test nothing: the tests assert nothing': {
    'entry_point': 'f',
    'test': 'pass',
  },
  'mbpp: no assertion calls a function': ['assert 1 == 1'],
  "tests that do not compile: '(' was never closed (tests, line 2)": [
    'assert f(3'
  ],
  'half of a surrogate pair, which is not UTF-8': {
    'inputs': ['\ud83d'],
    'outputs': ['1'],
  },
  'tests that no program can be given: nested more than 300 deep': {
    'fn_name': 'f',
    'inputs': [[json.loads('[' * 400 + ']' * 400)]],
    'outputs': [1],
  },
}


@pytest.mark.parametrize('reason', BAD_TESTS)
def test_a_row_whose_tests_test_nothing_is_left_out(tmp_path, reason):
  good_row = {'question': 'Square it.', 'tests': TESTS['calls']}
  rows = [good_row, {'question': 'Cube it.', 'tests': BAD_TESTS[reason]}]
  path = write(tmp_path / 'p.jsonl', rows)
  found, skipped = jsonl_rows.read_rows(path, 'program')
  assert len(found) == 1 and skipped == {reason: ['line 2']}


def test_an_answer_is_held_against_its_own_grader(tmp_path):
  rows = [
    {'question': 'a', 'answer': '\\frac{1}{2}'},
    {'question': 'b', 'answer': 'x' * 2000},  # no answer is that long
  ]
  path = write(tmp_path / 'p.jsonl', rows)
  found, skipped = jsonl_rows.read_rows(path, 'math')
  assert [row.question for row in found] == ['a'], skipped


def test_problems_that_a_person_grades_need_no_answer(tmp_path):
  rows = [{'id': str(i), 'question': f'Prove {i}.'} for i in range(9)]
  rows.append({'id': '9', 'question': 'Draw it.', 'answer': 'a\nb'})
  path = write(tmp_path / 'exam.jsonl', rows)
  found, skipped = jsonl_rows.read_rows(path, 'by_hand')
  assert (len(found), skipped) == (10, {})
  assert {row.answer for row in found} == {None, 'a\nb'}
  with pytest.raises(configuration.ConfigurationError, match='no answer'):
    jsonl_rows.read_rows(path, 'exact')
