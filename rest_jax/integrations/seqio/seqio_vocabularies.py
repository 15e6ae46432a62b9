"""This package's vocabularies as SeqIO vocabularies, with the same ids.

SeqIO uses id 0 for padding wherever it pads, packs or masks, whatever the
vocabulary says. In some vocabularies id 0 is text: NUL in 'bytes', '!' in those
of GPT-2 and Llama 3. In these:

* `pad_is_text` is True, and `decode` keeps zeros at the end of the ids. In all
  other vocabularies it drops them as padding.
* SeqIO's packer shortens an example by one id for each 0 in it, and SeqIO's
  converters give a 0 among the targets no weight (nor the last EOS, if EOS is
  0). The packed rows of seqio_examples.py do not have this problem: they carry
  their own segment ids and weights.

`decode` and `decode_tf` stop at the first EOS, as SeqIO's do, but do not
replace the ids that follow by 0. Ids outside the vocabulary, such as
`extra_ids`, decode to nothing. Texts are encoded without normalisation, with
the limits that tokenizers/vocabularies.py names.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import seqio
import tensorflow as tf

from rest_jax.tokenizers import vocabularies, vocabulary_files


class SeqioVocabulary(seqio.Vocabulary):
  """A vocabulary of tokenizers/vocabularies.py for SeqIO.

  Two are equal if their content is, wherever the files lie, so that a mixture
  accepts tasks with either.
  """

  def __init__(
    self, vocabulary: str | vocabularies.Vocabulary, extra_ids: int = 0
  ):
    """Args:
      vocabulary: a spec for `vocabulary_files.load`, or a loaded vocabulary.
      extra_ids: number of ids after the vocabulary's own, as in SeqIO.

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
    """Whether id 0, which SeqIO pads with, stands for text."""
    return bool(self.vocabulary.decode_bytes([0])) and self.unk_id != 0

  @property
  def _base_vocab_size(self) -> int:
    return self.vocabulary.size

  def _encode(self, s: str) -> list[int]:
    return self.vocabulary.encode(s)

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    if s.shape.rank:  # several texts: seqio.tokenize expects a ragged tensor
      signature = tf.RaggedTensorSpec([None] * s.shape.rank, tf.int32)
      return tf.map_fn(self._encode_tf, s, fn_output_signature=signature)
    ids = tf.numpy_function(self._encode_bytes, [s], tf.int32)
    ids.set_shape([None])
    return ids

  def _encode_bytes(self, text: bytes | np.ndarray) -> np.ndarray:
    text = np.asarray(text, object).item()  # in eager mode it is an array
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
    """The text of each row of ids: shape (…, L) gives shape (…)."""
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
    # Beam pickles vocabularies, and encoders are closures, which pickle cannot
    # store: the copy is loaded again from the spec.
    return type(self), (self.vocabulary.spec, self.extra_ids)

  def __repr__(self) -> str:
    return (
      f'SeqioVocabulary({self.vocabulary.spec!r}, size={self.vocab_size}, '
      f'digest={self.vocabulary.digest})'
    )
