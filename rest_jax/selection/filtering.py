"""Chooses which correct solutions are trained on, and their weights."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa

from rest_jax.config import configuration

KEY = ('problem_id', 'sample_index')  # identifies a solution in its stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectionConfig(configuration.Configuration):
  """What is kept of the correct solutions, and how much it weighs.

  Attributes:
    max_solutions_per_problem: the cap: at most so many are kept, by a seeded
      uniform choice; one number for all tasks, or {task: number}.
    weighting: 'cap' gives each kept solution its reward as weight; 'literal'
      keeps every correct one (the paper's Eq. 3, without the cap);
      'per_problem' gives reward / kept, so that problems weigh the same.
    dedupe: whether only the first of a problem's solutions with the same text
      can be kept.
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
    """This configuration with the cap of one task.

    Raises:
      ConfigurationError: max_solutions_per_problem has no entry for the task.
    """
    where = 'SelectionConfig.max_solutions_per_problem'
    most = configuration.per_task(where, self.max_solutions_per_problem, task)
    return dataclasses.replace(self, max_solutions_per_problem=most)


def keep(correct: pa.Table, config: SelectionConfig) -> pa.Table:
  """Keeps some of the correct solutions of each problem.

  A sample's priority is a hash of the seed, its problem's id and its index. The
  samples of a problem with the smallest priorities are kept, which is a uniform
  choice without replacement. It does not depend on other problems, and a sample
  that was not chosen is not chosen when more samples are drawn either.

  Args:
    correct: columns problem_id, sample_index, reward and text_digest, and
      possibly others; a row for each correct solution, in any order.
    config: how many are kept, and their weights.

  Returns:
    The kept rows of `correct`, sorted by problem and sample, with a float32
    column `weight`.
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
