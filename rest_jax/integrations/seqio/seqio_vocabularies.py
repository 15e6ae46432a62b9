"""Our vocabularies as SeqIO's, with the same ids and the same texts.

SeqIO takes id 0 for padding wherever it pads, packs or masks, and nothing can
change that. In some vocabularies id 0 is text: NUL in 'bytes', '!' in GPT-2's
and Llama 3's. Then

* `pad_is_text` is True, and `decode` leaves zeros at the end of ids alone;
  where it is False they are padding and have no text;
* SeqIO's packer cuts an example by one id for each 0 in it, and its converters
  give a 0 among the targets no weight (a last EOS too, where EOS is 0). The
  packed rows of training/seqio_examples.py have segment ids and weights of
  their own, and no such fault.

`decode` and `decode_tf` stop at the first EOS, as SeqIO's do, but never fill
what follows with id 0. Ids beyond the table, `extra_ids` among them, have no
text. A text is never normalised: the limits are those of
tasks/vocabularies.py.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import seqio
import tensorflow as tf

from rest_jax.tokenizers import vocabularies, vocabulary_files


class SeqioVocabulary(seqio.Vocabulary):
  """A vocabulary of tasks/vocabularies.py.

  Two are equal where their content is, wherever the files lie, so that a
  mixture takes both.
  """

  def __init__(
    self, vocabulary: str | vocabularies.Vocabulary, extra_ids: int = 0
  ):
    """Args:
      vocabulary: what `vocabulary_files.load` takes, or has returned.
      extra_ids: ids behind the vocabulary's own, as SeqIO has them.

    Raises:
      ConfigurationError: see `vocabulary_files.load`.
    """
    if isinstance(vocabulary, str):
      vocabulary = vocabulary_files.load(vocabulary)
    self.vocabulary = vocabulary
    super().__init__(extra_ids=extra_ids)

  @property
  def bos_id(self) -> int | None:
    return self.vocabulary.bos_id

  @property
  def eos_id(self) -> int:
    return self.vocabulary.eos_id

  @property
  def unk_id(self) -> int | None:
    return self.vocabulary.unk_id

  @property
  def pad_is_text(self) -> bool:
    """Whether id 0, which SeqIO pads with, is part of texts."""
    return bool(self.vocabulary.decode_bytes([0])) and self.unk_id != 0

  @property
  def _base_vocab_size(self) -> int:
    return self.vocabulary.size

  def _encode(self, s: str) -> list[int]:
    return self.vocabulary.encode(s)

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    if s.shape.rank:  # a list of texts: ragged, as seqio.tokenize takes it
      signature = tf.RaggedTensorSpec([None] * s.shape.rank, tf.int32)
      return tf.map_fn(self._encode_tf, s, fn_output_signature=signature)
    ids = tf.numpy_function(self._encode_bytes, [s], tf.int32)
    ids.set_shape([None])
    return ids

  def _encode_bytes(self, text: bytes | np.ndarray) -> np.ndarray:
    text = np.asarray(text, object).item()  # eagerly it is an array of one
    ids = self.vocabulary.encode(text.decode('utf-8', 'replace'))
    return np.array(ids, np.int32)

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids up to the first EOS."""
    return self._decode(np.asarray(ids).tolist())

  def _decode(self, ids: Sequence[int]) -> str:
    if self.eos_id in ids:
      ids = ids[: ids.index(self.eos_id)]
    elif not self.pad_is_text:
      end = len(ids)
      while end and ids[end - 1] == 0:
        end -= 1
      ids = ids[:end]
    return self.vocabulary.decode(ids)

  def decode_tf(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    """The text of each row of ids: (…, L) gives (…)."""
    return self._decode_tf(ids)

  def _decode_tf(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    if isinstance(ids, tf.RaggedTensor):
      ids = ids.to_tensor(default_value=self.eos_id)
    texts = tf.numpy_function(self._decode_rows, [ids], tf.string)
    texts.set_shape(ids.shape[:-1])
    return texts

  def _decode_rows(self, ids: np.ndarray) -> np.ndarray:
    texts = np.empty(ids.shape[:-1], object)
    for place in np.ndindex(texts.shape):
      texts[place] = self._decode(ids[place].tolist()).encode()
    return texts

  def __eq__(self, other: object) -> bool:
    return isinstance(other, SeqioVocabulary) and (
      (self.vocabulary.digest, self.extra_ids)
      == (other.vocabulary.digest, other.extra_ids)
    )

  def __hash__(self) -> int:
    return hash((self.vocabulary.digest, self.extra_ids))

  def __reduce__(self):
    # Encoders are closures; Beam, which caches tasks, sends pickles.
    return type(self), (self.vocabulary.spec, self.extra_ids)

  def __repr__(self) -> str:
    return (
      f'SeqioVocabulary({self.vocabulary.spec!r}, size={self.vocab_size}, '
      f'digest={self.vocabulary.digest})'
    )
