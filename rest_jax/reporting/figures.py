"""The figures of a run's results: one function per section of its page.

Each returns the section as HTML: charts, what they show (test set, n,
temperature, intervals), and the same numbers as a table. Where the run lacks
what a figure needs, the section says so in a sentence.
"""

from collections.abc import Mapping
from typing import Any

from rest_jax.reporting import labels, pages, plots, run_results

_RATES = {
  'unparsed': 'no answer',
  'timeout': 'timeout',
  'truncated': 'truncated',
  'ungraded': 'ungraded',
}
# A curve of figure 1: its series, what it was measured on, rows of the table.
_Curve = tuple[plots.Series, str, list[list[Any]]]


def progress(run: run_results.Run, bootstrap: Mapping[str, int]) -> str:
  """Figure 1: train and test pass@1 by iteration, SFT as a line."""
  charts, rows = [], []
  last = max((m.iteration for m in run.policies), default=0)
  ticks = [(i, 'base' if i == 0 else str(i)) for i in range(last + 1)]
  for task, split in labels.sets(run):
    curves = [
      curve
      for curve in (
        _test_curve(run, task, split),
        _train_curve(run, task, bootstrap),
        _sft_line(run, task, split),
      )
      if curve is not None
    ]
    if not curves:
      continue
    series = [one for one, _, _ in curves]
    rows += [[f'{task}/{split}', *row] for _, _, more in curves for row in more]
    chart = plots.line_chart(
      f'pass@1 on {task}/{split} by iteration',
      series,
      x=plots.Axis(label='iteration', ticks=ticks),
      y=plots.Axis(label='pass@1', percent=True),
    )
    small = '; '.join(text for _, text, _ in curves if text)
    small = f'{labels.role(run, task)}; {small}'
    legend = plots.legend(series)
    charts.append(pages.panel(f'{task}/{split}', small, chart, legend))
  title = 'Figure 1: pass@1 by iteration'
  if not charts:
    absent = pages.absent('There is no greedy evaluation to show.')
    return pages.section('progress', title, absent)
  notes = [pages.paragraph('Error bars and band: 95% bootstrap intervals.')]
  if run.training_tasks:
    notes.append(
      pages.paragraph(
        "Train is the mean over the E-step's samples, each shown at the model "
        'that drew it; the last model draws none.'
      )
    )
  if run.final is None:
    notes.append(pages.absent('No iteration has been evaluated yet.'))
  if run.model('sft_human') is None:
    notes.append(pages.absent('No SFT line: this run has no SFT baseline.'))
  header = ['figure', 'model', 'how', 'pass@1', 'n']
  numbers = pages.folded('Numbers', pages.table('pass@1', header, rows))
  return pages.section('progress', title, pages.panels(charts), *notes, numbers)


def _test_curve(run: run_results.Run, task: str, split: str) -> _Curve | None:
  points, rows = [], []
  for model in run.policies:
    row = model.row(task, split)
    if row is not None:
      points.append(labels.point(model.iteration, row))
      how = f'greedy on {split}'
      rows.append([labels.label(model.name), how, labels.span(row), row['n']])
  if not points:
    return None
  series = plots.Series(name='test', points=points, style=labels.TEST)
  return series, f'test: split {split}, greedy, n = {rows[-1][-1]:,}', rows


def _train_curve(
  run: run_results.Run, task: str, bootstrap: Mapping[str, int]
) -> _Curve | None:
  points, rows, small = [], [], ''
  for model in run.policies:
    graded = next((g for g in model.e_step if g.task == task), None)
    if graded is None or not graded.rates():
      continue
    row = labels.mean(list(graded.rates().values()), bootstrap)
    # The samples of iteration i come from the model of iteration i - 1.
    points.append(labels.point(model.iteration - 1, row))
    heat = labels.at(graded.temperature)
    how = f'E-step samples, {heat}'
    rows.append([labels.sampler(model), how, labels.span(row), row['n']])
    small = f'train: split {graded.split}, {heat}, n = {row["n"]:,} × '
    small += f'{graded.num_samples or "?"} samples'
  if not points:
    return None
  series = plots.Series(name='train', points=points, style=labels.TRAIN)
  return series, small, rows


def _sft_line(run: run_results.Run, task: str, split: str) -> _Curve | None:
  model = run.model('sft_human')
  row = model.row(task, split) if model else None
  if row is None:
    return None
  series = plots.Series(
    name='SFT on human solutions, test',
    points=[labels.point(0, row)],
    style=labels.SFT,
    horizontal=True,
  )
  name, how = labels.label(model.name), f'greedy on {split}'
  return series, '', [[name, how, labels.span(row), row['n']]]


def many_samples(run: run_results.Run) -> str:
  """Figure 2: pass@k and maj@k, base against final; or of all checkpoints."""
  styles = {'base': labels.BASE, 'sft_human': labels.SFT}
  if run.is_batch:
    styles = {model.name: i for i, model in enumerate(run.models)}
  charts, rows = [], []
  for task, split in labels.sets(run):
    for metric in ('pass@k', 'maj@k'):
      series, settings = [], set()
      for model in run.compared:
        found = _by_k(model, task, split, metric)
        if not found:
          continue
        one = plots.Series(
          name=labels.label(model.name),
          points=[labels.point(row['k'], row) for row in found],
          style=styles.get(model.name, labels.TEST),
        )
        if len(series) < plots.NUM_STYLES:  # more could not be told apart
          series.append(one)
        settings |= {
          f'{labels.at(row["temperature"])}, {row["num_samples"]} samples, '
          f'n = {row["n"]}'
          for row in found
        }
        name = labels.label(model.name)
        rows += [
          [f'{task}/{split}', name, metric, r['k'], labels.span(r), r['n']]
          for r in found
        ]
      if not series:
        continue
      ks = sorted({p.x for one in series for p in one.points})
      chart = plots.line_chart(
        f'{metric} on {task}/{split}',
        series,
        x=plots.Axis(label='k', log2=True, ticks=[(k, f'{k:g}') for k in ks]),
        y=plots.Axis(label=metric, percent=True),
      )
      charts.append(
        pages.panel(
          f'{metric}, {task}/{split}',
          '; '.join(sorted(settings)),
          chart,
          plots.legend(series),
        )
      )
  title = labels.title(run, 'Figure 2: pass@k and maj@k')
  if not charts:
    return pages.section(
      'pass-at-k',
      title,
      pages.absent(
        'No figure: no model was evaluated with several samples per problem '
        '(stream eval/sampled).'
      ),
    )
  text = (
    'pass@k is the unbiased estimate of solving a problem in k samples; maj@k '
    'that of a vote of k. Error bars: 95% bootstrap intervals.'
  )
  if len(run.compared) > plots.NUM_STYLES:
    text += (
      f' A chart shows {plots.NUM_STYLES} of the {len(run.compared)} '
      'checkpoints; the numbers below are of all.'
    )
  notes = pages.paragraph(text)
  header = ['set', 'model', 'metric', 'k', 'value', 'n']
  numbers = pages.folded(
    'Numbers', pages.table('pass@k and maj@k', header, rows)
  )
  return pages.section('pass-at-k', title, pages.panels(charts), notes, numbers)


def _by_k(model: run_results.Model, task: str, split: str, metric: str) -> list:
  rows = {
    row['k']: row
    for row in model.rows
    if (row['task'], row['split'], row['metric']) == (task, split, metric)
    and row['k']
    and row['value'] is not None
  }
  if metric == 'pass@k' and rows and 1 not in rows:
    one = model.row(task, split, 'pass@1')
    if one is not None:
      rows[1] = {**one, 'k': 1}
  return [rows[k] for k in sorted(rows)]


def classes(run: run_results.Run) -> str:
  """Figure 4: verdict classes by model."""
  groups = {}
  for model in run.models:
    for graded in labels.in_order(run, model.evaluation):
      how = f'{graded.task}/{graded.split}, {graded.stream}, '
      key = how + labels.at(graded.temperature)
      groups.setdefault(key, []).append(
        (labels.label(model.name), graded.outcomes)
      )
  for model in run.policies:
    for graded in model.e_step:
      heat = labels.at(graded.temperature)
      key = f'{graded.task}/{graded.split}, E-step, {heat}'
      name = f'{labels.sampler(model)}, for {labels.label(model.name)}'
      groups.setdefault(key, []).append((name, graded.outcomes))
  title = labels.title(run, 'Figure 4: verdict classes')
  if not groups:
    return pages.section(
      'classes', title, pages.absent('Nothing has been graded yet.')
    )
  seen = {name for g in groups.values() for _, counts in g for name in counts}
  styles = {k: v for k, v in labels.OUTCOME_STYLES.items() if k in seen}
  styles |= {name: 7 for name in sorted(seen - styles.keys())}
  key = [
    plots.Series(name=name, points=[], style=style)
    for name, style in styles.items()
  ]
  charts, rows = [], []
  for name, models in groups.items():
    chart = plots.stacked_bars(f'Verdict classes: {name}', models, styles)
    charts.append(pages.panel(name, 'n is a number of samples', chart))
    rows += [
      [name, model, *(counts.get(c, 0) for c in styles)]
      for model, counts in models
    ]
  numbers = pages.folded(
    'Numbers',
    pages.table('Samples by class', ['set', 'model', *styles], rows),
  )
  return pages.section(
    'classes',
    title,
    plots.legend(key, bars=True),
    pages.panels(charts),
    numbers,
  )


def all_results(run: run_results.Run) -> str:
  """Every row of results.json."""
  title = 'All results'
  rows = [
    [
      f'{row["task"]}/{row["split"]}',
      labels.label(model.name),
      row['metric'],
      '–' if row.get('k') is None else row['k'],
      '–' if row.get('temperature') is None else f'{row["temperature"]:g}',
      row['num_samples'],
      labels.span(row),
      row['n'],
      *(labels.percent(row.get(f'{name}_rate')) for name in _RATES),
    ]
    for model in run.models
    for row in model.rows
  ]
  if not rows:
    return pages.section(
      'results', title, pages.absent('There are no results yet.')
    )
  header = ['set', 'model', 'metric', 'k', 'T', 'samples', 'value', 'n']
  header += _RATES.values()
  caption = 'The rows of results.json; n counts problems'
  body = [pages.folded(f'{len(rows)} rows', pages.table(caption, header, rows))]
  parts = [
    [
      f'{row["task"]}/{row["split"]}',
      labels.label(model.name),
      row['metric'],
      row['by'],
      row.get('group', 'macro average'),
      labels.span(row),
      row['n'],
    ]
    for model in run.models
    for row in [*model.breakdown, *model.averages]
  ]
  if parts:
    header = ['set', 'model', 'metric', 'by', 'group', 'value', 'n']
    caption = 'pass@1 of the problems of each level and type'
    table = pages.table(caption, header, parts)
    body.append(pages.folded('By level and type', table))
  return pages.section('results', title, *body)
