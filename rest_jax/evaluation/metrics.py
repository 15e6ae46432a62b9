"""pass@k, maj@k and the rates of the verdict classes, problem by problem.

Not every sample counts. One with the outcome harness_error says nothing of the
model, because the grader failed; it is left out of the problem's n samples, and
the rate of such samples is reported. A stream in which some samples still wait
for a person (ungraded) is left out as a whole: the graded rest of it are the
empty completions, which alone would make the model look worse than it is. A
problem with fewer than k counted samples has no value at k. It is NaN here and
left out of the mean.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.rewards import verdicts

_NEGLIGIBLE = 1e-20  # a probability too small to change a float64 sum
COLUMNS = ('problem_id', 'sample_index', 'stream', 'outcome', 'answer')


@dataclasses.dataclass(frozen=True)
class Votes:
  """The answers that the samples of one problem gave.

  Attributes:
    counts: number of samples with each canonical answer, largest first.
    correct: whether each of these answers is correct, in the same order.
    silent: number of samples without an answer; they do not vote.
  """

  counts: tuple[int, ...]
  correct: tuple[bool, ...]
  silent: int


@dataclasses.dataclass(frozen=True)
class Outcomes:
  """The verdicts of one stream, counted by problem.

  Attributes:
    problem_ids: (P,) in alphabetical order.
    num_samples: (P,) number of samples that count; see the module.
    num_correct: (P,) how many of these are correct.
    votes: (P,) the answers of these.
    classes: number of samples of each outcome that occurs, of all samples.
  """

  problem_ids: tuple[str, ...]
  num_samples: np.ndarray
  num_correct: np.ndarray
  votes: tuple[Votes, ...]
  classes: dict[str, int]

  @property
  def total(self) -> int:
    """The number of all samples, including those that do not count."""
    return sum(self.classes.values())

  @property
  def max_samples(self) -> int:
    """The largest number of counted samples of any problem."""
    return int(self.num_samples.max(initial=0))

  @property
  def has_answers(self) -> bool:
    """Whether any sample has an answer that maj@k could vote on."""
    return any(votes.counts for votes in self.votes)

  def rates(self) -> dict[str, float]:
    """The share of each outcome among all samples; they add up to 1."""
    return {name: n / max(self.total, 1) for name, n in self.classes.items()}


def outcomes(table: pa.Table, stream: str) -> Outcomes:
  """Counts the verdicts of one stream by problem.

  Args:
    table: verdicts with at least COLUMNS; other streams are left out.
    stream: such as 'eval/greedy'.

  Raises:
    ValueError: the same sample of a problem was graded twice.
  """
  table = table.select(COLUMNS)
  table = table.filter(pc.equal(table['stream'], stream))
  keys = ['problem_id', 'sample_index']
  grouped = table.group_by(keys).aggregate([([], 'count_all')])
  if grouped.num_rows != table.num_rows:
    twice = grouped.filter(pc.greater(grouped['count_all'], 1)).to_pylist()[0]
    raise ValueError(
      f'stream {stream}: problem {twice["problem_id"]} has sample '
      f'{twice["sample_index"]} twice. Delete the folder and score again.'
    )
  counted = table.group_by(['outcome']).aggregate([([], 'count_all')])
  classes = {row['outcome']: row['count_all'] for row in counted.to_pylist()}
  ids = tuple(sorted(pc.unique(table['problem_id']).to_pylist()))
  grouped = (
    table.filter(counting(table))
    .group_by(['problem_id', 'outcome', 'answer'])
    .aggregate([([], 'count_all')])
  )
  position = {problem_id: i for i, problem_id in enumerate(ids)}
  n, c = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
  tallies = [{} for _ in ids]  # answer (None: silent) -> [samples, correct]
  for row in grouped.to_pylist():
    i, count = position[row['problem_id']], row['count_all']
    right = row['outcome'] == verdicts.CORRECT
    n[i] += count
    c[i] += count if right else 0
    voting = right or row['outcome'] == verdicts.WRONG
    tally = tallies[i].setdefault(row['answer'] if voting else None, [0, False])
    tally[0] += count
    tally[1] |= right
  return Outcomes(ids, n, c, tuple(map(_votes, tallies)), classes)


def counting(table: pa.Table) -> pa.ChunkedArray:
  """Which verdicts count; see the module.

  Args:
    table: verdicts, with the columns stream and outcome.

  Returns:
    A Boolean per row.
  """
  waiting = table.filter(pc.equal(table['outcome'], verdicts.UNGRADED))[
    'stream'
  ]
  return pc.and_not(
    pc.not_equal(table['outcome'], verdicts.HARNESS_ERROR),
    pc.is_in(table['stream'], pc.unique(waiting)),
  )


def pass_at_k(
  num_samples: np.ndarray, num_correct: np.ndarray, k: int
) -> np.ndarray:
  """The unbiased estimate of pass@k, 1 - C(n-c, k) / C(n, k), per problem.

  Computed as a product (Chen et al. 2021, arXiv 2107.03374, section 2.1),
  because the binomial coefficients themselves would overflow.

  Args:
    num_samples: (P,) n, the counted samples of each problem.
    num_correct: (P,) c, how many of them are correct.
    k: number of samples drawn without replacement; at least 1.

  Returns:
    (P,) float64 from 0 to 1; NaN where n < k.
  """
  if k < 1:
    raise ValueError(f'k: got {k}; allowed: at least 1.')
  pairs, inverse = np.unique(
    np.stack([num_samples, num_correct], axis=1), axis=0, return_inverse=True
  )
  values = []
  for n, c in pairs.tolist():
    if n < k:
      values.append(np.nan)
    elif k == 1:
      values.append(c / n)  # exactly: difficulty bins begin at 1/4, 1/2, 3/4
    elif n - c < k:
      values.append(1.0)
    else:
      values.append(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))
  return np.array(values, np.float64)[inverse.reshape(-1)]


def maj_at_k(votes: Sequence[Votes], k: int) -> np.ndarray:
  """The expected accuracy of a majority vote of k samples, per problem.

  The expectation is exact. It is taken over all subsets of k of the problem's
  samples and over the ways to break a tie, in which each of the leading answers
  is chosen with the same probability; no random seed is involved. Samples
  without an answer are drawn like any other but do not vote. If no sample of a
  subset votes, the subset counts as wrong. Every majority vote of the package
  is computed here.

  Args:
    votes: (P,) the answers of each problem.
    k: number of samples drawn without replacement; at least 1.

  Returns:
    (P,) float64 from 0 to 1; NaN where the problem has fewer than k samples.
  """
  if k < 1:
    raise ValueError(f'k: got {k}; allowed: at least 1.')
  return np.array([_majority(vote, k) for vote in votes], np.float64)


def ladder(largest: int) -> list[int]:
  """The k of pass@k and maj@k: 1, 2, 4, … and `largest` itself."""
  steps = [2**i for i in range(largest.bit_length()) if 2**i < largest]
  return [*steps, largest] if largest > 0 else []


def _votes(tally: dict[str | None, list]) -> Votes:
  """From {answer: [samples, whether correct]}; None holds the silent ones."""
  silent = tally.pop(None, [0])[0]
  pairs = sorted((-count, not right) for count, right in tally.values())
  return Votes(
    tuple(-count for count, _ in pairs),
    tuple(not wrong for _, wrong in pairs),
    silent,
  )


@functools.lru_cache(maxsize=100_000)
def _majority(votes: Votes, k: int) -> float:
  """The probability that a correct answer is the one that is chosen."""
  total = sum(votes.counts) + votes.silent
  if total < k:
    return np.nan
  chance = 0.0
  for i, (count, correct) in enumerate(
    zip(votes.counts, votes.correct, strict=True)
  ):
    if correct:
      others = votes.counts[:i] + votes.counts[i + 1 :]
      chance += _wins(count, others, votes.silent, k)
  return min(chance, 1.0)


def _wins(own: int, others: Sequence[int], silent: int, k: int) -> float:
  """The probability that one answer wins the vote of a random subset of size k.

  The votes in a subset follow the multivariate hypergeometric distribution.
  This is the distribution of independent binomials (probability k / total each)
  given that they add up to k, so the answers can be multiplied in one by one.

  Say the answer has j votes. It wins if every rival has fewer; with t rivals
  that also have j it wins with probability 1 / (t + 1), which is the integral
  of u^t for u from 0 to 1. So each rival contributes its binomial, with a
  factor u where it has exactly j votes; their product is a polynomial in u, and
  Gauss-Legendre quadrature integrates it exactly.

  Args:
    own: samples with this answer.
    others: samples with each other answer.
    silent: samples without an answer.
    k: size of the subset.
  """
  total = own + sum(others) + silent
  p = k / total
  own_V = _binomial(own, p)
  j_J = np.flatnonzero(own_V[: k + 1] > _NEGLIGIBLE)
  j_J = j_J[j_J > 0]
  ties = min(len(others), k - 1)  # at most: the degree of u
  nodes, weights = np.polynomial.legendre.leggauss(ties // 2 + 1)
  u_Q, weight_Q = (nodes + 1) / 2, weights / 2
  # J own votes, Q quadrature nodes, S votes of rivals and silent samples
  sums_JQS = np.zeros((len(j_J), len(u_Q), k + 1))
  sums_JQS[:, :, : silent + 1] = _binomial(silent, p)[: k + 1]
  for rival in others:
    chance = _binomial(rival, p)
    product = np.zeros_like(sums_JQS)
    for v in np.flatnonzero(chance[: k + 1] > _NEGLIGIBLE):
      factor_JQ = np.where(
        v < j_J[:, None], 1.0, np.where(v == j_J[:, None], u_Q, 0.0)
      )
      moved = sums_JQS[:, :, : k + 1 - v]
      product[:, :, v:] += chance[v] * factor_JQ[:, :, None] * moved
    sums_JQS = product
  rivals_J = sums_JQS[np.arange(len(j_J)), :, k - j_J] @ weight_Q
  return float(own_V[j_J] @ rivals_J / _binomial(total, p)[k])


@functools.lru_cache(maxsize=100_000)
def _binomial(n: int, p: float) -> np.ndarray:
  """(n + 1,) binomial probabilities; by logarithms, so that none overflows."""
  if p >= 1.0:
    return np.eye(1, n + 1, n)[0]
  steps = np.log(np.arange(1, n + 1))
  factorial = np.concatenate([[0.0], np.cumsum(steps)])
  v = np.arange(n + 1)
  log = factorial[n] - factorial - factorial[::-1]
  return np.exp(log + v * np.log(p) + (n - v) * np.log1p(-p))
