"""pass@k, maj@k and the rates of the verdict classes, problem by problem.

A sample with the outcome harness_error is our fault, not the model's: it is
left out of a problem's n samples (and its rate is reported). So are all samples
of a stream in which a person has yet to grade some: those that need nobody,
empty ones, would say nothing of the model. A problem that has fewer than k
samples left has no value at k: NaN here, left out of the mean.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.rewards import verdicts

_NEGLIGIBLE = 1e-20  # a chance that no sum will show
COLUMNS = ('problem_id', 'sample_index', 'stream', 'outcome', 'answer')


@dataclasses.dataclass(frozen=True)
class Votes:
  """The answers that a problem's samples gave.

  Attributes:
    counts: samples per canonical answer, largest first.
    correct: whether that answer is correct, in the same order.
    silent: samples without an answer; they do not vote.
  """

  counts: tuple[int, ...]
  correct: tuple[bool, ...]
  silent: int


@dataclasses.dataclass(frozen=True)
class Outcomes:
  """One stream's verdicts, per problem.

  Attributes:
    problem_ids: sorted.
    num_samples: (P,) samples that count.
    num_correct: (P,) of these.
    votes: (P,) their answers.
    classes: number of samples per outcome that occurs, harness errors too.
  """

  problem_ids: tuple[str, ...]
  num_samples: np.ndarray
  num_correct: np.ndarray
  votes: tuple[Votes, ...]
  classes: dict[str, int]

  @property
  def total(self) -> int:
    """All samples, harness errors too."""
    return sum(self.classes.values())

  @property
  def max_samples(self) -> int:
    """The largest number of samples that a problem has."""
    return int(self.num_samples.max(initial=0))

  @property
  def has_answers(self) -> bool:
    """Whether anything can be voted on."""
    return any(votes.counts for votes in self.votes)

  def rates(self) -> dict[str, float]:
    """The share of each outcome among all samples; they add up to 1."""
    return {name: n / max(self.total, 1) for name, n in self.classes.items()}


def outcomes(table: pa.Table, stream: str) -> Outcomes:
  """Counts one stream's verdicts per problem.

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
  """Which of the verdicts say something of the model; see the module.

  Args:
    table: with the columns stream and outcome.
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

  As a product over the correct samples (Chen et al. 2021, section 2.1), so
  that no binomial coefficient is ever formed.

  Args:
    num_samples: (P,) n.
    num_correct: (P,) c <= n.
    k: samples drawn without replacement.

  Returns:
    (P,) float64; NaN where n < k.
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

  The expectation is exact, over all subsets of k of the problem's samples and
  over all ways to break a tie (each of the answers that lead is equally
  likely to be taken), so that no seed enters. Samples without an answer are
  drawn like any other but do not vote; if none votes the problem is missed.

  Args:
    votes: (P,) per problem.
    k: samples drawn without replacement.

  Returns:
    (P,) float64; NaN where the problem has fewer than k samples.
  """
  if k < 1:
    raise ValueError(f'k: got {k}; allowed: at least 1.')
  return np.array([_majority(vote, k) for vote in votes], np.float64)


def ladder(largest: int) -> list[int]:
  """1, 2, 4, ... up to `largest`, which is always the last."""
  steps = [2**i for i in range(largest.bit_length()) if 2**i < largest]
  return [*steps, largest] if largest > 0 else []


def _votes(tally: dict) -> Votes:
  silent = tally.pop(None, [0])[0]
  pairs = sorted((-count, not right) for count, right in tally.values())
  return Votes(
    tuple(-count for count, _ in pairs),
    tuple(not wrong for _, wrong in pairs),
    silent,
  )


@functools.lru_cache(maxsize=100_000)
def _majority(votes: Votes, k: int) -> float:
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
  """The chance that an answer wins the vote of a random subset of size k.

  The multivariate hypergeometric law is that of independent binomials
  (probability k / total each) given that they add up to k. With the answer's
  own votes fixed at j, every rival has fewer, or ties; t rivals that tie leave
  it 1 / (t + 1), the integral of u^t from 0 to 1. So the rivals' generating
  function, with a factor u where one has exactly j votes, is multiplied out
  for all j at once and integrated by Gauss-Legendre, exact for a polynomial.
  """
  total = own + sum(others) + silent
  p = k / total
  own_V = _binomial(own, p)
  j_J = np.flatnonzero(own_V[: k + 1] > _NEGLIGIBLE)
  j_J = j_J[j_J > 0]
  ties = min(len(others), k - 1)  # at most: the degree of u
  nodes, weights = np.polynomial.legendre.leggauss(ties // 2 + 1)
  u_Q, weight_Q = (nodes + 1) / 2, weights / 2
  # J own votes, Q quadrature node, S votes of the rivals and silent samples
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
  """(n + 1,) the binomial law, by its logarithm."""
  if p >= 1.0:
    return np.eye(1, n + 1, n)[0]
  steps = np.log(np.arange(1, n + 1))
  factorial = np.concatenate([[0.0], np.cumsum(steps)])
  v = np.arange(n + 1)
  log = factorial[n] - factorial - factorial[::-1]
  return np.exp(log + v * np.log(p) + (n - v) * np.log1p(-p))
