"""Grading in processes of their own, whatever the text does to the grader.

A grader that is bounded by construction runs here, in this process: it is
faster than sending it the text. Any other runs in worker processes
(grading_worker.py).

Covered: a grader that hangs, is killed, exits, or prints. Not covered: a
grader that attacks the machine; untrusted programs run in the sandbox that
the grader starts, not in the worker itself.
"""

import collections
import dataclasses
import os
import selectors
import shlex
import time
from collections.abc import Callable, Iterable, Sequence

from rest_jax.config import configuration
from rest_jax.rewards import registry, verdicts
from rest_jax.rewards.grading_worker import Graded, Item, Worker, grade

ITEM_SECONDS = 60.0  # wall clock for one completion
CHUNK = 32  # completions sent to a worker at once
_ATTEMPTS = 2
_SHOWN = 500  # characters of a text, in a command that shows an error again
_STARTS = 3  # failed ones that say that no worker will ever start


class Pool:
  """Grades lists of completions; a context manager that ends its workers.

  Args:
    grader: a row of registry.REGISTRY, or of `registry.get`.
    num_workers: processes; 0 for one per core. A bounded grader needs none.
    item_seconds: wall clock for one completion, after which its worker is
      killed; twice in a row, and the verdict is timeout.

  Attributes:
    grader: as given.
  """

  def __init__(
    self,
    grader: registry.Grader,
    *,
    num_workers: int = 0,
    item_seconds: float = ITEM_SECONDS,
  ):
    if num_workers < 0:
      raise configuration.ConfigurationError(
        f'num_workers: got {num_workers}; allowed: 0 (one per core) or more.'
      )
    self.grader = grader
    self._num_workers = num_workers or len(os.sched_getaffinity(0))
    self._item_seconds = max(item_seconds, grader.seconds)
    self._workers: list[Worker] = []
    self._failed_starts = 0

  def __enter__(self) -> 'Pool':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def close(self) -> None:
    """Ends the workers."""
    while self._workers:
      self._workers.pop().end()

  def grade(
    self,
    items: Sequence[Item],
    watch: Callable[[int], None] = lambda done: None,
  ) -> list[Graded]:
    """Grades all items; the results are in their order.

    Where worker processes grade, equal items are graded once and have one
    verdict: a policy in training writes the same program again and again.
    Its seconds count for the first of them alone.

    Args:
      items: what to grade.
      watch: called now and then with the number of items graded so far.

    Raises:
      GraderError: a grader of the user's own raised; it names the item.
      RuntimeError: the workers cannot be started.
    """
    if self.grader.bounded:
      graded = []
      for item in items:
        graded.append(grade(self.grader.path, item))
        if len(graded) % CHUNK == 0:
          watch(len(graded))
      return graded
    first: dict[Item, int] = {}  # in order, so the place among the different
    places = [first.setdefault(item, len(first)) for item in items]
    graded = self._grade_apart(list(first), watch)
    taken = set()
    results = []
    for place in places:
      one = graded[place]
      results.append(
        dataclasses.replace(one, seconds=0.0) if place in taken else one
      )
      taken.add(place)
    return results

  def _grade_apart(
    self, items: Sequence[Item], watch: Callable[[int], None]
  ) -> list[Graded]:
    """Grades items in the worker processes."""
    results: list[Graded | None] = [None] * len(items)
    failures: collections.Counter[int] = collections.Counter()
    waiting = collections.deque(_chunks(range(len(items)), CHUNK))
    done = 0
    try:
      while waiting or any(worker.pending for worker in self._workers):
        self._feed(waiting, items)
        for worker in self._ready():
          for index, answer in worker.receive():
            if isinstance(answer, str):
              raise _raised(self.grader, items[index], answer)
            results[index] = answer
            done += 1
        watch(done)
        for worker in [w for w in self._workers if w.failure]:
          self._retire(worker, waiting, failures, results)
    except BaseException:
      self.close()  # a worker in the middle of a chunk is of no further use
      raise
    return results

  def _feed(self, waiting: collections.deque, items: Sequence[Item]) -> None:
    idle = [worker for worker in self._workers if not worker.pending]
    while waiting and (idle or len(self._workers) < self._num_workers):
      if not idle:
        worker = Worker(self.grader.path, self._item_seconds)
        self._workers.append(worker)
        idle.append(worker)
      idle.pop().send(waiting.popleft(), items)

  def _ready(self) -> list[Worker]:
    """The busy workers that have something to say, or are overdue."""
    busy = [worker for worker in self._workers if worker.pending]
    with selectors.DefaultSelector() as selector:
      for worker in busy:
        selector.register(worker.output, selectors.EVENT_READ, worker)
      soonest = min((worker.deadline for worker in busy), default=0.0)
      events = selector.select(max(0.0, soonest - time.monotonic()))
    ready = [key.data for key, _ in events]
    now = time.monotonic()
    for worker in busy:
      if worker not in ready and worker.deadline <= now:
        worker.failure = 'timeout'
    return ready

  def _retire(
    self,
    worker: Worker,
    waiting: collections.deque,
    failures: collections.Counter,
    results: list[Graded | None],
  ) -> None:
    """Ends a failed worker; decides about the item that it failed on."""
    self._workers.remove(worker)
    reason = worker.end()
    if not worker.started:
      self._failed_starts += 1
      if self._failed_starts >= _STARTS:
        raise RuntimeError(
          f'grader {self.grader.label}: {_STARTS} workers ended before they '
          f'could grade ({reason}); their messages stand above. Is '
          f'{self.grader.path} importable, and is there memory left?'
        )
      waiting.append(list(worker.pending))
      return
    # Only the first one was begun; the others have done nothing wrong.
    culprit, *others = worker.pending
    if others:
      waiting.append(others)
    failures[culprit] += 1
    if failures[culprit] < _ATTEMPTS:
      waiting.append([culprit])
      return
    hung = worker.failure == 'timeout'
    verdict = verdicts.without_answer(
      verdicts.TIMEOUT if hung else verdicts.HARNESS_ERROR,
      f'the grader took over {self._item_seconds:g} s, {_ATTEMPTS} times'
      if hung
      else f'the grader died {_ATTEMPTS} times ({reason})',
    )
    results[culprit] = Graded(verdict, self._item_seconds if hung else 0.0)


def _raised(
  grader: registry.Grader, item: Item, text: str
) -> registry.GraderError:
  """The error of a user's grader, with its item and how to see it again."""
  module, _, name = grader.path.partition(':')
  cut = max(len(item.completion), len(item.reference or '')) > _SHOWN
  texts = [
    None if value is None else value[:_SHOWN]
    for value in (item.completion, item.reference)
  ]
  call = f'{texts[0]!r}, {texts[1]!r}, finish_reason={item.finish_reason!r}'
  command = f'import {module}; print({module}.{name}({call}))'
  note = f' (texts cut at {_SHOWN} characters)' if cut else ''
  return registry.GraderError(
    f'the grader {grader.name} raised on {item.name or "a completion"}:\n'
    f'{text}\n'
    f'Reproduce it{note}: python -c {shlex.quote(command)}'
  )


def _chunks(indices: Sequence[int], size: int) -> Iterable[list[int]]:
  for start in range(0, len(indices), size):
    yield list(indices[start : start + size])
