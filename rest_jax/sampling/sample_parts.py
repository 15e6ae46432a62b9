"""The parts of a folder of samples: a few problems, and some of their samples.

Several parts are being filled at once, because the engine ends samples in no
fixed order. What their samples so far are is kept beside, now and then, so that
an attempt that is cut short loses at most a minute.

A *block* is a range of sample indices. A folder that has grown from 8 samples
of each problem to 32 has the blocks 0-8 and 8-32, each with parts of its own.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rest_jax.artifacts import records, stage_work
from rest_jax.distributed import multihost

_KEPT_EVERY = 60  # seconds
_ADDED_BETWEEN = 32  # samples


class Planned(NamedTuple):
  """A part of a folder.

  Attributes:
    name: of its file.
    source: what it is made from.
    problems: that it holds samples of.
    indices: of the samples of each problem.
  """

  name: str
  source: str
  problems: Sequence[records.Problem]
  indices: range


@dataclasses.dataclass
class _Part:
  """A part that is being filled.

  Attributes:
    planned: what it will hold.
    missing: samples that are not there yet.
    rows: those that are.
    began: on the clock, when it was begun.
  """

  planned: Planned
  missing: int
  rows: list[records.Sample]
  began: float


class OpenParts:
  """The parts of a folder that are being filled; each is written when whole.

  Attributes:
    slowest: the seconds that the slowest part has taken.
  """

  def __init__(self, work: stage_work.Work):
    """Takes over what an earlier attempt has kept.

    Args:
      work: the folder.
    """
    self._work = work
    self._parts: list[_Part] = []
    self._of_problem: dict[str, list[_Part]] = {}
    self._earlier = {
      (row.problem_id, row.sample_index): row for row in work.unfinished()
    }
    self._kept_at, self._asked = time.monotonic(), 0
    self.slowest = 0.0

  def begin(
    self,
    planned: Planned,
    kept: Sequence[records.Sample],
    missing: Sequence[records.Problem],
  ) -> list[tuple[records.Problem, list[int]]]:
    """Begins a part; returns which samples of which problems must be drawn.

    Args:
      planned: the part.
      kept: samples of it that are there.
      missing: problems without samples.
    """
    rows, wanted = list(kept), []
    for problem in missing:
      at = [(problem.id, index) for index in planned.indices]
      rows += [self._earlier.pop(key) for key in at if key in self._earlier]
      there = {r.sample_index for r in rows if r.problem_id == problem.id}
      left = [index for index in planned.indices if index not in there]
      if left:
        wanted.append((problem, left))
    number = sum(len(left) for _, left in wanted)
    part = _Part(planned, number, rows, time.monotonic())
    if number:
      self._parts.append(part)
      for problem, _ in wanted:
        self._of_problem.setdefault(problem.id, []).append(part)
    else:
      self._write(part)
    return wanted

  def add(self, row: records.Sample) -> bool:
    """Puts a sample into its part; whether that is whole now, and written."""
    part = next(
      part
      for part in self._of_problem[row.problem_id]
      if row.sample_index in part.planned.indices
    )
    part.rows.append(row)
    part.missing -= 1
    if part.missing:
      return False
    self._write(part)
    self.slowest = max(self.slowest, time.monotonic() - part.began)
    self._parts.remove(part)
    for problem_id in {row.problem_id for row in part.rows}:
      parts = self._of_problem.get(problem_id, [])
      if part in parts:
        parts.remove(part)
    return True

  def keep(self, *, now: bool = False) -> bool:
    """Keeps the samples of the open parts, if it is time; returns whether.

    Args:
      now: it is.
    """
    if not now and not self._is_time():
      return False
    rows = [row for part in self._parts for row in part.rows]
    self._work.keep_unfinished([*rows, *self._earlier.values()])
    self._kept_at = time.monotonic()
    return True

  def _is_time(self) -> bool:
    # Clocks differ between hosts: all of them ask that of process 0, and not at
    # every sample.
    self._asked += 1
    if self._asked % _ADDED_BETWEEN:
      return False
    return multihost.from_writer(
      lambda: time.monotonic() - self._kept_at > _KEPT_EVERY
    )

  def _write(self, part: _Part) -> None:
    name, source, *_ = part.planned
    self._work.write(name, in_order(part.rows), source=source)


def planned(
  problems: Sequence[records.Problem],
  size: int,
  blocks: Sequence[int],
  source: Callable[[Sequence[records.Problem], range], str],
) -> Iterator[Planned]:
  """Every part of a folder.

  Args:
    problems: of the folder, in order.
    size: problems of a part.
    blocks: ascending; where each block of sample indices begins, and the end.
    source: of a part with these problems and sample indices.
  """
  chunks = [problems[i : i + size] for i in range(0, len(problems), size)]
  for low, high in zip(blocks, blocks[1:], strict=False):
    for number, chunk in enumerate(chunks):
      name = records.part_name(number, len(chunks), first_sample=low)
      indices = range(low, high)
      yield Planned(name, source(chunk, indices), chunk, indices)


def counts(work: stage_work.Work) -> tuple[dict[str, int], dict[str, int]]:
  """(samples by finish reason, tokens by part) of all parts."""
  reasons: dict[str, int] = {}
  tokens = {}
  for row in work.parts():
    table = records.read_part(
      work.folder / row['name'],
      records.Sample,
      expected=row,
      columns=['finish_reason', 'logprobs'],
    )
    for entry in table['finish_reason'].value_counts().to_pylist():
      reasons[entry['values']] = (
        reasons.get(entry['values'], 0) + (entry['counts'])
      )
    tokens[row['name']] = len(table['logprobs'].combine_chunks().values)
  return reasons, tokens


def in_order(rows: Sequence[records.Sample]) -> list[records.Sample]:
  """Samples in the order in which a part holds them."""
  return sorted(rows, key=lambda row: (row.problem_id, row.sample_index))
