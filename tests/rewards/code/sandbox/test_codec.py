"""Literals keep their types on the way; nothing else gets through."""

import math
import random
import sys
import time

import pytest

from rest_jax.rewards.code.sandbox import codec

VALUES = [
  None,
  True,
  False,
  0,
  -1,
  10**5000,
  -(2**64),
  0.0,
  -0.0,
  1e308,
  float('inf'),
  2 + 3j,
  '',
  'é\U0001f600\x00',
  '\ud800',
  b'\x00;',
  [],
  (),
  {},
  set(),
  frozenset(),
  [1, (2, [3, {4: (5,)}])],
  {'a': [1], 2: None, (1, 2): {3}},
  {1, 2.5, 'x', (1,)},
  frozenset({1, 2}),
  [int, str, frozenset],
]


def types(value):
  """A value's types, all the way down."""
  if isinstance(value, dict):
    return dict, [(types(k), types(v)) for k, v in value.items()]
  if isinstance(value, (list, tuple)):
    return type(value), [types(item) for item in value]
  return type(value)


@pytest.mark.parametrize('value', VALUES, ids=range(len(VALUES)))
def test_a_value_arrives_as_it_left_with_its_types(value):
  found = codec.decode(codec.encode(value))
  assert found == value
  assert types(found) == types(value)
  if isinstance(value, float):
    assert math.copysign(1, found) == math.copysign(1, value)


def test_nan_arrives():
  assert math.isnan(codec.decode(codec.encode(float('nan'))))


def test_subclasses_and_objects_do_not_travel():
  class Liar(int):
    def __eq__(self, other):
      return True

    __hash__ = int.__hash__

  class Text(str):
    pass

  for value in (Liar(3), Text('x'), object(), Liar, len, iter([])):
    with pytest.raises(codec.CodecError, match='cannot travel'):
      codec.encode([value])


def test_a_value_that_holds_itself_is_refused():
  value = []
  value.append(value)
  with pytest.raises(codec.CodecError, match='deep'):
    codec.encode(value)


def test_the_limit_on_bytes_holds():
  with pytest.raises(codec.CodecError, match='1000 bytes'):
    codec.encode(['x' * 100] * 20, limit=1000)
  assert len(codec.encode(['x' * 100] * 5, limit=1000)) <= 1000


@pytest.mark.parametrize(
  'data',
  [
    b'',
    b'N ',
    b'NN',
    b'x',
    b'i',
    b'i;',
    b'i0.5;',
    b's5;abc',
    b's-1;abc',
    b'f123',
    b'[3;NN',
    b'[ffffffffffff;',
    b'[-1;',
    b'{1;N',
    b'<1;[0;',  # a set of a list
    b'{1;[0;N',
    b'h0;',
    b'k63;',
    b'k-1;',
    b's1;\xff',
    b'[1;' * 5000 + b'N',
    b'c' + bytes(9),
  ],
)
def test_what_is_no_value_is_refused(data):
  with pytest.raises(codec.CodecError):
    codec.decode(data)


def test_random_bytes_raise_nothing_but_the_codecs_error():
  source = random.Random(0)
  whole = codec.encode(VALUES)
  for _ in range(3000):
    data = bytearray(whole)
    for _ in range(source.randint(1, 6)):
      data[source.randrange(len(data))] = source.randrange(256)
    data = bytes(data[: source.randint(1, len(data))])
    for hashing in (True, False):
      try:
        codec.decode(data, hashing=hashing)
      except codec.CodecError:
        pass


def test_colliding_keys_cost_a_process_without_a_limit_nothing():
  """All keys have one hash: building the set would be quadratic."""
  modulus = sys.hash_info.modulus
  keys = [1 + i * modulus for i in range(20_000)]
  assert len({hash(key) for key in keys}) == 1
  data = b'<%x;' % len(keys) + b''.join(b'i%x;' % key for key in keys)
  start = time.process_time()
  found = codec.decode(data, hashing=False)
  seconds = time.process_time() - start
  assert found == codec.Elements(keys)
  start = time.process_time()
  codec.decode(codec.encode(keys))
  plain = time.process_time() - start
  assert seconds < 20 * plain + 0.1


def test_long_integers_are_linear():
  """Ten times the digits, far less than a hundred times the time."""
  times = []
  for digits in (10**5, 10**6):
    data = b'i' + b'f' * digits + b';'
    start = time.process_time()
    codec.decode(data)
    times.append(time.process_time() - start)
  assert times[1] < 50 * times[0] + 0.05


def test_handles_are_numbers_that_the_reader_resolves():
  value = object()
  reference = codec.Reference(codec.CANDIDATES, 7)
  data = codec.encode([value, 1], other=lambda _: reference)
  assert codec.decode(data, resolve=lambda found: [found]) == [[reference], 1]
  with pytest.raises(codec.CodecError):
    codec.decode(data)
