"""What a call costs, in a unit that is the same on every machine."""

import functools
import gc
import time
from collections.abc import Callable

from rest_jax.rewards.math import reading

_PASSES = 1_000_000


@functools.cache
def _loop_seconds() -> float:
  return min(_seconds(_loop) for _ in range(3))


def _loop() -> None:
  for _ in range(_PASSES):
    pass


def _seconds(call: Callable) -> float:
  start = time.process_time()
  call()
  return time.process_time() - start


def in_loops(function: Callable, *args, tries: int = 3) -> float:
  """The CPU time of a call, in times of a million passes of an empty loop.

  That loop takes 10 to 30 ms. The least of some tries counts, without
  collections of garbage: a stray pause is no fault of the function.

  Args:
    function: what to call; the answers that were read before are forgotten.
    *args: its arguments.
    tries: how often.
  """
  least = float('inf')
  gc.disable()
  try:
    for _ in range(tries):
      reading.read.cache_clear()
      least = min(least, _seconds(functools.partial(function, *args)))
      if least < _loop_seconds():
        break  # little enough for any limit
  finally:
    gc.enable()
  return least / _loop_seconds()
