"""The M-step's rows as a SeqIO task, for trainers that read SeqIO (T5X).

    examples ─ Packer ─▶ rows ─┬─ train
                               └─ seqio.Task ─ PackedConverter ─▶ batches

Row g is the row that `train` feeds at place g of the same seed: the same
Parquet, the same plan. SeqIO's own packer would cast the weights to int32 (a
weight of 1/3 would be 0), pack other examples together, and could only be
sought by reading all that lies before.
"""

import functools
from collections.abc import Mapping
from typing import Literal

import numpy as np
import seqio
import tensorflow as tf

from rest_jax.artifacts import manifests
from rest_jax.config import configuration
from rest_jax.integrations.seqio import seqio_registry
from rest_jax.integrations.seqio.seqio_vocabularies import SeqioVocabulary
from rest_jax.tokenizers import vocabularies
from rest_jax.training.packing import Packer

SPLIT = 'train'
# Of a row: field of packing.Rows to T5X's name of it.
_FEATURES = {
  'tokens': 'decoder_input_tokens',
  'targets': 'decoder_target_tokens',
  'loss_weights': 'decoder_loss_weights',
  'positions': 'decoder_positions',
  'segment_ids': 'decoder_segment_ids',
}
_FLOATS = ('loss_weights', 'normalizers')


@configuration.checked
def register_examples(
  name: str,
  examples_dir: str,
  *,
  row_length: int,
  seed: int = 0,
  epochs: int | None = None,
  start_row: int = 0,
  loss_normalizer: Literal['token', 'sequence_sum', 'sequence_mean'] = 'token',
  vocabulary: str | vocabularies.Vocabulary | SeqioVocabulary | None = None,
) -> str:
  """Registers a task whose examples are packed rows, in `train`'s order.

  Its one split is 'train'; get it with shuffle=False. Its features are those
  of packing.Rows: tokens, targets, positions, segment_ids, loss_weights (each
  (row_length,)) and normalizers ().

  Args:
    name: of the task.
    examples_dir: finished folder of Example records.
    row_length: tokens in a row, as TrainConfig.row_length.
    seed: of the order, as TrainConfig.seed.
    epochs: passes over the examples, each in its own order; None never ends.
    start_row: the first row; step s of batches of B rows begins at s * B.
    loss_normalizer: what loss_weights are for, as TrainConfig says.
    vocabulary: of the output feature; None for one that has no text.

  Returns:
    The name.

  Raises:
    ConfigurationError: no such folder, a value that is not allowed, or the
      name stands for something else.
  """
  for field, value, least in (
    ('row_length', row_length, 1),
    ('epochs', epochs, 1),
    ('start_row', start_row, 0),
  ):
    if value is not None and value < least:
      raise configuration.ConfigurationError(
        f'register_examples.{field}: got {value}; allowed: {least} or more.'
      )
  manifest = manifests.load(examples_dir)
  if manifest.kind != 'Example':
    raise configuration.ConfigurationError(
      f'{examples_dir}: holds {manifest.kind} records; EXAMPLES_DIR must name '
      'a folder that the stage select (or prepare, a corpus) wrote.'
    )
  if vocabulary is not None and not isinstance(vocabulary, SeqioVocabulary):
    vocabulary = SeqioVocabulary(vocabulary)

  @functools.cache
  def packer() -> Packer:
    return Packer(
      manifest.table(columns=['token_ids', 'weight', 'segment_types']),
      row_length=row_length,
      seed=seed,
      loss_normalizer=loss_normalizer,
    )

  def rows(split, shuffle_files, seed=None):
    del split, seed  # the order is the plan's
    if shuffle_files:
      raise configuration.ConfigurationError(
        f'task {name}: its rows have an order already. Set shuffle=False.'
      )
    return _dataset(packer(), epochs, start_row)

  content = {
    'examples': manifest.digest,
    'row_length': row_length,
    'seed': seed,
    'epochs': epochs,
    'start_row': start_row,
    'loss_normalizer': loss_normalizer,
    'vocabulary': vocabulary,
  }
  output = seqio.Feature(
    vocabulary or seqio.PassThroughVocabulary(size=0), add_eos=False
  )
  return seqio_registry.add(
    name,
    content,
    lambda name: seqio.Task(
      name,
      # Without a number of examples: SeqIO keeps small data in memory, and
      # these may never end.
      seqio.FunctionDataSource(rows, [SPLIT], caching_permitted=False),
      output_features={'targets': output},
      shuffle_buffer_size=None,
    ),
  )


class PackedConverter(seqio.FeatureConverter):
  """Rows of `register_examples` as T5X's features of a packed decoder.

      seqio.get_dataset(name, {'targets': ROW_LENGTH}, PackedConverter())

  decoder_loss_weights are float32. `pack` has no effect: rows are packed.
  """

  TASK_FEATURES = {'targets': seqio.FeatureConverter.FeatureSpec(tf.int32)}
  MODEL_FEATURES = {
    name: seqio.FeatureConverter.FeatureSpec(
      tf.float32 if field in _FLOATS else tf.int32
    )
    for field, name in _FEATURES.items()
  }
  PACKING_FEATURE_DTYPES: Mapping[str, tf.DType] = {}  # they are above

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    length = task_feature_lengths['targets']
    row_length = ds.element_spec['tokens'].shape[0]
    if length != row_length:
      raise configuration.ConfigurationError(
        f"task_feature_lengths['targets']: got {length}, the rows are packed "
        f'to {row_length}. Set it to that, or register_examples.row_length.'
      )
    return ds.map(
      lambda row: {name: row[field] for field, name in _FEATURES.items()},
      num_parallel_calls=tf.data.AUTOTUNE,
    )

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    return dict.fromkeys(self.MODEL_FEATURES, task_feature_lengths['targets'])


def _dataset(
  packer: Packer, epochs: int | None, start_row: int
) -> tf.data.Dataset:
  end = np.iinfo(np.int64).max
  if epochs is not None:
    end = epochs * packer.rows_per_epoch
  fields = (*_FEATURES, 'normalizers')
  types = [tf.float32 if f in _FLOATS else tf.int32 for f in fields]

  def build(index):
    rows = packer.batch([int(index)])
    return [getattr(rows, field)[0] for field in fields]

  def row(index):
    values = tf.numpy_function(build, [index], types, stateful=False)
    for field, value in zip(fields, values, strict=True):
      value.set_shape([] if field == 'normalizers' else [packer.row_length])
    return dict(zip(fields, values, strict=True))

  # Not from_generator: a range knows its place, so that an iterator's
  # checkpoint is a number.
  return tf.data.Dataset.range(start_row, end).map(row)
