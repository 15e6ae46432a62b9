"""pass@1 by level and by type of the problems, and the averages over these."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rest_jax.artifacts import manifests
from rest_jax.evaluation import intervals, metrics, results


def groups(
  problems: manifests.Manifest | None,
) -> dict[str, dict[str, str | None]]:
  """Which group each problem is in.

  Args:
    problems: of the stage prepare, or None.

  Returns:
    {'level': {problem id: its level or None}, 'type': likewise}; {} where
    there are no problems.
  """
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
  """The values of the problems of each group.

  Args:
    found: the problems.
    values_P: (P,) a value per problem, in their order.
    group_of: {problem id: its group}; None for a problem of no group.

  Returns:
    {group: (P_group,) values}, by name; problems of no group are left out.
  """
  names = [group_of.get(problem_id) for problem_id in found.problem_ids]
  return {
    name: values_P[np.array([other == name for other in names])]
    for name in sorted({name for name in names if name is not None})
  }


def breakdown(
  head: Mapping, values: Mapping[str, np.ndarray], resamples: int, seed: int
) -> list[dict]:
  """A row of results.json for each group of problems.

  Args:
    head: what all rows have in common.
    values: of each group's problems, as `by_group` gives them.
    resamples: of the bootstrap over problems.
    seed: of the bootstrap.
  """
  rows = []
  for name, values_P in values.items():
    estimate = results.estimate(values_P, resamples, seed)
    rows.append({**head, 'group': name, **dataclasses.asdict(estimate)})
  return rows


def average(
  head: Mapping, values: Mapping[str, np.ndarray], resamples: int, seed: int
) -> list[dict]:
  """[the row of the macro average], the unweighted mean of the groups.

  Args: as of `breakdown`.

  Returns:
    A list of one row; of none where fewer than two groups have a value.
  """
  there = [values_P[~np.isnan(values_P)] for values_P in values.values()]
  there = [values_P for values_P in there if values_P.size]
  if len(there) < 2:
    return []
  mean, low, high = intervals.macro_bootstrap(there, resamples, seed)
  estimate = {'value': mean, 'ci_low': low, 'ci_high': high}
  n = sum(values_P.size for values_P in there)
  return [{**head, 'groups': len(there), **estimate, 'n': n}]
