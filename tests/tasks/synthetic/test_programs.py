"""The embedded programs, run and checked against the words of the questions."""

import collections
import dataclasses
import functools
import json
import re

import embedded_tasks
import pytest

from rest_jax.config import configuration
from rest_jax.rewards import registry, verdicts
from rest_jax.rewards.code.program_tests import Tests
from rest_jax.rewards.code.programs import require_sandbox
from rest_jax.tasks import seeded_random
from rest_jax.tasks.synthetic import (
  clauses,
  embedded,
  program_solutions,
  programs,
)

# Every knob is written out: tuning a default leaves the tests as they are.
SMALL = programs.ProgramsConfig(
  num_train=60,
  num_dval=30,
  num_test=60,
  num_hard=30,
  num_shots=4,
  human_style_weights=(1.0, 1.0, 1.0, 1.0),
  exemplar_style='human',
  difficulty=clauses.Difficulty(
    clauses=(1, 2, 3, 4),
    clause_weights=(1.0, 1.0, 1.0, 1.0),
    max_constant=9,
    max_factor=5,
    max_count=4,
    kind_weights=(1.0,) * 13,
    ask_weights=(1.0,) * 5,
    counted_share=0.5,
  ),
  hard=clauses.Difficulty(clauses=(5, 6), clause_weights=(1.0, 1.0)),
  corpus=programs.Corpus(
    num_documents=1500,
    problems_per_document=(3, 5),
    human_share=0.2,
    author_consistency=0.0,
    flaws=program_solutions.Flaws(
      skipped_clause=(0.0, 0.2, 0.3, 0.4),
      misread_clause=0.1,
      missing_print=0.08,
      syntax_slip=0.08,
      skipped=1,
    ),
  ),
)
ROWS = 45  # problems whose programs are run; the sandbox takes 3 ms a test


def output_from_words(question: str, values: list[int]) -> str:
  """What is printed for a list, from the words of the question alone."""
  for sentence in re.split(r'(?<=\.) ', question)[1:-1]:
    number = int((re.findall(r'\d+', sentence) or ['0'])[0])
    drops = sentence.startswith('Drop')
    if 'first' in sentence:
      takes = sentence.startswith(('Keep', 'Take'))
      values = values[:number] if takes else values[number:]
    elif 'order around' in sentence or 'Reverse' in sentence:
      values = values[::-1]
    elif 'Sort' in sentence or 'rising' in sentence:
      values = sorted(values)
    elif re.match('Add|Raise', sentence):
      values = [value + number for value in values]
    elif re.match(r'Lower|Take \d+ from', sentence):
      values = [value - number for value in values]
    elif re.match('Multiply|Make', sentence):
      values = [value * number for value in values]
    else:
      holds = next(
        test
        for words, test in (
          ('odd', lambda v, n: v % 2 != 0),
          ('even', lambda v, n: v % 2 == 0),
          ('above|greater than', lambda v, n: v > n),
          ('at least', lambda v, n: v >= n),
          ('below|less than', lambda v, n: v < n),
          ('at most', lambda v, n: v <= n),
        )
        if re.search(words, sentence)
      )
      values = [v for v in values if holds(v, number) != drops]
  last = question.rpartition('Print ')[2]
  if last in ('them.', 'what is left.'):
    return ' '.join(map(str, values))
  for words, result in (
    ('sum|total', sum(values)),
    ('how many|number', len(values)),
    ('largest', max(values, default=0)),
    ('smallest', min(values, default=0)),
  ):
    if re.search(words, last):
      return str(result)
  raise AssertionError(question)


@pytest.fixture(scope='module')
def grade():
  """Grades a program against a row's tests, as the stage score does."""
  try:
    require_sandbox()
  except configuration.ConfigurationError as error:
    pytest.skip(str(error))
  return lambda program, tests: (
    registry.grade('program', completion=program, reference=tests).outcome
  )


@pytest.fixture(scope='module')
def texts():
  return SMALL.read(0)


@pytest.fixture(scope='module')
def corpus():
  return embedded_tasks.corpus_of(SMALL)


@pytest.fixture(scope='module')
def usable(corpus):
  """Problems of the corpus that can be graded, with their tests."""
  return [
    (item, SMALL.reference(item.statement).tests)
    for item in corpus[:1500]
    if SMALL.is_usable(item.statement.chain)
  ]


def rows_of(texts):
  return [row for problem_set in texts.sets for row in problem_set.rows]


def test_expected_outputs_follow_from_the_words_of_the_questions(texts):
  rows = rows_of(texts)
  assert len(rows) == 180
  for row in rows:
    tests = Tests.from_json(row.tests)
    assert len(tests.inputs) >= 3 and not tests.fault()
    for given, expected in zip(tests.inputs, tests.outputs, strict=True):
      lines = given.splitlines()
      if row.question.startswith(('Read n,', 'Line 1')):
        assert int(lines.pop(0)) == len(lines[0].split())
      values = [int(word) for word in lines[0].split()]
      assert output_from_words(row.question, values) == expected.rstrip('\n')


def test_worked_and_human_programs_pass_their_own_tests(texts, grade):
  train = texts.sets[0].rows
  assert all(row.solution for row in train)
  for row in [*train[:ROWS], *texts.exemplars]:
    assert grade(row.solution, row.tests) == verdicts.CORRECT, row
  styles = (embedded.WORKED, *program_solutions.HUMAN_STYLES)
  for index in range(ROWS):
    rng = seeded_random.SeededRandom('a test', index)
    hard = index % 3 == 0
    difficulty = SMALL.hard if hard else SMALL.difficulty
    chain = SMALL.draw_chain(rng, difficulty)
    if not SMALL.is_usable(chain):
      continue
    statement = SMALL.write_statement(rng, chain, difficulty)
    tests = SMALL.reference(statement).tests
    for style in styles:
      program = SMALL.write_solution(
        rng, statement, style, None, SMALL.corpus.flaws
      )
      assert grade(program, tests) == verdicts.CORRECT, program


def test_a_worked_program_repeats_each_clause_above_its_line():
  for index in range(ROWS):
    rng = seeded_random.SeededRandom('a test', index)
    chain = SMALL.draw_chain(rng, SMALL.difficulty)
    statement = SMALL.write_statement(rng, chain, SMALL.difficulty)
    program = SMALL.write_solution(
      rng, statement, embedded.WORKED, None, SMALL.corpus.flaws
    )
    lines = program.split('\n')
    said = [line[2:] for line in lines if line.startswith('# ')]
    assert said == list(statement.sentences[1:-1])
    assert ' '.join(statement.sentences) == statement.question
    for line, following in zip(lines, lines[1:], strict=False):
      assert not line.startswith('#') or following.startswith('a = ')
    skipped = SMALL.write_solution(
      rng, statement, embedded.WORKED, 'skipped_clause', SMALL.corpus.flaws
    )
    said = [line[2:] for line in skipped.split('\n') if line[0] == '#']
    assert said == list(statement.sentences[1:-2])


def test_programs_of_the_corpus_without_a_flaw_are_right(usable, grade):
  clean = [pair for pair in usable if pair[0].flaw is None]
  styles = collections.Counter(item.style for item, _ in clean)
  assert set(styles) == {embedded.WORKED, *program_solutions.HUMAN_STYLES}
  for item, tests in clean[:ROWS]:
    assert grade(item.solution, tests) == verdicts.CORRECT, item


@pytest.mark.parametrize(
  ('flaw', 'least'),
  [
    ('skipped_clause', 1.0),
    ('misread_clause', 0.85),  # above 4 of even numbers is at least 4
    ('missing_print', 0.9),  # right where nothing is left to print
    ('syntax_slip', 1.0),
  ],
)
def test_flawed_programs_fail(usable, grade, flaw, least):
  flawed = [pair for pair in usable if pair[0].flaw == flaw][:ROWS]
  assert len(flawed) == ROWS
  outcomes = [grade(item.solution, tests) for item, tests in flawed]
  failed = sum(outcome != verdicts.CORRECT for outcome in outcomes)
  assert failed >= least * ROWS, collections.Counter(outcomes)
  if flaw == 'syntax_slip':
    assert set(outcomes) == {verdicts.CRASHED}


def test_no_constant_empty_or_echoing_program_passes(texts):
  """The outputs of a problem differ, and none of them but may be the input."""
  for row in rows_of(texts):
    tests = Tests.from_json(row.tests)
    assert len({output.strip() for output in tests.outputs}) > 1, row
    assert any(output.strip() for output in tests.outputs)
    echoes = [given.splitlines()[-1] for given in tests.inputs]
    assert [o.split() for o in tests.outputs] != [e.split() for e in echoes]


@pytest.mark.parametrize(
  'program', ['', 'pass', 'print()', 'print(0)', 'print(input())']
)
def test_lazy_programs_earn_nothing_in_the_sandbox(texts, grade, program):
  for row in texts.sets[2].rows[:ROWS]:
    assert grade(program, row.tests) != verdicts.CORRECT


def test_an_output_of_the_tests_printed_for_all_is_wrong(texts, grade):
  for row in texts.sets[2].rows[:ROWS]:
    for output in json.loads(row.tests)['outputs']:
      assert grade(f'print({output!r})', row.tests) == verdicts.WRONG


def test_each_problem_is_tried_on_an_empty_list_or_must_not_be(texts):
  empty = [
    row
    for row in rows_of(texts)
    if any(not t.split()[1:] for t in json.loads(row.tests)['inputs'])
  ]
  assert len(empty) > 0.8 * len(rows_of(texts))


def test_only_train_has_solutions(texts):
  for problem_set in texts.sets[1:]:
    assert all(row.solution is None for row in problem_set.rows)


def test_splits_share_no_question_and_no_chain(texts, corpus):
  def meaning(question):
    """Layout and wording gone: clause kinds with constants, and the ask."""
    probes = ([3, -2, 8, 5, 9, 0, 7, 4, 1, 6, 2, 12], [9, 1], [])
    numbers = tuple(re.findall(r'\d+', question.partition('. ')[2]))
    return numbers, tuple(output_from_words(question, list(p)) for p in probes)

  groups = [[row.question for row in s.rows] for s in texts.sets]
  groups.append([row.question for row in texts.exemplars])
  for group in groups:
    assert len(set(group)) == len(group)
  chains = {SMALL.pool_of(item.statement.chain) for item in corpus}
  assert chains == {embedded.CORPUS}
  groups.append([item.statement.question for item in corpus])
  sets = [set(group) for group in groups]
  for i, one in enumerate(sets):
    for other in sets[i + 1 :]:
      assert not one & other
  test = {meaning(question) for question in groups[2]}
  train = {meaning(question) for question in groups[0]}
  # Two chains may mean the same (sort, then drop; drop, then sort): rarely.
  assert len(test & train) <= 0.05 * len(test)


def test_levels_count_clauses_and_types_say_what_is_printed(texts):
  levels = [{int(row.level) for row in s.rows} for s in texts.sets]
  assert levels[0] == {1, 2, 3, 4} and levels[3] == {5, 6}
  assert {row.type for row in texts.sets[0].rows} == set(clauses.ASKS)


def test_flaw_rates_are_those_of_the_configuration(corpus):
  """False-alarm odds below 1e-6 a comparison (5 sigma), and the seed is fixed.

  The classes are told from the text, not from the generator's labels.
  """
  counts, totals = collections.Counter(), collections.Counter()
  for item in corpus:
    steps = len(item.statement.chain.clauses)
    totals[steps] += 1
    try:
      compile(item.solution, 'program', 'exec')
    except SyntaxError:
      counts['syntax_slip'] += 1
      continue
    if 'print' not in item.solution:
      counts['missing_print'] += 1
    elif item.style == embedded.WORKED:
      written = item.solution.count('\na = ') + item.solution.startswith('a = ')
      counts['skipped_clause', steps] += written < steps + 1
  flaws, total = SMALL.corpus.flaws, len(corpus)

  assert total > 5000
  assert embedded_tasks.is_near(
    counts['syntax_slip'], flaws.syntax_slip, total
  ), counts
  assert embedded_tasks.is_near(
    counts['missing_print'], flaws.missing_print, total
  ), counts
  for steps in (2, 3, 4):
    rate = flaws.rates(steps)['skipped_clause']
    assert embedded_tasks.is_near(
      counts['skipped_clause', steps], rate, totals[steps]
    ), counts


def test_a_consistent_author_has_one_style_and_flaw():
  corpus = dataclasses.replace(
    SMALL.corpus,
    author_consistency=1.0,
    flaws=program_solutions.Flaws(skipped_clause=0.3),
  )
  config = dataclasses.replace(SMALL, corpus=corpus)
  for index in range(50):
    assert len({item.flaw for item in config.document(0, index)}) == 1
  mixed = [SMALL.document(0, index) for index in range(50)]
  assert any(len({item.flaw for item in page}) > 1 for page in mixed)


def test_the_same_seed_gives_the_same_bytes_on_every_machine():
  digest = functools.partial(embedded_tasks.digest, SMALL, reference='tests')
  assert digest(0) == digest(0) != digest(1)
  assert digest(0)[:16] == '9d4b67cf954ff759'


def test_more_problems_than_there_are_is_an_error_not_a_hang():
  tiny = clauses.Difficulty(
    clauses=(1,), clause_weights=(1.0,), max_constant=2, max_count=2
  )
  config = dataclasses.replace(SMALL, difficulty=tiny, num_train=500)
  with pytest.raises(configuration.ConfigurationError, match='Ask for fewer'):
    config.read(0)


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('clauses', (0,)),
    ('clause_weights', (1.0,)),
    ('kind_weights', (1.0,) * 3 + (0.0,) * 10),
    ('ask_weights', (0.0,) * 5),
    ('max_count', 1),
    ('counted_share', 1.5),
  ],
)
def test_a_difficulty_that_cannot_be_is_refused_by_its_field(field, value):
  with pytest.raises(configuration.ConfigurationError, match=field):
    dataclasses.replace(clauses.Difficulty(), **{field: value})
