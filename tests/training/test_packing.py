"""Packing against brute force: every token where it belongs, once per epoch."""

import collections

import numpy as np
import pytest

from rest_jax.artifacts import records
from rest_jax.config import configuration
from rest_jax.training import composition, packing

LENGTH = 32


def table(lengths, *, seed=0, weights=None):
  """Examples of these lengths; about a third of each is prompt."""
  rng = np.random.default_rng(seed)
  rows = []
  for index, length in enumerate(lengths):
    prompt = max(length // 3, 1)
    rows.append(
      records.Example(
        problem_id=f'p{index}',
        sample_index=0,
        token_ids=rng.integers(3, 90, length).tolist(),
        weight=1.0 if weights is None else weights[index],
        segment_types=[records.PROMPT] * prompt
        + [records.TARGET] * (length - prompt),
      )
    )
  return records.to_table(records.Example, rows)


def packer(examples, **fields):
  return packing.Packer(
    examples, **({'row_length': LENGTH, 'seed': 0} | fields)
  )


def realistic_lengths(number, row_length, seed=0):
  """Prompts and solutions: log-normal, a mean of a fifth of a row."""
  rng = np.random.default_rng(seed)
  drawn = rng.lognormal(np.log(row_length / 6), 0.6, number).astype(int)
  return np.clip(drawn, 2, row_length + 1).tolist()


def unpacked(rows, row):
  """The examples of a packed row: [(ids, weight of each target)]."""
  found = []
  for segment in range(1, rows.segment_ids[row].max(initial=0) + 1):
    (places,) = np.nonzero(rows.segment_ids[row] == segment)
    assert places.tolist() == list(range(places[0], places[-1] + 1))
    assert rows.positions[row, places].tolist() == list(range(len(places)))
    ids = [*rows.tokens[row, places].tolist(), rows.targets[row, places[-1]]]
    assert rows.targets[row, places].tolist() == ids[1:]
    found.append((tuple(ids), rows.loss_weights[row, places].tolist()))
  return found


def test_every_example_appears_exactly_once_in_every_epoch():
  examples = table(realistic_lengths(60, LENGTH))
  made = packer(examples)
  expected = collections.Counter(
    tuple(ids) for ids in examples['token_ids'].to_pylist()
  )
  for epoch in range(3):
    first = epoch * made.rows_per_epoch
    rows = made.batch(range(first, first + made.rows_per_epoch))
    found = [unpacked(rows, row) for row in range(made.rows_per_epoch)]
    assert expected == collections.Counter(
      ids for row in found for ids, _ in row
    )
  assert made.num_examples == 60 and made.num_too_long == 0


def test_a_row_holds_its_examples_and_only_targets_have_weight():
  weights = np.linspace(0, 2, 40).tolist()
  examples = table(realistic_lengths(40, LENGTH), weights=weights)
  made = packer(examples)
  rows = made.batch(range(made.rows_per_epoch))
  by_ids = {tuple(row['token_ids']): row for row in examples.to_pylist()}
  for row in range(made.rows_per_epoch):
    found, total = unpacked(rows, row), 0.0
    for ids, loss_weights in found:
      example = by_ids[ids]
      types = np.array(example['segment_types'][1:])
      np.testing.assert_array_equal(
        loss_weights, types * np.float32(example['weight'])
      )
      total += types.sum() * example['weight']
    assert rows.normalizers[row] == pytest.approx(total, rel=1e-6)
    padding = rows.segment_ids[row] == 0
    assert padding.sum() == LENGTH - sum(len(ids) - 1 for ids, _ in found)
    for array in (rows.tokens, rows.targets, rows.loss_weights):
      assert not array[row, padding].any()


def test_a_place_of_the_training_is_known_without_those_before_it():
  examples = table(realistic_lengths(50, LENGTH))
  in_order, seeking = packer(examples), packer(examples)
  count = 3 * in_order.rows_per_epoch
  expected = [in_order.row_number(index) for index in range(count)]
  order = np.random.default_rng(1).permutation(count)
  assert [seeking.row_number(i) for i in order] == [expected[i] for i in order]
  late = packer(examples).batch([count - 1])
  np.testing.assert_array_equal(
    late.tokens, in_order.batch(range(count)).tokens[-1:]
  )
  epochs = np.reshape(expected, (3, -1))
  assert not np.array_equal(epochs[0], epochs[1])  # each in its own order


def test_seeds_compose_and_order_the_rows_differently():
  examples = table(realistic_lengths(50, LENGTH))
  one, same, other = (packer(examples, seed=seed) for seed in (0, 0, 1))
  assert one.rows == same.rows
  assert one.rows != other.rows


def test_rows_are_more_than_nine_tenths_full():
  lengths = realistic_lengths(5_000, 512)
  made = packer(table(lengths), row_length=512)
  assert made.fill > 0.9
  places = sum(length - 1 for length in lengths)
  assert made.fill == pytest.approx(places / (made.rows_per_epoch * 512))


def test_the_largest_examples_take_their_rows_first():
  assert composition.first_fit([0, 1, 2, 3, 4], [4, 6, 3, 6, 5], 10) == [
    [1, 0],
    [3, 2],
    [4],
  ]


def test_examples_of_half_a_row_leave_little_of_it():
  # As the problems of MATH in rows of 4096 tokens: each takes about a half.
  rng = np.random.default_rng(0)
  places = np.clip(rng.lognormal(np.log(1800), 0.35, 3000), 300, 4096)
  places = places.astype(int).tolist()
  rows = composition.first_fit(range(3000), places, 4096)
  assert sorted(item for row in rows for item in row) == list(range(3000))
  taken = [sum(places[item] for item in row) for row in rows]
  assert max(taken) <= 4096
  assert sum(taken) / (4096 * len(rows)) > 0.95


def test_rows_mix_examples_of_different_places_in_the_order():
  # Only some hundred examples are put in order together, so that a row does
  # not depend on how long those far behind it are.
  rng = np.random.default_rng(1)
  places = rng.integers(100, 900, 2000).tolist()
  whole = composition.first_fit(range(2000), places, 1000)
  part = composition.first_fit(range(1000), places[:1000], 1000)
  early = [row for row in whole if max(row) < 500]
  assert len(early) > 200
  assert sum(row in part for row in early) / len(early) > 0.95


def test_examples_longer_than_a_row_are_counted_and_never_cut():
  examples = table([LENGTH + 1, LENGTH + 2, 5, 90, 1])
  made = packer(examples)
  assert made.num_too_long == 2
  assert made.num_examples == 2  # one token has nothing to predict
  rows = made.batch(range(made.rows_per_epoch))
  lengths = [
    len(ids)
    for row in range(made.rows_per_epoch)
    for ids, _ in unpacked(rows, row)
  ]
  assert sorted(lengths) == [5, LENGTH + 1]


def test_no_example_that_fits_is_an_error_that_names_the_longest():
  with pytest.raises(
    configuration.ConfigurationError, match='32 tokens .* 2 takes 40'
  ):
    packer(table([41, 34]))


def test_tokens_in_counts_what_is_not_padding():
  made = packer(table(realistic_lengths(60, LENGTH)))
  first, count = made.rows_per_epoch - 3, 7  # across the epochs' border
  rows = made.batch(range(first, first + count))
  assert made.tokens_in(first, count) == (rows.segment_ids > 0).sum()
