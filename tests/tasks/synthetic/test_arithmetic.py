"""The embedded arithmetic, checked by calculating from the words alone."""

import collections
import dataclasses
import functools
import re

import embedded_tasks
import pytest

from rest_jax.config import configuration
from rest_jax.tasks.synthetic import (
  arithmetic,
  arithmetic_solutions,
  word_problems,
)

# Every knob is written out: tuning a default leaves the tests as they are.
SMALL = arithmetic.ArithmeticConfig(
  num_train=60,
  num_dval=40,
  num_test=60,
  num_hard=30,
  num_shots=4,
  human_style_weights=(2.0, 2.0, 1.0, 1.0, 1.0, 1.0),
  exemplar_style='human',
  difficulty=word_problems.Difficulty(
    steps=(2, 3, 4),
    step_weights=(1.0, 1.0, 1.0),
    max_start=20,
    max_operand=12,
    max_factor=6,
    max_value=99,
  ),
  hard=word_problems.Difficulty(
    steps=(5, 6),
    step_weights=(1.0, 1.0),
    max_start=30,
    max_operand=20,
    max_factor=8,
    max_value=150,
  ),
  corpus=arithmetic.Corpus(
    num_documents=1500,
    problems_per_document=(3, 5),
    human_share=0.2,
    author_consistency=0.0,
    flaws=arithmetic_solutions.Flaws(
      wrong_last_step=0.2,
      missing_answer=0.1,
      skipped_step=0.25,
      skipped=2,
      skipped_wrong=0.5,
    ),
  ),
)
CLEAN = arithmetic_solutions.Flaws(
  wrong_last_step=0.0, missing_answer=0.0, skipped_step=0.0
)


def answer_from_words(question: str) -> int:
  """The answer to a question, from its words alone."""
  return calculation(question)[0]


def calculation(question: str) -> tuple[int, tuple]:
  """(the answer, what is done in turn: operation and numbers)."""
  value, done = None, []
  for sentence in re.split(r'(?<=[.?]) ', question):
    numbers = [int(number) for number in re.findall(r'\d+', sentence)]
    if not numbers:
      continue
    amount = numbers[0] * numbers[1] if len(numbers) == 2 else numbers[0]
    less = r'loses|gives|spends|pays|get off|leave|die|cut|removed|take'
    if len(numbers) == 1:
      less += r'|sells'
    elif 'dollars' in sentence:
      less += r'|buys'
    if value is None:
      value, operation = amount, 'start'
    elif 'times as' in sentence:
      value, operation = value * amount, '*'
    elif 'equal' in sentence or 'splits' in sentence:
      assert value % amount == 0, question
      value, operation = value // amount, '/'
    elif re.search(less, sentence):
      value, operation = value - amount, '-'
    else:
      value, operation = value + amount, '+'
    done.append((operation, *numbers))
  return value, tuple(done)


def equations(solution: str) -> list[tuple[str, int]]:
  """(expression, claimed result) of everything that a solution claims."""
  words = {'plus': '+', 'less': '-', 'times': '*', 'over': '/'}
  for word, sign in words.items():
    solution = re.sub(rf'(\d) {word} (\d)', rf'\1{sign}\2', solution)
  solution = re.sub(r'(\d) is (\d)', r'\1=\2', solution)
  return [
    (left, int(right))
    for left, right in re.findall(r'([\d+\-*/()]+)=(\d+)', solution)
  ]


def stated_answer(solution: str) -> int | None:
  found = re.search(r'The answer is (\d+)\.$', solution)
  return int(found.group(1)) if found else None


@pytest.fixture(scope='module')
def texts():
  return SMALL.read(0)


@pytest.fixture(scope='module')
def corpus():
  return embedded_tasks.corpus_of(SMALL)


def test_answers_follow_from_the_words_of_the_questions(texts, corpus):
  rows = [row for problem_set in texts.sets for row in problem_set.rows]
  assert len(rows) == 190
  for row in rows:
    assert answer_from_words(row.question) == int(row.answer), row.question
  for item in corpus[:2000]:
    result = item.statement.chain.steps()[-1].result
    assert answer_from_words(item.statement.question) == result


def test_every_claim_of_a_clean_solution_is_right():
  corpus = dataclasses.replace(
    SMALL.corpus, flaws=CLEAN, human_share=0.5, num_documents=500
  )
  items = embedded_tasks.corpus_of(dataclasses.replace(SMALL, corpus=corpus))
  styles = collections.Counter(item.style for item in items)
  assert set(styles) == {'worked', *arithmetic_solutions.HUMAN_STYLES}
  claims = 0
  for item in items:
    for expression, claimed in equations(item.solution):
      claims += 1
      assert eval(expression, {'__builtins__': {}}) == claimed, item.solution
    answer = answer_from_words(item.statement.question)
    assert stated_answer(item.solution) == answer, item.solution
  assert claims > 2000


def test_human_solutions_of_train_are_right_and_only_train_has_them(texts):
  by_split = {(s.task, s.split): s.rows for s in texts.sets}
  for row in (*by_split['arithmetic', 'train'], *texts.exemplars):
    assert stated_answer(row.solution) == int(row.answer)
    for expression, claimed in equations(row.solution):
      assert eval(expression, {'__builtins__': {}}) == claimed
  for name, rows in by_split.items():
    if name != ('arithmetic', 'train'):
      assert all(row.solution is None for row in rows)


def test_a_worked_solution_has_one_equation_for_each_step(corpus):
  clean = [i for i in corpus if i.flaw is None and i.style == 'worked']
  assert len(clean) > 500
  for item in clean:
    assert len(equations(item.solution)) == len(item.statement.chain.steps())


def test_a_worked_solution_repeats_the_story_before_its_equations(corpus):
  """Without its equations it is the story, then the answer."""
  clean = [i for i in corpus if i.flaw is None and i.style == 'worked']
  for item in clean:
    told = re.sub(r'(: |, )\d+[-+*/]\d+=\d+', '', item.solution)
    answer = answer_from_words(item.statement.question)
    story = item.statement.question.rsplit('. ', 1)[0]
    assert told == f'{story}. The answer is {answer}.'
    for sentence in item.solution.split('. '):
      words, _, claims = sentence.partition(': ')
      # A sentence's own numbers stand in its equations.
      assert not claims or set(re.findall(r'\d+', words)) <= {
        number
        for left, _ in equations(claims)
        for number in re.findall(r'\d+', left)
      }


def test_splits_share_no_question_and_no_calculation(texts, corpus):
  def canonical(question):
    return ' '.join(question.lower().split())

  groups = [[row.question for row in s.rows] for s in texts.sets]
  groups.append([row.question for row in texts.exemplars])
  for group in groups:
    assert len({canonical(question) for question in group}) == len(group)
  groups.append([item.statement.question for item in corpus])
  for what in (canonical, calculation):
    sets = [{what(question) for question in group} for group in groups]
    for i, one in enumerate(sets):
      for other in sets[i + 1 :]:
        assert not one & other


def test_two_orders_of_the_same_factors_are_in_one_split():
  for start in range(2, 21):
    for one, other in ((2, 6), (3, 4), (4, 5)):
      chains = [
        word_problems.Chain((start,), (('packs', *pair), ('take', 2)))
        for pair in ((one, other), (other, one))
      ]
      assert SMALL.pool_of(chains[0]) == SMALL.pool_of(chains[1])


def test_pools_are_disjoint_whatever_the_sizes(texts):
  larger = dataclasses.replace(SMALL, num_train=200, num_test=30).read(0)
  train = {row.question for row in larger.sets[0].rows}
  assert {row.question for row in texts.sets[0].rows} < train
  assert not train & {row.question for row in texts.sets[2].rows}


def test_levels_count_steps_and_the_hard_set_is_harder(texts):
  levels = [
    collections.Counter(int(row.level) for row in s.rows) for s in texts.sets
  ]
  assert set(levels[0]) == set(SMALL.difficulty.steps)
  assert set(levels[3]) == {5, 6}
  assert {row.type for row in texts.sets[0].rows} == set(word_problems.KINDS)


def test_flaw_rates_are_those_of_the_configuration(corpus):
  """False-alarm odds below 1e-6 a comparison (5 sigma), and the seed is fixed.

  The classes are told from the text, not from the generator's labels.
  """
  counts = collections.Counter()
  for item in corpus:
    answer = answer_from_words(item.statement.question)
    stated = stated_answer(item.solution)
    steps = len(item.statement.chain.steps())
    claims = equations(item.solution)
    last = re.sub(r' The answer is \d+\.$', '', item.solution)
    jumps = re.search(r'So \d+ \w+\.$', last)
    if stated is None:
      counts['missing_answer'] += 1
    elif jumps and len(claims) < steps:
      counts['skipped_step'] += 1
      counts['skipped_wrong'] += stated != answer
    elif stated != answer:
      counts['wrong_last_step'] += 1
  flaws, total = SMALL.corpus.flaws, len(corpus)

  assert total > 5000
  for name in ('missing_answer', 'skipped_step', 'wrong_last_step'):
    assert embedded_tasks.is_near(counts[name], getattr(flaws, name), total), (
      name,
      counts,
    )
  assert embedded_tasks.is_near(
    counts['skipped_wrong'], flaws.skipped_wrong, counts['skipped_step']
  )


def test_rates_per_number_of_steps_and_their_scale():
  flaws = arithmetic_solutions.Flaws(
    wrong_last_step=(0.1, 0.2, 0.4),
    missing_answer=0.1,
    skipped_step=0.2,
    scale=0.5,
  )
  assert flaws.rates(2)['wrong_last_step'] == pytest.approx(0.1)
  assert flaws.rates(9)['wrong_last_step'] == pytest.approx(0.2)
  with pytest.raises(configuration.ConfigurationError, match='for 3 steps sum'):
    dataclasses.replace(flaws, scale=2.0)


def test_a_consistent_author_has_one_style_and_flaw():
  corpus = dataclasses.replace(SMALL.corpus, author_consistency=1.0)
  config = dataclasses.replace(SMALL, corpus=corpus)
  for index in range(50):
    page = config.document(0, index)
    assert len({item.flaw for item in page}) == 1
  mixed = [SMALL.document(0, index) for index in range(50)]
  assert any(len({item.flaw for item in page}) > 1 for page in mixed)


def test_the_same_seed_gives_the_same_bytes_on_every_machine():
  digest = functools.partial(embedded_tasks.digest, SMALL, reference='answer')
  assert digest(0) == digest(0) != digest(1)
  assert digest(0)[:16] == '987c694317942e03'


def test_a_document_does_not_depend_on_the_others():
  pages = list(SMALL.documents(0, 0, 20))
  assert list(SMALL.documents(0, 7, 9)) == pages[7:9]


def test_more_problems_than_there_are_is_an_error_not_a_hang():
  tiny = word_problems.Difficulty(
    steps=(2,),
    step_weights=(1.0,),
    max_start=2,
    max_operand=2,
    max_factor=2,
    max_value=9,
  )
  config = dataclasses.replace(SMALL, difficulty=tiny, num_train=5000)
  with pytest.raises(configuration.ConfigurationError, match='Ask for fewer'):
    config.read(0)


def test_expressions_have_the_precedence_of_mathematics():
  chain = word_problems.Chain(
    (4, 6), (('add', 5), ('share', 2), ('each', 2, 3))
  )
  assert chain.expression() == '(4*6+5)/2-2*3'
  chain = word_problems.Chain((3,), (('times', 2), ('take', 1), ('times', 2)))
  assert eval(chain.expression()) == chain.steps()[-1].result == 10
