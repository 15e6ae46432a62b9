"""Where a completion ends, over vocabularies that cut text awkwardly."""

import itertools
import random

import numpy as np
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
  looking = stops.StopStrings(decode, ['STOP'])
  tokens = ids(*['a'] * 200, 'ST', 'OP', *['b'] * 100)
  for step in (1, 7, 32):
    seen = [
      end
      for end in range(step, len(tokens) + 1, step)
      if looking.found(tokens[:end], step)
    ]
    assert seen[0] - 202 < step
    assert not looking.found(tokens[:201], step)


def decode_bytes(pieces):
  return b''.join(pieces).decode('utf-8', errors='replace')


def cut(raw, places):
  """The bytes cut at these places, as the ids of a byte-level vocabulary."""
  edges = [0, *sorted(set(places)), len(raw)]
  return [raw[a:b] for a, b in zip(edges, edges[1:], strict=False) if a < b]


def test_a_target_holds_the_whole_character_before_the_stop_string():
  """The id with the last byte of the emoji also starts the stop string."""
  raw = '42 😀'.encode()
  pieces = [raw[:-2], raw[-2:-1], raw[-1:] + b'\n', b'\nQ', b': more']
  end = stops.find_end(pieces, decode_bytes, eos_ids=[], stop=['\n\nQ:'])
  assert end.text == '42 😀'
  assert decode_bytes(pieces[: end.target_length]) == '42 😀\n'
  assert end.num_tokens == 5


def test_a_stop_string_counts_once_its_last_character_is_whole():
  pieces = [b'a', *(bytes([b]) for b in '終'.encode()), b'b']
  end = stops.find_end(pieces, decode_bytes, eos_ids=[], stop=['終'])
  assert (end.text, end.num_tokens, end.target_length) == ('a', 4, 1)


def test_no_target_ends_inside_a_character_however_the_ids_cut_the_bytes():
  """Random cuts of texts in several scripts, against the bytes themselves."""
  generator = random.Random(0)
  alphabet = ['a', ' ', 'é', 'Ж', '日', '終', '😀', '👩\u200d🔬']
  stop = ['\n\nQ:', '終り', '🛑']
  seen_crossing = seen_given_up = 0
  for _ in range(400):
    before = ''.join(generator.choices(alphabet, k=generator.randrange(6)))
    behind = ''.join(generator.choices(alphabet, k=generator.randrange(4)))
    chosen = generator.choice(stop)
    raw = (before + chosen + behind).encode()
    pieces = cut(raw, generator.choices(range(len(raw)), k=len(raw) // 2))
    end = stops.find_end(pieces, decode_bytes, eos_ids=[], stop=stop)
    assert (end.text, end.finish_reason) == (before, 'stop')
    # The ids used are the fewest that hold all bytes of the stop string.
    needed = len((before + chosen).encode())
    assert len(b''.join(pieces[: end.num_tokens])) >= needed
    assert len(b''.join(pieces[: end.num_tokens - 1])) < needed
    target = b''.join(pieces[: end.target_length])
    target.decode()  # raises where it ends inside a character
    whole = [
      n
      for n in range(end.num_tokens + 1)
      if is_utf8(b''.join(pieces[:n]))
      and len(b''.join(pieces[:n])) >= len(before.encode())
    ]
    if whole:
      assert end.target_length == whole[0]
      seen_crossing += target.decode() != before
    else:
      assert before.startswith(target.decode())
      seen_given_up += 1
  assert seen_crossing > 10 and seen_given_up > 3


def is_utf8(raw):
  try:
    raw.decode()
  except UnicodeDecodeError:
    return False
  return True


def test_a_long_stop_string_spelt_in_bytes_is_seen_at_once():
  stop = '問題の終わりはここです。次の問題に進んでください。'
  raw = ('答え' + stop).encode()
  pieces = [bytes([byte]) for byte in raw]
  assert len(stop.encode()) > 70
  looking = stops.StopStrings(decode_bytes, [stop])
  assert not looking.found(pieces[:-1], 1)
  assert looking.found(pieces, 1)


# A space in front is lost at the start of a text, as SentencePiece loses it.
SPACED = [
  'a',
  ' b',
  '\n',
  '\n\n',
  ' Q',
  'Q:',
  ':',
  'x:y',
  '\nQ',
  '.',
  '##',
  '#',
]


def decode_spaced(tokens):
  return ''.join(SPACED[token] for token in tokens).removeprefix(' ')


@pytest.mark.parametrize('stop', ['\n\n', '\nQ:', ' Q', '##', '.', 'Q: b'])
def test_an_id_that_completes_a_stop_string_is_a_suspect(stop):
  """All texts of up to four pieces, by brute force."""
  looking = stops.StopStrings(decode_spaced, [stop])
  completing = {
    text[-1]
    for length in (1, 2, 3, 4)
    for text in itertools.product(range(len(SPACED)), repeat=length)
    if stop in decode_spaced(text) and stop not in decode_spaced(text[:-1])
  }
  suspects = looking.suspects(np.arange(len(SPACED)).reshape(2, -1))
  assert completing <= set(np.flatnonzero(suspects.reshape(-1)))
  assert suspects.sum() < len(SPACED) / 2  # it rules most of them out


def test_without_stop_strings_nothing_is_a_suspect():
  assert not stops.StopStrings(decode, []).suspects(np.arange(9)).any()
