"""The M-step's rows through SeqIO are the rows that train feeds."""

import itertools

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf
import tiny_run

from rest_jax.artifacts import manifests
from rest_jax.config import configuration
from rest_jax.distributed import partitioning
from rest_jax.integrations.seqio import seqio_examples
from rest_jax.training.grid import Grid
from rest_jax.training.hyperparameters import TrainConfig

ROWS, LENGTH = 4, 48
NAMES = {  # of train's batches, and T5X's
  'tokens': 'decoder_input_tokens',
  'targets': 'decoder_target_tokens',
  'loss_weights': 'decoder_loss_weights',
  'positions': 'decoder_positions',
  'segment_ids': 'decoder_segment_ids',
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('examples') / 'examples'
  draw = np.random.default_rng(0)
  pairs = [
    (f'Question {i}:' + 'x' * int(draw.integers(1, 9)), f' {"y" * (i % 7)}')
    for i in range(50)
  ]
  weights = [1 / 3, 0.1, 1.0, 2 / 7, 0.0]
  return tiny_run.examples(folder, pairs, [weights[i % 5] for i in range(50)])


@pytest.fixture
def register(folder):
  names = []

  def register(name='test_examples', **fields):
    names.append(name)
    arguments = {'row_length': LENGTH, 'seed': 3} | fields
    return seqio_examples.register_examples(name, folder, **arguments)

  yield register
  for name in names:
    seqio.TaskRegistry.remove(name)


def fed_batches(name, *, rows=ROWS, **fields):
  dataset = seqio.get_dataset(
    name,
    {'targets': LENGTH},
    seqio_examples.PackedConverter(),
    shuffle=False,
    **fields,
  )
  return dataset.batch(rows).as_numpy_iterator()


def fed(folder, steps, tmp_path, **fields):
  """What the loop of `train` puts on its mesh, step by step."""
  config = TrainConfig(
    max_steps=steps,
    batch_rows=ROWS,
    row_length=LENGTH,
    seed=3,
    share_prompt=False,
    **fields,
  )
  grid = Grid(
    tmp_path,
    manifests.load(folder),
    None,
    tiny_run.MODEL,
    config,
    partitioning.MeshConfig(),
  )
  for done in range(steps):
    yield jax.tree.map(np.asarray, grid.batch(done))


@pytest.mark.parametrize('normalizer', ['token', 'sequence_mean'])
def test_batches_are_those_of_train_weight_by_weight(
  register, folder, tmp_path, monkeypatch, normalizer
):
  make = partitioning.make_mesh
  monkeypatch.setattr(
    partitioning, 'make_mesh', lambda mesh: make(mesh, jax.devices()[:1])
  )
  name = register(loss_normalizer=normalizer)
  steps = 2 * 50 // ROWS  # several epochs
  expected = fed(folder, steps, tmp_path, loss_normalizer=normalizer)
  weights = set()
  for batch, found in zip(expected, fed_batches(name), strict=False):
    assert set(found) == set(NAMES.values())
    for ours, theirs in NAMES.items():
      assert found[theirs].dtype == batch[ours].dtype
      np.testing.assert_array_equal(found[theirs], batch[ours])
    # So that T5X's NUM_REAL_TARGET_TOKENS is train's normaliser.
    np.testing.assert_allclose(
      found['decoder_loss_weights'].sum(), batch['normalizers'].sum(), rtol=1e-5
    )
    weights |= set(found['decoder_loss_weights'].ravel().tolist())
  assert found['decoder_loss_weights'].dtype == np.float32
  assert any(0 < weight < 0.2 for weight in weights)  # no integer has these


def test_a_later_start_row_gives_the_same_rows_from_there(register):
  whole = list(itertools.islice(fed_batches(register()), 9))
  late = fed_batches(register('test_late', start_row=5 * ROWS))
  for expected, found in zip(whole[5:], late, strict=False):
    for name in expected:
      np.testing.assert_array_equal(expected[name], found[name])


def test_epochs_end_and_none_goes_on(register, folder):
  endless = fed_batches(register(), rows=1)
  once = list(fed_batches(register('test_once', epochs=2), rows=1))
  per_epoch = len(once) // 2
  first = {row['decoder_input_tokens'].tobytes() for row in once[:per_epoch]}
  second = {row['decoder_input_tokens'].tobytes() for row in once[per_epoch:]}
  assert len(first) == per_epoch and first == second  # in another order
  for expected in once:
    np.testing.assert_array_equal(
      expected['decoder_input_tokens'], next(endless)['decoder_input_tokens']
    )
  assert next(endless) is not None


def test_hosts_share_the_rows_of_a_batch(register):
  name = register()
  whole = next(fed_batches(name))['decoder_input_tokens']
  parts = [
    next(fed_batches(name, rows=2, shard_info=seqio.ShardInfo(host, 2)))
    for host in range(2)
  ]
  shares = [part['decoder_input_tokens'] for part in parts]
  np.testing.assert_array_equal(np.stack(shares, 1).reshape(ROWS, -1), whole)


def test_an_iterator_is_restored_where_it_was(register, tmp_path):
  dataset = seqio.get_dataset(
    register(), {'targets': LENGTH}, seqio_examples.PackedConverter()
  )
  iterator = iter(dataset)
  for _ in range(7):
    next(iterator)
  path = tf.train.Checkpoint(it=iterator).write(str(tmp_path / 'c'))
  expected = next(iterator)
  again = iter(dataset)
  tf.train.Checkpoint(it=again).read(path)
  for name, value in next(again).items():
    np.testing.assert_array_equal(value, expected[name])


def test_what_cannot_be_is_refused(register, folder):
  name = register()
  assert register() == name  # the same again
  with pytest.raises(configuration.ConfigurationError, match='another name'):
    register(seed=4)
  with pytest.raises(configuration.ConfigurationError, match='shuffle=False'):
    seqio.get_mixture_or_task(name).get_dataset({'targets': LENGTH})
  with pytest.raises(configuration.ConfigurationError, match=f'{LENGTH}'):
    seqio.get_dataset(name, {'targets': 20}, seqio_examples.PackedConverter())
  for fields, match in (
    ({'epochs': 0}, 'epochs'),
    ({'start_row': -1}, 'start_row'),
    ({'loss_normalizer': 'tokens'}, 'sequence_mean'),
    ({'row_length': 1.5}, 'row_length'),
  ):
    with pytest.raises(configuration.ConfigurationError, match=match):
      register('test_refused', **fields)


def test_the_outputs_vocabulary_may_be_named(register):
  task = seqio.get_mixture_or_task(register(vocabulary='bytes'))
  assert task.output_features['targets'].vocabulary.eos_id == tiny_run.EOS
