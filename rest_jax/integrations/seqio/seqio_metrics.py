"""pass@k and maj@k as SeqIO metric functions.

They grade decoded texts as the stage `score` does, with the task's grader
(programs in the sandbox), and use the estimators of the stage `evaluate`. This
module does not import SeqIO.

    seqio.Task(..., postprocess_fn=postprocessor('math', stop=['\\nProblem:']),
               metric_fns=[metric_fn('math')])

SeqIO does not say how a completion ended. One that ran into the length limit is
graded like any other; in a run its outcome would be `truncated`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rest_jax.evaluation import metrics
from rest_jax.rewards import pool, registry, verdicts

_STREAM = 'seqio'
Predictions = Sequence[str] | Sequence[Sequence[str]]


def postprocessor(
  grader: str, stop: Sequence[str] = ()
) -> Callable[..., str | list[str]]:
  """Makes a `postprocess_fn`, whose results metric_fn(grader) compares.

  Args:
    grader: a name in rewards/registry.py.
    stop: strings that end a completion, as the task's template names them.

  Returns:
    postprocess(text, example, is_target). For a target it returns the example's
    answer or tests, whichever the grader reads; for a prediction its text
    before the first stop string (a list for several predictions).
  """
  reads = registry.get(grader).reads

  def postprocess(
    text: str | Sequence[str],
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
    **_,
  ) -> str | list[str]:
    if is_target:
      return _text(example[reads])
    if isinstance(text, str | bytes):
      return _before(_text(text), stop)
    return [_before(_text(one), stop) for one in text]

  return postprocess


def metric_fn(
  grader: str,
  *,
  pass_at: Sequence[int] | None = None,
  maj_at: Sequence[int] | None = None,
  num_workers: int = 0,
) -> Callable[[Sequence[str], Predictions], dict[str, float]]:
  """Makes a metric function of a task.

  Args:
    grader: a name in rewards/registry.py.
    pass_at: the k of pass@k; None for 1, 2, 4, … up to the number of
      predictions that targets have.
    maj_at: the k of maj@k; None for 2, 4, … if any completion has an answer to
      vote with; () for none.
    num_workers: grading processes; 0 for one per core. Only graders that
      are not bounded (registry.Grader; `program`, your own) use them.

  Returns:
    A function of (targets, predictions): references as `postprocessor` gives
    them, and one text or several for each. It returns pass@k and maj@k, as
    means over the targets with k predictions or more (NaN if there are none),
    and the share of predictions with each outcome, as in `rate/no_answer`.

  Raises:
    ConfigurationError: when the function is called and this machine lacks what
      the grader needs.
  """
  row = registry.get(grader)

  def fn(targets: Sequence[str], predictions: Predictions) -> dict[str, float]:
    found = _graded(row, targets, predictions, num_workers)
    steps = metrics.ladder(found.max_samples)
    votes = [k for k in steps if k > 1] if found.has_answers else []
    values = {}
    for k in steps if pass_at is None else pass_at:
      each = metrics.pass_at_k(found.num_samples, found.num_correct, k)
      values[f'pass@{k}'] = _mean(each)
    for k in votes if maj_at is None else maj_at:
      values[f'maj@{k}'] = _mean(metrics.maj_at_k(found.votes, k))
    rates = found.rates()
    for name in verdicts.OUTCOMES:
      values[f'rate/{name}'] = rates.get(name, 0.0)
    return values

  return fn


def _graded(
  grader: registry.Grader,
  targets: Sequence[str],
  predictions: Predictions,
  num_workers: int,
) -> metrics.Outcomes:
  registry.require(grader)
  items, places = [], []
  for place, (target, texts) in enumerate(
    zip(targets, predictions, strict=True)
  ):
    if isinstance(texts, str | bytes):
      texts = [texts]
    for index, text in enumerate(texts):
      items.append(pool.Item(completion=_text(text), reference=_text(target)))
      places.append((str(place), index))
  with pool.Pool(grader, num_workers=num_workers) as workers:
    found = [item.verdict for item in workers.grade(items)]
  table = pa.table(
    {
      'problem_id': pa.array([place for place, _ in places], pa.string()),
      'sample_index': pa.array([index for _, index in places], pa.int32()),
      'stream': pa.array([_STREAM] * len(places), pa.string()),
      'outcome': pa.array([v.outcome for v in found], pa.string()),
      'answer': pa.array([v.answer for v in found], pa.string()),
    }
  )
  return metrics.outcomes(table, _STREAM)


def _before(text: str, stop: Sequence[str]) -> str:
  if not stop:
    return text
  return re.split('|'.join(map(re.escape, stop)), text, maxsplit=1)[0]


def _text(value: str | bytes) -> str:
  if isinstance(value, bytes):
    return value.decode('utf-8', 'replace')
  return str(value)


def _mean(values: np.ndarray) -> float:
  there = values[~np.isnan(values)]
  return float(there.mean()) if there.size else float('nan')
