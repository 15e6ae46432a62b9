"""pass@1 by level and by type, arranged as a table for each test set."""

import dataclasses
from collections.abc import Sequence

from rest_jax.evaluation import results
from rest_jax.reporting import run_data


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupTable:
  """A test set by level or by type.

  Attributes:
    problems: the test set, such as math/test.
    by: 'level' or 'type'.
    metric: what is shown.
    models: the models that have any value.
    rows: (level or type, number of problems, the value of each model). The
      name of the average over the groups is None; it stands last.
  """

  problems: str
  by: str
  metric: str
  models: list[str]
  rows: list[tuple[str | None, int, list[results.Result | None]]]

  @property
  def has_average(self) -> bool:
    """Whether the last row is the average over the groups."""
    return self.rows[-1][0] is None


def group_tables(run: run_data.Run) -> list[GroupTable]:
  """The tables; none for a set whose problems have neither level nor type."""
  made = []
  for task, split in run.evaluated:
    for by in ('level', 'type'):
      found = {
        model.name: rows
        for model in run.compared
        if (rows := _of_one_stream(model.group_rows, task, split, by))
      }
      sizes = {one.group: one.n for of in found.values() for one in of.values()}
      groups = sorted(sizes.keys() - {None}, key=run_data.natural)
      if not groups:
        continue
      total = sum(sizes[group] for group in groups)
      metrics = {one.metric for of in found.values() for one in of.values()}
      greedy = metrics == {results.GREEDY}
      made.append(
        GroupTable(
          problems=f'{task}/{split}',
          by=by,
          metric='greedy pass@1' if greedy else 'pass@1',
          models=list(found),
          rows=[
            (
              group,
              total if group is None else sizes[group],
              [rows.get(group) for rows in found.values()],
            )
            for group in [*groups, *[None] * (None in sizes)]
          ],
        )
      )
  return made


def _of_one_stream(
  rows: Sequence[results.Result], task: str, split: str, by: str
) -> dict[str | None, results.Result]:
  """By group: the greedy results, or else those of one other stream."""
  ours = [
    one for one in rows if (one.task, one.split, one.by) == (task, split, by)
  ]
  greedy = [one for one in ours if one.metric == results.GREEDY]
  ours = greedy or [one for one in ours if one.stream == ours[0].stream]
  return {one.group: one for one in ours}
