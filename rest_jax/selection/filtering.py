"""Which of a problem's correct solutions are trained on, and their weight."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa

from rest_jax.config import configuration

KEY = ('problem_id', 'sample_index')  # of a solution, within its stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectionConfig(configuration.Configuration):
  """What is kept of the correct solutions, and how much it weighs.

  Attributes:
    max_solutions_per_problem: kept at most, by a seeded uniform choice; of
      every task, or {task: number}.
    weighting: 'cap' gives each kept solution its reward as weight; 'literal'
      keeps every correct one (the paper's Eq. 3, without the cap);
      'per_problem' gives reward / kept, so that problems weigh the same.
    dedupe: whether of a problem's solutions with the very same text only the
      first can be kept.
    train_prompt: 'few_shot' trains on the prompt that was sampled from,
      'zero_shot' on the same without its exemplars.
    seed: of the choice.
  """

  max_solutions_per_problem: int | Mapping[str, int] = 10
  weighting: Literal['cap', 'literal', 'per_problem'] = 'cap'
  dedupe: bool = False
  train_prompt: Literal['few_shot', 'zero_shot'] = 'few_shot'
  seed: int = 0

  def check(self):
    most = self.max_solutions_per_problem
    ok = min(most.values() if isinstance(most, Mapping) else [most]) > 0
    self.require(ok, 'max_solutions_per_problem', 'at least 1')

  def of_task(self, task: str) -> 'SelectionConfig':
    """The same with the one cap that this task gets.

    Raises:
      ConfigurationError: max_solutions_per_problem says nothing of the task.
    """
    where = 'SelectionConfig.max_solutions_per_problem'
    most = configuration.per_task(where, self.max_solutions_per_problem, task)
    return dataclasses.replace(self, max_solutions_per_problem=most)


def keep(correct: pa.Table, config: SelectionConfig) -> pa.Table:
  """The kept rows of the correct solutions, with the column weight.

  Every sample has a priority, a hash of the seed, its problem's id and its
  index; the smallest ones of a problem are kept. That is a uniform choice
  without replacement which no other problem has a say in; a sample that was
  not chosen stays out when more samples are drawn.

  Args:
    correct: problem_id, sample_index, reward, text_digest and whatever else; a
      row per correct solution, in any order.
    config: how many, and what they weigh.

  Returns:
    Rows of `correct`, sorted by problem and sample, and their float32 weight.
  """
  table = correct.sort_by([(name, 'ascending') for name in KEY])
  if config.dedupe:
    rows = pa.array(np.arange(table.num_rows))
    groups = table.append_column('row', rows).group_by(
      ['problem_id', 'text_digest']
    )
    first = groups.aggregate([('row', 'min')])['row_min'].to_numpy()
    table = table.take(pa.array(np.sort(first)))
  problem_P, codes = _codes(table['problem_id'])
  reward = table['reward'].to_numpy().astype(np.float64)
  if config.weighting == 'literal':
    chosen = np.arange(table.num_rows)
  else:
    order = np.lexsort((_priorities(table, config.seed), codes))
    starts = np.searchsorted(codes[order], np.arange(len(problem_P)))
    rank = np.arange(len(order)) - starts[codes[order]]
    chosen = np.sort(order[rank < config.max_solutions_per_problem])
  weight = reward[chosen]
  if config.weighting == 'per_problem':
    kept = np.bincount(codes[chosen], minlength=len(problem_P))
    weight = weight / kept[codes[chosen]]
  return table.take(pa.array(chosen)).append_column(
    'weight', pa.array(weight, pa.float32())
  )


def _priorities(table: pa.Table, seed: int) -> np.ndarray:
  """(rows,) uint64, uniform, a pure function of seed, problem and index."""
  keys = zip(*(table[name].to_pylist() for name in KEY), strict=True)
  digests = [
    hashlib.blake2b(f'{seed}/{index}/{name}'.encode(), digest_size=8).digest()
    for name, index in keys
  ]
  return np.frombuffer(b''.join(digests), '>u8')


def _codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
  """(distinct values in order, (rows,) the position of each row's value)."""
  encoded = column.combine_chunks().dictionary_encode()
  names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
  order = sorted(range(len(names)), key=names.__getitem__)
  rank = np.empty(len(names), np.int64)
  rank[order] = np.arange(len(names))
  return [names[i] for i in order], rank[codes]
