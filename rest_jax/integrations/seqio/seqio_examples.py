"""The M-step's rows as a SeqIO task, for trainers that read SeqIO (T5X).

    examples ─ Packer ─▶ rows ─┬─ train
                               └─ seqio.Task ─ PackedConverter ─▶ batches

Row g is the g-th row that `train` feeds with the same seed and SHARE_PROMPT =
False: both pack the same Parquet by the same plan, each example with its whole
prompt. SeqIO's own packer is not used, because it casts
weights to int32 (a weight of 1/3 becomes 0), packs other examples together, and
can resume in the middle only by reading everything before.
"""

import dataclasses
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
# Field of packing.Rows to T5X's name for it.
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
  """Registers a task whose examples are packed rows, in the order of `train`.

  Its only split is 'train'; get it with shuffle=False. Its features are those
  of packing.Rows: tokens, targets, positions, segment_ids and loss_weights of
  shape (row_length,), and normalizers of shape ().

  Args:
    name: of the task.
    examples_dir: finished folder of Example records.
    row_length: tokens in a row, as TrainConfig.row_length.
    seed: of the order, as TrainConfig.seed.
    epochs: passes over the examples, each in another order; None for no end.
    start_row: the first row; to resume at step s with B rows a step: s * B.
    loss_normalizer: as TrainConfig.loss_normalizer.
    vocabulary: of the output feature; None for one that decodes to no text.

  Returns:
    The name.

  Raises:
    ConfigurationError: the folder is missing or holds other records, a value
      is not allowed, or another task has the name.
  """
  rows = _Rows(
    row_length=row_length,
    seed=seed,
    epochs=epochs,
    start_row=start_row,
    loss_normalizer=loss_normalizer,
  )
  manifest = _examples(examples_dir)
  if vocabulary is not None and not isinstance(vocabulary, SeqioVocabulary):
    vocabulary = SeqioVocabulary(vocabulary)
  output = seqio.Feature(
    vocabulary or seqio.PassThroughVocabulary(size=0), add_eos=False
  )
  return seqio_registry.add(
    name,
    {
      'examples': manifest.digest,
      **dataclasses.asdict(rows),
      'vocabulary': vocabulary,
    },
    lambda name: seqio.Task(
      name,
      _source(name, manifest, rows),
      output_features={'targets': output},
      shuffle_buffer_size=None,
    ),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rows:
  """Which rows a task has; see register_examples for the fields."""

  row_length: int
  seed: int
  epochs: int | None
  start_row: int
  loss_normalizer: Literal['token', 'sequence_sum', 'sequence_mean']

  def __post_init__(self):
    for field, least in (('row_length', 1), ('epochs', 1), ('start_row', 0)):
      value = getattr(self, field)
      if value is not None and value < least:
        raise configuration.ConfigurationError(
          f'register_examples.{field}: got {value}; allowed: {least} or more.'
        )

  def packer(self, manifest: manifests.Manifest) -> Packer:
    """Plans the packing of these examples."""
    return Packer(
      manifest.table(columns=['token_ids', 'weight', 'segment_types']),
      row_length=self.row_length,
      seed=self.seed,
      loss_normalizer=self.loss_normalizer,
    )


def _examples(folder: str) -> manifests.Manifest:
  """The manifest of a finished folder of Example records."""
  manifest = manifests.load(folder)
  if manifest.kind != 'Example':
    raise configuration.ConfigurationError(
      f'{folder}: holds {manifest.kind} records; EXAMPLES_DIR must name '
      'a folder that the stage select (or prepare, a corpus) wrote.'
    )
  return manifest


def _source(
  name: str, manifest: manifests.Manifest, rows: _Rows
) -> seqio.DataSource:
  """The packed rows of these examples, in the order of `train`."""

  @functools.cache  # planned when the first row is read
  def packer() -> Packer:
    return rows.packer(manifest)

  def dataset(
    split: str, shuffle_files: bool, seed: int | None = None
  ) -> tf.data.Dataset:
    del split, seed  # the packing plan has fixed the order
    if shuffle_files:
      raise configuration.ConfigurationError(
        f'task {name}: its rows have an order already. Set shuffle=False.'
      )
    return _dataset(packer(), rows.epochs, rows.start_row)

  # The number of examples is not given: SeqIO would cache a small data set in
  # memory, and these rows may never end.
  return seqio.FunctionDataSource(dataset, [SPLIT], caching_permitted=False)


class PackedConverter(seqio.FeatureConverter):
  """Rows of `register_examples` as T5X's features of a packed decoder.

      seqio.get_dataset(name, {'targets': ROW_LENGTH}, PackedConverter())

  decoder_loss_weights are float32. The argument `pack` has no effect, because
  the rows are packed already.
  """

  TASK_FEATURES = {'targets': seqio.FeatureConverter.FeatureSpec(tf.int32)}
  MODEL_FEATURES = {
    name: seqio.FeatureConverter.FeatureSpec(
      tf.float32 if field in _FLOATS else tf.int32
    )
    for field, name in _FEATURES.items()
  }
  PACKING_FEATURE_DTYPES: Mapping[str, tf.DType] = {}  # all in MODEL_FEATURES

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
  """The rows from start_row to the end of the last epoch."""
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

  # A range, not from_generator: an iterator over it can be checkpointed as one
  # number.
  return tf.data.Dataset.range(start_row, end).map(row)
