"""What is shared, against a plain search for each n-gram."""

import json
import random

import math_rewritings
import pytest

from rest_jax.config import configuration
from rest_jax.tasks.decontamination import ngrams, overlap, overlap_results

LONG = (
  'A train leaves the station at 7 in the morning with 120 people and stops '
  'at every third village on its way to the sea.'
)


def grams_of(tokens, n):
  return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def contains(tokens, gram):
  n = len(gram)
  return any(
    tuple(tokens[i : i + n]) == gram for i in range(len(tokens) - n + 1)
  )


class Plain:
  """The definition, gram by gram. rows: (id, tokens, is a question)."""

  def __init__(self, n, rows):
    self.n, self.rows = n, rows

  def problem(self, tokens):
    """(coverage, same question, ids that share) of one problem."""
    size = self.n
    if min(self.n, overlap.MIN_TOKENS) <= len(tokens) < self.n:
      size = len(tokens)
    covered, ids, same = set(), set(), False
    for key, other, question in self.rows:
      if question and tokens and other == tokens:
        same = True
        ids.add(key)
      for i in range(len(tokens) - size + 1):
        if len(tokens) < size or size == 0:
          continue
        if contains(other, tuple(tokens[i : i + size])):
          if len(tokens) >= min(self.n, overlap.MIN_TOKENS):
            covered |= set(range(i, i + size))
            ids.add(key)
    coverage = 1.0 if same else len(covered) / max(1, len(tokens))
    return coverage, same, ids


def phrases(draw, number):
  """Texts that have stretches of various lengths in common."""
  pool = [
    ' '.join(draw.choices('abcdefgh', k=draw.randrange(1, 14)))
    for _ in range(12)
  ]
  return [
    ' '.join(draw.choices(pool, k=draw.randrange(4))) for _ in range(number)
  ]


@pytest.mark.parametrize('n', [2, 5, 9, 13])
@pytest.mark.parametrize('seed', range(3))
def test_all_numbers_are_those_of_a_plain_search(n, seed, monkeypatch):
  monkeypatch.setattr(overlap, '_TEXTS_AT_ONCE', 7)
  draw = random.Random(seed)
  sets = {}
  for name in ('u/test', 'v/test'):
    texts = phrases(draw, 25)
    sets[name] = ([f'{name}/{i}' for i in range(25)], texts)
  questions, solutions = phrases(draw, 20), phrases(draw, 20)
  ids = [f't/train/{i}' for i in range(20)]
  matches = overlap.Matches(overlap.Index(sets, n))
  matches.add(ids, questions, questions=True)
  matches.add(ids[:15], solutions[:15])
  rows = [(k, q.split(), True) for k, q in zip(ids, questions, strict=True)]
  rows += [
    (k, s.split(), False) for k, s in zip(ids[:15], solutions[:15], strict=True)
  ]
  plain = Plain(n, rows)
  everything = set()
  for name, (keys, texts) in sets.items():
    found = matches.found(name)
    expected = {
      key: plain.problem(text.split())
      for key, text in zip(keys, texts, strict=True)
    }
    sharing = set().union(*(ids for _, _, ids in expected.values()))
    everything |= sharing
    assert found.problems == 25 and found.training == 20
    assert found.shared == sum(1 for _, _, ids in expected.values() if ids)
    assert found.same_question == sum(s for _, s, _ in expected.values())
    assert found.half_covered == sum(
      coverage >= 0.5 for coverage, _, _ in expected.values()
    )
    assert matches.sharing([name]) == sharing
    assert found.training_shared == len(sharing)
    assert len(found.examples) == min(10, found.shared)
    for one in found.examples:
      coverage, same, partners = expected[one.id]
      assert one.coverage == pytest.approx(coverage, abs=1e-4)
      assert one.same_question == same and one.partner in partners
    shown = [e.coverage for e in found.examples if not e.same_question]
    assert shown == sorted(shown, reverse=True)
  assert matches.sharing(list(sets)) == everything


def shared_with(question, text, *, n=13, questions=False):
  """What one training text and one evaluated question share."""
  matches = overlap.Matches(overlap.Index({'e': (['e/1'], [question])}, n))
  matches.add(['t/1'], [text], questions=questions)
  return matches.found('e')


@pytest.mark.parametrize('text', [LONG, 'What is 3 + 4?', 'x', 'Find x. ' * 9])
def test_the_same_question_is_always_found(text):
  found = shared_with(text, text, questions=True)
  assert found.shared == found.same_question == 1
  assert found.half_covered == found.training_shared == 1
  (one,) = found.examples
  assert one.to_json() == {
    'id': 'e/1',
    'with': 't/1',
    'coverage': 1.0,
    'same_question': True,
  }
  assert overlap_results.Overlap.from_json(found.to_json()) == found


@pytest.mark.parametrize(
  'change',
  [
    str.upper,
    lambda text: text.replace(' ', '\n  '),
    lambda text: f'({text.replace(" ", ", ")})!',
  ],
)
def test_case_spacing_and_punctuation_hide_nothing(change):
  found = shared_with(LONG, change(LONG), questions=True)
  assert change(LONG) != LONG and found.same_question == 1


def test_unrelated_texts_share_nothing():
  draw = random.Random(0)
  words = [f'w{i}' for i in range(40)]
  one, two = (' '.join(draw.choices(words, k=2000)) for _ in range(2))
  found = shared_with(one, two, questions=True)
  assert found.shared == found.training_shared == 0
  assert not found.examples


def test_a_solution_is_never_the_same_question():
  found = shared_with('What is 3 + 4?', 'What is 3 + 4?')
  assert found.short == 1 and found.shared == 0
  found = shared_with(LONG, LONG)
  assert found.shared == 1 and found.same_question == 0


def test_a_short_question_counts_only_as_a_whole_and_from_eight_tokens():
  eight = 'one two three four five six seven eight'
  assert shared_with(eight, f'so {eight} it is').shared == 1
  assert shared_with(eight, eight.removesuffix('eight')).shared == 0
  seven = eight.removesuffix(' eight')
  found = shared_with(seven, f'so {seven} it is', questions=True)
  assert found.shared == 0 and found.short == 1
  # With shorter grams, a text of seven tokens is as long as any.
  assert shared_with(seven, f'so {seven} it is', n=5).shared == 1


def test_coverage_counts_each_token_once():
  words = [f'w{i}' for i in range(40)]
  text = ' '.join(words[:15])  # three grams of 13, over 15 tokens
  found = shared_with(' '.join(words), text)
  assert found.examples[0].coverage == 15 / 40
  assert found.half_covered == 0
  found = shared_with(' '.join(words), ' '.join(words[:20]))
  assert found.half_covered == 1


def test_texts_without_a_token_and_sets_without_a_problem_share_nothing():
  found = shared_with('?!', '...', questions=True)
  assert found.shared == found.same_question == 0
  matches = overlap.Matches(overlap.Index({'e': ([], [])}, 13))
  matches.add(['t/1'], [LONG], questions=True)
  assert matches.found('e').shared == matches.found('e').problems == 0


@pytest.mark.parametrize('ngram', [-1, 1, 101])
def test_a_length_that_makes_no_sense_is_refused(ngram):
  with pytest.raises(configuration.ConfigurationError, match='OVERLAP_NGRAM'):
    overlap.check(ngram)


@pytest.mark.skipif(
  not math_rewritings.MATH.exists(), reason='../shared/data/math is not here'
)
def test_math_shares_with_its_own_test_set_what_a_plain_search_finds():
  train, test = (
    [
      json.loads(line)
      for line in (math_rewritings.MATH / name).read_text().splitlines()
    ]
    for name in ('train.jsonl', 'math500.jsonl')
  )
  questions = [row['problem'] for row in test]
  ids = [f'{i}' for i in range(len(train))]
  index = overlap.Index({'m': ([f'{i}' for i in range(500)], questions)}, 13)
  matches = overlap.Matches(index)
  matches.add(ids, [row['problem'] for row in train], questions=True)
  matches.add(ids, [row['solution'] for row in train])
  wanted = [grams_of(ngrams.tokens(text), 13) for text in questions]
  there = set()
  for row in train:
    for text in (row['problem'], row['solution']):
      there |= grams_of(ngrams.tokens(text), 13)
  found = matches.found('m')
  plain = sum(1 for grams in wanted if grams & there)
  # Questions of 8 to 12 tokens, whole, come on top; in MATH-500 there are none.
  assert found.shared == plain > 50
  assert found.same_question == 0
