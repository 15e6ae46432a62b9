"""Tokens are what two copies of a text agree on; equal grams hash alike."""

import random
import subprocess
import sys

import numpy as np
import pytest

from rest_jax.tasks.decontamination import ngrams

WORDS = ['a', 'b', 'x', '7', '=', '\\frac']


@pytest.mark.parametrize(
  'text, other',
  [
    ('How many apples has Tom?', 'HOW MANY apples, has Tom'),
    ("Don't stop; it is Tom's.", 'Don\u2019t  stop\n(it is Toms)'),
    ('It costs 1,000,000 dollars.', 'It costs $1000000$ dollars'),
    ('\ufb01nd \u212b and \uff11\uff12', 'find \u00e5 and 12'),  # NFKC
    ('x\u200b y\u00ad', 'x y'),
    ('a well-known number -- 5', 'a well known number: 5'),
    ('x \u2212 3', 'x - 3'),
    (r'\left( \dfrac{1}{2}, x_{12} \right)', r'$(\frac 1 2, x_12)$'),
    (r'\big[ 3x \bigr] \quad \displaystyle y', '3 x y'),
    ('def f_of(a):\n  return a<=b', 'def f of (a) return a <= b'),
    ('[asy] draw((0,0)--(1,2)); [/asy]', '[ASY]\ndraw((0,0) -- (1,2))[/ASY]'),
  ],
)
def test_ways_to_write_a_text_have_the_same_tokens(text, other):
  assert ngrams.tokens(text)
  assert ngrams.tokens(text) == ngrams.tokens(other)


@pytest.mark.parametrize(
  'text, other',
  [
    ('x + 3', 'x - 3'),
    ('3.5', '3 5'),
    ('12', '1 2'),
    (r'\sin x', 'sin x'),
    ('a < b', 'a <= b'),
    ('[asy] draw((0,0)); [/asy]', '[asy] draw((0,1)); [/asy]'),
    (r'a \\ b', r'a \b'),
  ],
)
def test_texts_that_say_something_else_have_other_tokens(text, other):
  assert ngrams.tokens(text) != ngrams.tokens(other)


def test_a_drawing_is_one_token_and_signs_without_spaces_are_one_each():
  drawing = '[asy] size(150); draw((0,0)--(3,0)--(3,4)--cycle); [/asy]'
  assert len(ngrams.tokens(f'Find x. {drawing} Go.')) == 4
  assert ngrams.tokens('計算 3+4') == ['計', '算', '3', '+', '4']
  assert ngrams.tokens('?! (,) {}') == []


@pytest.mark.parametrize('n', [1, 2, 5])
def test_grams_hash_alike_exactly_if_they_are_the_same_tokens(n):
  draw = random.Random(n)
  texts = [draw.choices(WORDS, k=draw.randrange(12)) for _ in range(60)]
  grams = ngrams.Encoder()(' '.join(text) for text in texts)
  hashes, starts = grams.of(n)
  expected = [
    (k, tuple(text[i : i + n]))
    for k, text in enumerate(texts)
    for i in range(len(text) - n + 1)
  ]
  assert grams.text_of[starts].tolist() == [k for k, _ in expected]
  of_gram = {}
  for (_, gram), value in zip(expected, hashes.tolist(), strict=True):
    assert of_gram.setdefault(gram, value) == value
  assert len(set(of_gram.values())) == len(of_gram) > 1


def test_a_whole_text_hashes_as_the_gram_of_its_length():
  grams = ngrams.Encoder()(['', 'a b', 'x a b', 'a b', 'a b 7'])
  whole = grams.whole()
  assert whole[1] == whole[3] and len(set(whole.tolist())) == 4
  assert grams.of(2)[0][0] == whole[1]
  hashes, starts = grams.of(3)
  assert hashes.tolist() == [whole[2], whole[4]] and starts.tolist() == [2, 7]
  assert grams.of(4)[0].size == 0


def test_a_gram_is_the_same_far_into_a_long_text_and_in_another_process():
  filler = ' '.join(f'w{i}' for i in range(50_000))
  needle = 'seven apples and 3.5 pears'
  encode = ngrams.Encoder()
  (value,) = encode([needle]).of(5)[0].tolist()
  grams = encode([filler, f'{filler} {needle}'])
  found = np.flatnonzero(grams.of(5)[0] == np.uint64(value))
  assert found.tolist() == [len(grams.of(5)[0]) - 1]
  script = (
    'from rest_jax.tasks.decontamination import ngrams\n'
    f'print(ngrams.Encoder()([{needle!r}]).of(5)[0].tolist()[0])'
  )
  out = subprocess.check_output([sys.executable, '-c', script], text=True)
  assert int(out) == value


def test_no_text_has_no_gram():
  grams = ngrams.Encoder()([])
  assert grams.of(13)[0].size == grams.whole().size == 0
