"""Rows in which the examples of a problem share their prompt.

    prefix                           the few-shot prompt, in no row
    row    question solution solution solution question solution …

Examples of one problem have the same prompt. A row holds its *question*, what
of the prompt is behind the prefix, once, and behind it the problem's solutions,
each a segment whose parent is the question; a lone solution is one segment with
its question. The prefix, what the prompts of many problems begin with, lies in
no row: a step reads it once.

A solution's first input is the prompt's last token, which the question lacks:
so each place has one target, as in rows that share nothing (packing.py), and
loss and gradient are the same as there.
"""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from rest_jax.artifacts import records
from rest_jax.models import segments
from rest_jax.training import composition, packing

_LEAST_PREFIX = 32  # tokens; fewer are not worth a reading of their own
_LEAST_PROBLEMS = 8  # that have a prefix
_MOST_PREFIXES = 8  # in a training
# A multiple of a TPU's vector width, so that few programs are compiled and a
# mesh can divide it.
_PREFIX_PLACES = 128
# Problems of more than half a row leave rows that nothing else fits. In halves
# they fill them, for a second reading of the question.
_PIECES = (1, 2)


@dataclasses.dataclass(frozen=True)
class _Item:
  """Solutions of one problem that lie in one row.

  Attributes:
    examples: of the same prompt.
    prefix: index of what the prompt begins with; -1: nothing that is shared.
    first: tokens of the prefix.
    prompt: tokens of the whole prompt.
  """

  examples: tuple[int, ...]
  prefix: int
  first: int
  prompt: int

  @property
  def question(self) -> int:
    """Places that the question takes."""
    return max(0, self.prompt - 1 - self.first)

  @property
  def start(self) -> int:
    """Of a solution's tokens, its first input: the prompt's last token."""
    return max(0, self.prompt - 1)

  @property
  def is_shared(self) -> bool:
    """Whether the question is a segment of its own, the solutions' parent."""
    return self.question > 0 and len(self.examples) > 1

  @property
  def begin(self) -> int:
    """Of an example's tokens, the first in its solution's segment."""
    return self.start if self.is_shared else self.first


class SharedPacker(packing.Packer):
  """Examples of one folder, packed; those of a problem share their prompt.

  A problem lies in one row. Only where none holds it, or where all problems in
  halves of a row need fewer rows, it is split.
  """

  @property
  def fields(self) -> tuple[str, ...]:
    # Rows without parents take a cheaper program: those of one solution for
    # each problem, as human solutions and texts of pretraining are.
    parents = ('parents',) if self.spans.parents else ()
    prefixes = () if self.prefixes is None else ('prefixes',)
    return (*packing.PLAIN_FIELDS, *parents, *prefixes)

  def _itemize(self, table: pa.Table) -> np.ndarray:
    prompts: dict[tuple[str, bytes], list[int]] = collections.defaultdict(list)
    for index, name in enumerate(table['problem_id'].to_pylist()):
      prompts[name, _prompt(self.examples, index)].append(index)
    shared = _Shared({prompt for _, prompt in prompts})
    self.prefixes = shared.prefixes()
    problems = [
      _Item(tuple(members), *shared.of(prompt), len(prompt) // _BYTES)
      for (_, prompt), members in prompts.items()
    ]
    problems, self.num_too_long = self._fitting(problems)
    self.num_examples = sum(len(item.examples) for item in problems)
    tried = []
    for number in _PIECES:
      most = self.row_length // number
      self._items = [
        piece for item in problems for piece in self._split(item, most)
      ]
      self._places = np.array([*map(self._item_places, self._items)], np.int64)
      rows = len(self._compose(np.arange(len(self._items))))
      tried.append((rows, number, self._items, self._places))
    *_, self._items, places = min(tried, key=lambda one: one[:2])
    return places

  def _fitting(self, problems: Sequence[_Item]) -> tuple[list[_Item], int]:
    """(problems with those of their examples that rows hold, what is left)."""
    found, too_long = [], 0
    for item in problems:
      needs = self.examples.places[list(item.examples)] - item.start
      fits = (needs > 0) & (needs <= self.row_length - item.question)
      too_long += int((needs > 0).sum() - fits.sum())
      if fits.any():
        here = tuple(np.array(item.examples)[fits].tolist())
        found.append(dataclasses.replace(item, examples=here))
    return found, too_long

  def _split(self, item: _Item, most: int) -> Iterable[_Item]:
    """A problem in pieces of at most so many places, or of one example."""
    here: list[int] = []
    left = 0
    for example in item.examples:
      need = int(self.examples.places[example]) - item.start
      if here and need > left:
        yield dataclasses.replace(item, examples=tuple(here))
        here = []
      if not here:
        left = most - item.question
      here.append(example)
      left -= need
    yield dataclasses.replace(item, examples=tuple(here))

  def _item_places(self, item: _Item) -> int:
    places = self.examples.places[list(item.examples)] - item.start
    return item.question + int(places.sum())

  def _compose(self, order: np.ndarray) -> list[list[int]]:
    # The problems of a row have one prefix.
    places = self._places.tolist()
    rows = []
    prefixes = np.array([item.prefix for item in self._items], int)[order]
    for prefix in np.unique(prefixes):
      chosen = order[prefixes == prefix].tolist()
      rows += composition.first_fit(chosen, places, self.row_length)
    return rows

  def _put(self, rows: packing.Rows, row: int, items: Sequence[int]) -> None:
    if rows.parents is not None:
      rows.parents[row] = -1
    if rows.prefixes is not None:
      rows.prefixes[row] = self._items[items[0]].prefix
    start, segment = 0, 0
    for item in (self._items[number] for number in items):
      parent = -1
      if item.is_shared:
        segment += 1
        parent = segment
        end = start + item.question
        low = self.examples.offsets[item.examples[0]]
        rows.tokens[row, start:end] = self.examples.tokens[
          low + item.first : low + item.prompt - 1
        ]
        rows.positions[row, start:end] = np.arange(item.first, item.prompt - 1)
        rows.segment_ids[row, start:end] = segment
        start = end
      for example in item.examples:
        segment += 1
        end = self.examples.put(rows, row, start, example, item.begin)
        rows.segment_ids[row, start:end] = segment
        if parent > 0:
          rows.parents[row, start:end] = parent
        start = end

  def _spans(self) -> segments.Spans:
    longest = parents = 0
    for items in self.rows:
      ends, lengths, questions = [], [], []
      for item in (self._items[number] for number in items):
        question = item.question if item.is_shared else 0
        solutions = self.examples.places[list(item.examples)] - item.begin
        lengths += [question, *solutions]
        questions += [0] + [question] * len(solutions)
      ends = np.cumsum(lengths)
      starts = ends - lengths
      longest = max(longest, max(lengths))
      parents = max(parents, _parents_of_blocks(starts, ends, questions))
    return segments.Spans(int(longest), int(parents))


def _parents_of_blocks(
  starts: np.ndarray, ends: np.ndarray, questions: Sequence[int]
) -> int:
  """Places of parents, at most, of the segments of a block.

  Args:
    starts, ends: places of a row's segments.
    questions: places of each one's parent. Segments of one parent follow each
      other, and a parent stands before them with 0 places of its own.
  """
  # A block sees the parents of all problems whose solutions it touches: those
  # of its first solution, and the ones that begin within it.
  most = 0
  for low in range(0, int(ends[-1]), segments.BLOCK):
    touched = (starts < low + segments.BLOCK) & (ends > low)
    seen, before = 0, 0
    for index in np.flatnonzero(touched):
      if questions[index] and not before:
        seen += questions[index]
      before = questions[index]
    most = max(most, seen)
  return most


_BYTES = 4  # of a token in a prompt


def _prompt(examples: packing.Examples, index: int) -> bytes:
  """The prompt of an example: bytes that sort as its tokens do."""
  low, high = examples.offsets[index], examples.offsets[index + 1]
  learned = examples.types[low:high] == records.TARGET
  prompt = int(np.argmax(learned)) if learned.any() else high - low
  return examples.tokens[low : low + prompt].astype('>i4').tobytes()


class _Shared:
  """Finds what many prompts begin with."""

  def __init__(self, prompts: Iterable[bytes]):
    """Args:
    prompts: as `_prompt` gives them, each once.
    """
    found: list[tuple[int, bytes]] = []  # (tokens that are saved, prefix)
    _find(sorted(prompts), found)
    best = sorted(found, reverse=True)[:_MOST_PREFIXES]
    self._prefixes = sorted(prefix for _, prefix in best)

  def of(self, prompt: bytes) -> tuple[int, int]:
    """(the index of a prompt's prefix or -1, its tokens)."""
    # The prompt's last token is the first input of its solutions.
    fitting = [
      (len(prefix) // _BYTES, index)
      for index, prefix in enumerate(self._prefixes)
      if prompt.startswith(prefix) and len(prefix) < len(prompt)
    ]
    length, index = max(fitting, default=(0, -1))
    return index, length

  def prefixes(self) -> packing.Prefixes | None:
    """The prefixes as arrays; None where there are none."""
    if not self._prefixes:
      return None
    arrays = [np.frombuffer(prefix, '>i4') for prefix in self._prefixes]
    lengths_F = np.array([len(array) for array in arrays], np.int32)
    places = -(-int(lengths_F.max()) // _PREFIX_PLACES) * _PREFIX_PLACES
    tokens_FP = np.zeros((len(arrays), places), np.int32)
    for row, array in zip(tokens_FP, arrays, strict=True):
      row[: len(array)] = array
    return packing.Prefixes(tokens_FP, lengths_F)


def _find(prompts: Sequence[bytes], found: list[tuple[int, bytes]]) -> None:
  """Adds the prefixes of prompts that are worth a reading of their own.

  Where prompts branch into few kinds (several tasks), each kind's own prefix is
  taken if that saves more than what all have in common.

  Args:
    prompts: sorted, all different.
    found: (tokens that are saved, prefix); added to.
  """
  if len(prompts) < _LEAST_PROBLEMS:
    return
  # What the first and the last of sorted texts begin with, all do.
  common = len(os.path.commonprefix([prompts[0], prompts[-1]]))
  # A prompt that is no longer keeps its last token for itself.
  common = max(0, min(common, min(map(len, prompts)) - _BYTES))
  common -= common % _BYTES
  branches = [
    list(branch)
    for _, branch in itertools.groupby(
      prompts, lambda prompt: prompt[common : common + _BYTES]
    )
  ]
  below: list[tuple[int, bytes]] = []
  if 1 < len(branches) <= _MOST_PREFIXES:
    for branch in branches:
      _find(branch, below)
  saved = (len(prompts) - 1) * common // _BYTES
  if sum(tokens for tokens, _ in below) > saved:
    found += below
  elif common >= _LEAST_PREFIX * _BYTES:
    found.append((saved, prompts[0][:common]))
