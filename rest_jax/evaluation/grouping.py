"""Estimates with their intervals: of all problems, by level and by type."""

import math
from collections.abc import Mapping

import numpy as np

from rest_jax.artifacts import manifests
from rest_jax.evaluation import intervals, metrics


def estimates(values_PM: np.ndarray, resamples: int, seed: int) -> list[dict]:
  """{value, ci_low, ci_high, n} per column; None where nothing has a value."""
  low_M, high_M = intervals.bootstrap(values_PM, resamples, seed)
  there_M = (~np.isnan(values_PM)).sum(axis=0)
  sum_M = np.nansum(values_PM, axis=0)
  return [
    {
      'value': _number(total / n) if n else None,
      'ci_low': _number(low),
      'ci_high': _number(high),
      'n': int(n),
    }
    for total, n, low, high in zip(sum_M, there_M, low_M, high_M, strict=True)
  ]


def groups(
  problems: manifests.Manifest | None,
) -> dict[str, dict[str, str | None]]:
  """{'level': {problem id: its level}, 'type': likewise}."""
  if problems is None:
    return {}
  table = problems.table(columns=['id', 'level', 'type'])
  ids = table['id'].to_pylist()
  return {
    by: dict(zip(ids, table[by].to_pylist(), strict=True))
    for by in ('level', 'type')
  }


def by_group(
  found: metrics.Outcomes,
  values_P: np.ndarray,
  group_of: Mapping[str, str | None],
) -> dict[str, np.ndarray]:
  """The problems' values, group by group; without those of no group."""
  names = [group_of.get(problem_id) for problem_id in found.problem_ids]
  return {
    name: values_P[np.array([other == name for other in names])]
    for name in sorted({name for name in names if name is not None})
  }


def breakdown(
  head: Mapping, values: Mapping[str, np.ndarray], resamples: int, seed: int
) -> list[dict]:
  """A row of pass@1 for the problems of each group."""
  rows = []
  for name, values_P in values.items():
    [estimate] = estimates(values_P[:, None], resamples, seed)
    rows.append({**head, 'group': name, **estimate})
  return rows


def average(
  head: Mapping, values: Mapping[str, np.ndarray], resamples: int, seed: int
) -> list[dict]:
  """A row for the unweighted mean of several groups' pass@1 (macro average)."""
  there = [values_P[~np.isnan(values_P)] for values_P in values.values()]
  there = [values_P for values_P in there if values_P.size]
  if len(there) < 2:
    return []
  mean, low, high = intervals.macro_bootstrap(there, resamples, seed)
  estimate = {'value': mean, 'ci_low': low, 'ci_high': high}
  n = sum(values_P.size for values_P in there)
  return [{**head, 'groups': len(there), **estimate, 'n': n}]


def _number(value: float) -> float | None:
  return None if math.isnan(value) else float(value)
