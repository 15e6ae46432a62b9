"""Where a completion ends, over vocabularies that cut text awkwardly."""

import pytest

from rest_jax.sampling import stops

PIECES = ['<eos>', 'a', 'b', '.\n', '\n', '\nQ', ':', 'STOP', 'ST', 'OP', ' ']


def decode(ids):
  return ''.join(PIECES[i] for i in ids if i != 0)


def ids(*pieces):
  return [PIECES.index(piece) for piece in pieces]


@pytest.mark.parametrize(
  'tokens, stop, text, used, target, reason',
  [
    (['a', 'b', '<eos>', 'a'], ['\n\n'], 'ab', 3, 2, 'eos'),
    (['a', '\n', '\n', 'b'], ['\n\n'], 'a', 3, 1, 'stop'),
    # An id across the start of the stop string belongs to the text.
    (['a', '.\n', '\n', 'b'], ['\n\n'], 'a.', 3, 2, 'stop'),
    (['a', '.\n', '\nQ', ':'], ['\n\nQ:'], 'a.', 4, 2, 'stop'),
    (['a', 'ST', 'OP', 'b'], ['STOP'], 'a', 3, 1, 'stop'),
    # The earliest of several stop strings, and of EOS.
    (['a', ':', 'STOP'], ['STOP', ':'], 'a', 2, 1, 'stop'),
    (['a', '<eos>', 'STOP'], ['STOP'], 'a', 2, 1, 'eos'),
    (['STOP'], ['STOP'], '', 1, 0, 'stop'),
    (['<eos>'], ['STOP'], '', 1, 0, 'eos'),
    (['a', 'ST', 'b'], ['STOP'], 'aSTb', 3, 3, 'length'),
    (['a', 'b'], [], 'ab', 2, 2, 'length'),
  ],
)
def test_a_completion_ends_where_it_should(
  tokens, stop, text, used, target, reason
):
  end = stops.find_end(ids(*tokens), decode, eos_ids=[0], stop=stop)
  assert end == stops.Ending(used, target, text, reason)


def test_any_of_several_eos_ids_ends_a_completion():
  end = stops.find_end(ids('a', ':', 'b'), decode, eos_ids=[0, 6], stop=[])
  assert (end.text, end.num_tokens, end.finish_reason) == ('a', 2, 'eos')


def test_a_stop_string_is_seen_whatever_the_chunks():
  tokens = ids(*['a'] * 200, 'ST', 'OP', *['b'] * 100)
  for step in (1, 7, 32):
    seen = [
      end
      for end in range(step, len(tokens) + 1, step)
      if stops.is_stopped(tokens[:end], decode, ['STOP'], step)
    ]
    assert seen[0] - 202 < step
    assert not stops.is_stopped(tokens[:201], decode, ['STOP'], step)
