"""What the lanes are at, on the devices: state, input and output of a chunk.

Which sample a lane works on is decided there, at the start of a chunk: a lane
that has ended takes the next sample of its group without asking the host, which
is one chunk behind.

Dimensions: G group, N lane, C step of a chunk, W words of a key.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.sampling import token_choice
from rest_jax.sampling.streams import Stream


class Groups(NamedTuple):
  """The problems that the groups hold, as the host knows them.

  Attributes:
    keys_GW: key data of each problem in the stream.
    lengths_G: tokens of the question's cache.
    last_G: the prompt's last token, which each of its samples feeds first.
    first_G: index of the group's first sample.
    samples_G: number of its samples; 0 where the group is empty.
    fresh_G: whether the problem is new in this chunk.
    settings: of each group's samples.
  """

  keys_GW: np.ndarray
  lengths_G: np.ndarray
  last_G: np.ndarray
  first_G: np.ndarray
  samples_G: np.ndarray
  fresh_G: np.ndarray
  settings: token_choice.Settings

  @classmethod
  def empty(cls, groups: int, stream: Stream) -> 'Groups':
    """Groups that hold nothing, and will hold problems of this stream."""
    zeros_G = np.zeros(groups, np.int32)
    return cls(
      keys_GW=np.zeros((groups, 2), np.uint32),
      lengths_G=zeros_G.copy(),
      last_G=zeros_G.copy(),
      first_G=zeros_G.copy(),
      samples_G=zeros_G.copy(),
      fresh_G=np.zeros(groups, bool),
      settings=jax.tree.map(
        lambda value: np.full(groups, value), token_choice.settings(stream)
      ),
    )


class Lanes(NamedTuple):
  """What the lanes are at between two chunks.

  Attributes:
    ordinal_GN: which of its group's samples a lane holds, from 0; -1: none.
    lengths_GN: tokens that were fed, a multiple of the chunk's length.
    newest_GN: the token that is fed next.
    done_GN: lanes whose sample has ended, or that hold none.
    next_G: the ordinal that the next free lane of a group takes.
  """

  ordinal_GN: jax.Array
  lengths_GN: jax.Array
  newest_GN: jax.Array
  done_GN: jax.Array
  next_G: jax.Array


class Chosen(NamedTuple):
  """What a chunk has chosen; all as (groups, lanes), tokens as (…, C).

  Attributes:
    ordinal_GN: which sample a lane held in the chunk; -1: none.
    lengths_GN: tokens that the sample had before the chunk.
    tokens_GNC: the chosen tokens; what follows a sample's end means nothing.
    logprobs_GNC, sampling_logprobs_GNC: of them.
  """

  ordinal_GN: jax.Array
  lengths_GN: jax.Array
  tokens_GNC: jax.Array
  logprobs_GNC: jax.Array
  sampling_logprobs_GNC: jax.Array


def refilled(lanes: Lanes, groups: Groups, stopped_GN: jax.Array) -> Lanes:
  """The lanes at the start of a chunk: those that are free take a sample.

  Args:
    lanes: at the end of the chunk before.
    groups: their problems.
    stopped_GN: the ordinal of the sample that the host has ended since; -1.
  """
  fresh_GN = jnp.asarray(groups.fresh_G)[:, None]
  free_GN = lanes.done_GN | fresh_GN | (lanes.ordinal_GN == stopped_GN)
  next_G = jnp.where(groups.fresh_G, 0, lanes.next_G)
  # The first free lane takes the next sample, the second the one behind it, …
  wanted_GN = next_G[:, None] + jnp.cumsum(free_GN, axis=1) - 1
  takes_GN = free_GN & (wanted_GN < jnp.asarray(groups.samples_G)[:, None])
  last_GN = jnp.asarray(groups.last_G)[:, None]
  return Lanes(
    ordinal_GN=jnp.where(
      takes_GN, wanted_GN, jnp.where(free_GN, -1, lanes.ordinal_GN)
    ),
    lengths_GN=jnp.where(free_GN, 0, lanes.lengths_GN),
    newest_GN=jnp.where(free_GN, last_GN, lanes.newest_GN),
    done_GN=free_GN & ~takes_GN,
    next_G=next_G + jnp.sum(takes_GN, axis=1, dtype=jnp.int32),
  )
