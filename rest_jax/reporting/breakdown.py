"""pass@1 by level and by type: a table for each test set."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rest_jax.reporting import labels, pages, run_results


def section(run: run_results.Run) -> str:
  """The tables; a set whose problems have neither level nor type has none."""
  title = 'By level and type'
  body = [
    text
    for task, split in labels.sets(run)
    for by in ('level', 'type')
    for text in _table(run, task, split, by)
  ]
  if not body:
    absent = 'The evaluated problems have neither levels nor types.'
    return pages.section('breakdown', title, pages.absent(absent))
  note = pages.paragraph(
    'The last row of a table is the unweighted mean of its groups (macro '
    'average); 95% intervals by bootstrap over problems, in that row within '
    'each group.'
  )
  return pages.section('breakdown', title, note, *body)


def _table(
  run: run_results.Run, task: str, split: str, by: str
) -> Iterator[str]:
  models = {
    model.name: found
    for model in run.compared
    if (found := _rows(model.breakdown, task, split, by))
  }
  groups = {row['group']: row['n'] for f in models.values() for row in f}
  if not groups:
    return
  rows = [
    [group, groups[group], *(_cell(f, group) for f in models.values())]
    for group in sorted(groups, key=run_results.natural)
  ]
  averages = {
    name: _rows(run.model(name).averages, task, split, by) for name in models
  }
  if any(averages.values()):
    spans = [labels.span(f[0] if f else None) for f in averages.values()]
    rows.append(['macro average', sum(groups.values()), *spans])
  kinds = {f[0]['metric'] for f in models.values()}
  how = 'greedy pass@1' if kinds == {run_results.GREEDY} else 'pass@1'
  caption = f'{task}/{split} by {by}: {how}'
  header = [by, 'n', *map(labels.label, models)]
  yield pages.table(caption, header, rows, total=any(averages.values()))


def _rows(
  rows: Sequence[Mapping[str, Any]], task: str, split: str, by: str
) -> list[Mapping[str, Any]]:
  """Those of one set: greedy ones, or else those of one other stream."""
  ours = [
    row
    for row in rows
    if (row['task'], row['split'], row['by']) == (task, split, by)
  ]
  greedy = [row for row in ours if row['metric'] == run_results.GREEDY]
  return greedy or [r for r in ours if r.get('stream') == ours[0].get('stream')]


def _cell(rows: Sequence[Mapping[str, Any]], group: str) -> str:
  return labels.span(next((r for r in rows if r['group'] == group), None))
