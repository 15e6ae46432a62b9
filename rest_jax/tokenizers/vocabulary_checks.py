"""Whether a vocabulary is the one that a checkpoint was trained with.

A wrong one raises nothing by itself: ids are ids. The network then reads and
writes texts that mean nothing to it, and every reward is 0.
"""

from rest_jax.artifacts import model_formats, storage
from rest_jax.config import configuration
from rest_jax.tokenizers import vocabulary_files
from rest_jax.tokenizers.vocabularies import Vocabulary

# A checkpoint's embedding may be padded: to a multiple of 128 or 512 ids, in
# some models by a few percent.
UNUSED_IDS = 512
UNUSED_SHARE = 0.1
_PROBES = 256  # ids whose bytes are compared
_SAME = 0.9  # of them, at least: formats differ in their special tokens
_PROBE = 'Q: Tom has 12 apples, gives away 5.\nA: 12 - 5 = 7 \\boxed{7}\n'


def require_fits(vocabulary: Vocabulary, vocab_size: int) -> None:
  """Raises where a network embeds fewer ids than a vocabulary has.

  Args:
    vocabulary: of the problems.
    vocab_size: rows of the network's embedding. jax would clamp a larger id in
      silence.

  Raises:
    ConfigurationError: they do not belong together.
  """
  if vocabulary.size > vocab_size:
    raise configuration.ConfigurationError(
      f'VOCABULARY: {vocabulary.spec} has {vocabulary.size} ids, but MODEL '
      f'embeds {vocab_size}: they do not belong together. Set VOCABULARY to '
      "the model's own, or MODEL to the network of the vocabulary."
    )


def require_of_checkpoint(
  vocabulary: Vocabulary,
  checkpoint: storage.PathLike,
  vocab_size: int | None = None,
) -> None:
  """Raises where a checkpoint was trained with another vocabulary.

  A checkpoint of the train stage is not looked at: it was trained here, from a
  checkpoint or with a vocabulary that was. One that brings its tokenizer is
  compared with it, id by id. Of any other the number of ids must come near the
  number of embedded ones.

  Args:
    vocabulary: of the problems.
    checkpoint: the path of weights.
    vocab_size: rows of the network's embedding; None: not compared.

  Raises:
    ConfigurationError: they do not belong together.
  """
  if vocab_size is not None:
    require_fits(vocabulary, vocab_size)
  if model_formats.of_weights(checkpoint).name == model_formats.TRAIN:
    return
  if vocabulary_files.resolve(str(checkpoint)) == vocabulary.spec:
    return  # it is the checkpoint's own, read from there
  own = _own(checkpoint)
  if own is not None:
    problem = _difference(vocabulary, own)
    if problem:
      raise configuration.ConfigurationError(
        f'VOCABULARY: {vocabulary.spec} is not the vocabulary of the '
        f'checkpoint {checkpoint}, which brings its own: {problem}. Leave '
        'VOCABULARY out, or set it to the checkpoint.'
      )
    return
  unused = (vocab_size or vocabulary.size) - vocabulary.size
  if unused > max(UNUSED_IDS, UNUSED_SHARE * (vocab_size or 0)):
    raise configuration.ConfigurationError(
      f'VOCABULARY: {vocabulary.spec} has {vocabulary.size} ids, but the '
      f'checkpoint {checkpoint} embeds {vocab_size}: they do not belong '
      "together. Set VOCABULARY to the model's own: "
      f'{model_formats.expected_vocabulary()}.'
    )


def _own(checkpoint: storage.PathLike) -> Vocabulary | None:
  """The vocabulary that a checkpoint brings; None: none that can be read."""
  if model_formats.of_vocabulary(checkpoint) is None:
    return None
  try:
    return vocabulary_files.load(str(checkpoint))
  except configuration.ConfigurationError:
    # Of an unknown kind, or its package is not installed: the user names
    # another file of the same vocabulary.
    return None


def _difference(one: Vocabulary, other: Vocabulary) -> str:
  """What tells two vocabularies apart, in words; '' where they are the same."""
  if one.digest == other.digest:
    return ''
  small, large = sorted((one.size, other.size))
  if large - small > max(UNUSED_IDS, UNUSED_SHARE * large):
    return f'{one.size} ids here, {other.size} there'
  step = max(1, small // _PROBES)
  ids = range(step // 2, small, step)
  differing = [
    i for i in ids if one.decode_bytes([i]) != other.decode_bytes([i])
  ]
  if len(differing) > (1 - _SAME) * len(ids):
    i = differing[0]
    return (
      f'the id {i} is {one.decode([i])!r} here and {other.decode([i])!r} there'
    )
  if one.encode(_PROBE) != other.encode(_PROBE):
    return 'a short text gives other ids'
  return ''
