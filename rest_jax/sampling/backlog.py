"""What waits to be sampled, by the programs that serve it."""

import collections
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator

import numpy as np

from rest_jax.sampling.requests import Request


@dataclasses.dataclass
class Work:
  """Samples of one problem with consecutive indices: what a group holds.

  Attributes:
    request: that they are of.
    first: index of the first.
    number: of samples.
  """

  request: Request
  first: int
  number: int

  def __post_init__(self):
    self.ended = np.zeros(self.number, bool)  # by ordinal


class Backlog:
  """Requests, taken from their source no sooner than they are needed.

  Attributes:
    refused: requests that no program serves, since it was last emptied.
  """

  def __init__(
    self,
    requests: Iterable[Request],
    program: Callable[[Request], Hashable | None],
    most: int,
    groups: int,
    lanes: int,
  ):
    """Takes nothing yet.

    Args:
      requests: in the order in which they are begun, if one program serves all.
      program: what serves a request; None: nothing does.
      most: works that wait at once, so that the first ones to come are also
        among the first to end.
      groups: that take works.
      lanes: of a group.
    """
    self._requests, self._program, self._most = iter(requests), program, most
    self._groups, self._lanes = groups, lanes
    self._is_empty = False
    self._queues: dict[Hashable, collections.deque[Work]] = {}
    self.refused: list[Request] = []

  def next_program(self) -> Hashable | None:
    """The one for which most waits; None where nothing is left."""
    self._look_ahead()
    if not self._waiting():
      return None
    return max(self._queues, key=lambda program: len(self._queues[program]))

  def share(self) -> int | None:
    """The most samples that a group takes at once; None: any number.

    Where nothing more will come, that is what is left for each of the groups:
    else the last one would go on with its problem, a few samples after the
    other, while all others have nothing to do. A group with fewer samples than
    lanes leaves lanes free.
    """
    self._look_ahead()
    if not self._is_empty:
      return None
    left = sum(work.number for queue in self._queues.values() for work in queue)
    return max(self._lanes, -(-left // self._groups))

  def take(self, program: Hashable, share: int | None) -> Work | None:
    """The next work of this program, if some waits or is soon to come.

    Args:
      program: that serves it.
      share: samples of it, at most, where as many as a group has lanes would be
        left over; None: all.
    """
    queue = self._queues.setdefault(program, collections.deque())
    while not queue and self._waiting() < self._most and self._pull():
      pass
    if not queue:
      return None
    work = queue.popleft()
    left = 0 if share is None else work.number - share
    if left >= self._lanes:
      queue.append(Work(work.request, work.first + share, left))
      work = Work(work.request, work.first, share)
    return work

  def _look_ahead(self) -> None:
    while self._waiting() < self._most and self._pull():
      pass

  def _waiting(self) -> int:
    return sum(map(len, self._queues.values()))

  def _pull(self) -> bool:
    """Takes one more request; False where there is none."""
    request = next(self._requests, None)
    if request is None:
      self._is_empty = True
      return False
    program = self._program(request)
    if program is None:
      self.refused.append(request)
    else:
      queue = self._queues.setdefault(program, collections.deque())
      queue.extend(_works(request))
    return True


def _works(request: Request) -> Iterator[Work]:
  """The request's samples, cut where their indices are not consecutive."""
  indices = list(request.sample_indices)
  first = 0
  for place in range(1, len(indices) + 1):
    if place < len(indices) and indices[place] == indices[place - 1] + 1:
      continue
    yield Work(request, indices[first], place - first)
    first = place
