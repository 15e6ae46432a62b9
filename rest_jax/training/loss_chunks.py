"""How the loss goes over the targets of a device, and what it holds meanwhile.

Apart from target_loss.py, which computes it, for those that plan a training and
load no jax.

Each chunk adds its share to the gradient of the unembedding, a float32 array as
large as that: with few places, reading and writing it takes longer than the
products. By the compiler's estimate they reach 32 % of v6e's peak with 1,024
places and 82 % with 4,096 (Llama 3). So chips of more memory take more.
"""

_PLACES = 1024  # of a chunk on one device, at most
_SCORES = 2**27  # of a chunk on one device, at most: 512 MB in float32
_TPU_PLACES = 4096
_TPU_SHARE = 32  # a chunk's scores in float32 are this part of a TPU's memory
_TPU_TILE = 128  # places: a TPU multiplies no fewer


def chunk_places(
  rows: int, length: int, vocabulary: int, tpu_bytes: int | None
) -> int:
  """Places of each row that get their scores together.

  Args:
    rows: on one device.
    length: of a row.
    vocabulary: on one device.
    tpu_bytes: memory of one device, where that is a TPU.
  """
  places, scores = _PLACES, _SCORES
  if tpu_bytes is not None:
    places, scores = _TPU_PLACES, tpu_bytes // (4 * _TPU_SHARE)
  most = min(places // rows, scores // (rows * vocabulary))
  if tpu_bytes is not None and most > _TPU_TILE:
    most -= most % _TPU_TILE
  return max(1, min(length, most))


def held_bytes(
  places: int,
  vocabulary: int,
  embed: int,
  width: int,
  devices: int,
  tpu_bytes: int | None,
) -> int:
  """Bytes of one device while the loss goes over its targets.

  Args:
    places: of all rows on the device.
    vocabulary: rows of the unembedding.
    embed: width of the hidden states.
    width: bytes of a number in the arithmetic's dtype.
    devices: that the unembedding is split over.
    tpu_bytes: memory of one device, where that is a TPU.
  """
  # Three of a chunk in float32: scores, their exponentials, their gradient.
  chunk = chunk_places(1, places, vocabulary, tpu_bytes)
  scores = 3 * 4 * vocabulary * chunk
  # Hidden states in the order of the targets, their gradient, both in place.
  states = 4 * width * embed * places
  unembedding = width * vocabulary * embed
  if devices > 1:  # gathered whole, and its gradient in float32 beside it
    unembedding += 4 * vocabulary * embed
  return scores + states + unembedding
