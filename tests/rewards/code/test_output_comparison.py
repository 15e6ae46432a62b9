"""The comparer: what counts as the same output, and as the same value."""

import math

import cost
import pytest

from rest_jax.rewards.code import output_comparison
from rest_jax.rewards.code.sandbox import codec


def same(expected, found):
  return not output_comparison.difference(expected, found)


@pytest.mark.parametrize(
  ('expected', 'found'),
  [
    ('6\n', '6'),
    ('6', '6 \r\n\r\n'),  # CRLF, trailing space, blank lines
    ('1 2\n3\n', '1  2 \n 3\n\n'),
    ('', '\n'),
    ('0.3', '0.30000000000000004'),
    ('1.00000000001', '1.0'),
    ('1e-11', '0.0'),
    ('2.50', '2.5'),
    ('5.0', '5'),
    ('1e5', '100000'),
    ('-0.0', '0'),
    ('1000000.5', '1000001.2'),
    ('YES 0.5', 'YES .5'),
    ('nan', 'nan'),
  ],
)
def test_the_same_output(expected, found):
  assert same(expected, found)


@pytest.mark.parametrize(
  ('expected', 'found'),
  [
    ('123456789', '123456788'),
    ('Christmas Eve Eve Eve', 'Christmas Eve'),
    ('YES\nNO\nYES', 'NO\nYES\nYES'),
    ('3 3 2 1 1 2', '1 2 3'),
    ('0.0001 7', '0.0004 7'),
    ('1 2 3', '3 2 1'),
    ('1 2', '1\n2'),
    ('1\n2', '1 2'),
    ('1\n\n2', '1\n2'),
    ('6', '6.0'),  # an integer was expected
    ('6', '06'),
    ('6', '+6'),
    ('6', '0\n1\n2\n3\n4\n5\n6\n7'),
    ('6', ''),
    ('', '6'),
    ('Yes', 'YES'),
    ('1.5', 'nan'),
    ('1.5', 'inf'),
    ('1.5', '1_5'),
    ('1.5', '1.5.'),
    ('1.5', '١.٥'),
    ('1e400', '1e500'),
    ('1.5', '1.5' + '0' * 1000),
    ('12', '12abc'),
    ('a.b', 'a.c'),
    ('1.0', '1.00001'),
    ('abc', 'abc\x00'),
  ],
)
def test_another_output(expected, found):
  assert not same(expected, found)


def test_the_difference_names_the_line():
  text = output_comparison.difference('1\n2\n3', '1\n5\n3')
  assert text == "line 2: '5', expected '2'"
  assert output_comparison.difference('1\n2', '1') == '1 lines, expected 2'


def test_comparing_is_linear_in_a_hostile_output():
  huge = '9' * 2_000_000 + '\n' + '1 ' * 500_000
  for expected in ('1.5', '1.5\n' + '1.0 ' * 500_000):
    assert not same(expected, huge)
    assert cost.in_loops(same, expected, huge) < 80  # some 0.1 us a byte


def through(value):
  return codec.decode(codec.encode(value), hashing=False)


@pytest.mark.parametrize(
  ('expected', 'found'),
  [
    (1, 1),
    (0.3, 0.1 + 0.2),
    (2.0, 2),
    ([1, [2, 3]], (1, (2, 3))),
    ([[1, 2]], [(1, 2)]),
    ({'1': 2}, {1: 2}),
    ({'a': [1.5]}, {'a': (1.5,)}),
    (None, None),
    ('x', 'x'),
    ([], ()),
    (math.inf, math.inf),
  ],
)
def test_the_same_value(expected, found):
  assert output_comparison.same_value(expected, through(found))


@pytest.mark.parametrize(
  ('expected', 'found'),
  [
    (1, True),
    (True, 1),
    (1, 1.0),
    (0, None),
    (0, False),
    ('1', 1),
    ([1, 2, 3], [1, 2]),
    ([1, 2, 3], {1, 2, 3}),
    ([1, 2], {1: 2}),
    ({'a': 1}, {'a': 1, 'b': 2}),
    ({'a': 1, 'b': 2}, {'a': 1}),
    ({'1': 2}, {'1': 2, 1: 2}),
    ({'a': 1}, {'a': True}),
    ({'a': 1}, {(1, 2): 1}),
    ({}, []),
    ('abc', ['a', 'b', 'c']),
    ('a', b'a'),
    (1.5, '1.5'),
    (1.5, 10**400),
    (1.5, True),
    (123456789, 123456788),
  ],
)
def test_another_value(expected, found):
  assert not output_comparison.same_value(expected, through(found))


def test_a_set_is_no_list():
  assert not output_comparison.same_value([1], through({1}))
  assert not output_comparison.same_value([1], through(frozenset([1])))
