"""How the loss goes over the targets of a device, and what it holds meanwhile.

Apart from target_loss.py, which computes it, for those that plan a training and
load no jax.
"""

_PLACES = 1024  # of a chunk on one device, at most
_SCORES = 2**27  # of a chunk on one device, at most: 512 MB in float32


def chunk_places(rows: int, length: int, vocabulary: int) -> int:
  """Places of each row that get their scores together.

  Args:
    rows: on one device.
    length: of a row.
    vocabulary: on one device.
  """
  return max(1, min(length, _PLACES // rows, _SCORES // (rows * vocabulary)))


def held_bytes(
  places: int, vocabulary: int, embed: int, width: int, devices: int
) -> int:
  """Bytes of one device while the loss goes over its targets.

  Args:
    places: of all rows on the device.
    vocabulary: rows of the unembedding.
    embed: width of the hidden states.
    width: bytes of a number in the arithmetic's dtype.
    devices: that the unembedding is split over.
  """
  # Three of a chunk in float32: scores, their exponentials, their gradient.
  chunk = 3 * 4 * vocabulary * chunk_places(1, places, vocabulary)
  # Hidden states in the order of the targets, their gradient, both in place.
  states = 4 * width * embed * places
  unembedding = width * vocabulary * embed
  if devices > 1:  # gathered whole, and its gradient in float32 beside it
    unembedding += 4 * vocabulary * embed
  return chunk + states + unembedding
