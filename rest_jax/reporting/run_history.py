"""How the run went: kept solutions, M-steps, times, configuration."""

from collections.abc import Sequence
from typing import Any

from rest_jax.reporting import labels, pages, plots, run_results

MAX_POINTS = 300  # of a curve; more would not be seen
MAX_BARS = 16
_ITERATION_STYLES = (0, 1, 2, 3, 4, 5, 7)
_JOBS = (
  'sample',
  'score',
  'select',
  'train',
  'sample_difficulty',
  'score_difficulty',
  'sample_eval',
  'score_eval',
  'evaluate',
)


def kept(run: run_results.Run) -> str:
  """Figure 5: how many solutions were kept of each problem, by iteration."""
  title = 'Figure 5: kept solutions per problem'
  iterations = [m for m in run.policies if m.iteration and m.kept]
  tasks = list(dict.fromkeys(t for m in iterations for t in m.kept))
  charts, rows = [], []
  for task in tasks:
    have = [m for m in iterations if m.kept.get(task)]
    edges = _edges(max(max(m.kept[task]) for m in have))
    names = [f'{a}' if a == b else f'{a}–{b}' for a, b in edges]
    series = []
    for model in have:
      counts = [
        sum(n for size, n in model.kept[task].items() if a <= size <= b)
        for a, b in edges
      ]
      problems = sum(counts)
      series.append(
        plots.Series(
          name=labels.label(model.name),
          points=[
            plots.Point(x=i, y=n, note=f'of {problems} problems')
            for i, n in enumerate(counts)
          ],
          style=_ITERATION_STYLES[
            (model.iteration - 1) % len(_ITERATION_STYLES)
          ],
        )
      )
      rows.append([task, labels.label(model.name), problems, *counts])
    chart = plots.bar_chart(
      f'Kept solutions per problem, {task}',
      names,
      series,
      x=plots.Axis(label='kept solutions of a problem'),
      y=plots.Axis(label='problems'),
    )
    small = f'n = {rows[-1][2]:,} training problems in each iteration'
    legend = plots.legend(series, bars=True)
    charts.append(pages.panel(task, small, chart, legend))
    header = ['task', 'model', 'n', *names]
  body = []
  if charts:
    numbers = pages.table('Problems by number of kept solutions', header, rows)
    body += [pages.panels(charts), pages.folded('Numbers', numbers)]
  else:
    body.append(pages.absent('No figure: no iteration has selected yet.'))
  body.append(_selection(run))
  return pages.section('kept', title, *body)


def training(run: run_results.Run) -> str:
  """The M-steps: loss and reward on D_val by step."""
  body, rows, points = [], [], []
  for model in run.models:
    if model.training is None:
      continue
    charts = []
    statistics = model.training.statistics
    chosen = statistics.get('chosen_step')
    rate = statistics.get('learning_rate')
    name = labels.label(model.name)
    reward = statistics.get('reward')
    rows.append([name, _plain(rate), _plain(chosen), _plain(reward)])
    marks, small = [], ''
    if chosen is not None:
      marks = [(chosen, f'chosen: step {chosen}')]
      small = f'dashed: the chosen step {chosen:,}'
      small += '' if rate is None else f', learning rate {rate:g}'
    losses = _losses(model.training)
    if losses:
      charts.append(_chart(f'{name}: loss', small, losses, 'loss', marks))
      points += _numbers(name, 'loss', losses)
    rewards = _rewards(model.training)
    if rewards:
      charts.append(
        _chart(f'{name}: D_val', small, rewards, 'reward on D_val', marks)
      )
      points += _numbers(name, 'reward on D_val', rewards)
    body += [pages.panels(charts)] if charts else []
  title = 'M-steps: loss and reward on D_val'
  if not rows:
    absent = pages.absent('No figure: nothing has been trained in this run.')
    return pages.section('training', title, absent)
  if not body:
    body.append(pages.absent('The training jobs have left no metrics.'))
  header = ['model', 'learning rate', 'chosen step', 'reward on D_val']
  body.append(pages.table('M-steps', header, rows))
  body.append(
    pages.folded(
      'Numbers',
      pages.table('Curves', ['model', 'what', 'curve', 'step', ''], points),
    )
  )
  return pages.section('training', title, *body)


def times(run: run_results.Run) -> str:
  """How long each job took."""
  title = 'Time of each job'
  if not run.seconds:
    absent = pages.absent('The launcher has left no record of its jobs.')
    return pages.section('times', title, absent)
  total = sum(run.seconds.values())
  rows = [
    [name, f'{seconds:,.1f}', f'{100 * seconds / max(total, 1e-9):.0f}%']
    for name, seconds in sorted(run.seconds.items(), key=_job_order)
  ]
  rows.append(['total', f'{total:,.1f}', '100%'])
  return pages.section(
    'times',
    title,
    pages.table('Seconds of wall clock', ['job', 'seconds', 'share'], rows),
    pages.paragraph(
      'As the launcher recorded them when this page was made; the job that '
      'made the page is not among them.',
      'quiet',
    ),
  )


def configuration(run: run_results.Run) -> str:
  """config.gin, folded."""
  title = 'Configuration'
  if not run.config:
    absent = pages.absent("There is no config.gin in the run's folder.")
    return pages.section('configuration', title, absent)
  text = f'<pre tabindex="0">{pages.escape(run.config)}</pre>'
  return pages.section('configuration', title, pages.folded('config.gin', text))


def _selection(run: run_results.Run) -> str:
  """The plain numbers among the statistics of select, by model."""
  models = [m for m in run.models if m.selection]
  keys = list(
    dict.fromkeys(
      key
      for model in models
      for key, value in model.selection.items()
      if isinstance(value, (int, float)) and not isinstance(value, bool)
    )
  )
  if not keys:
    return ''
  rows = [
    [labels.label(m.name), *(_plain(m.selection.get(k)) for k in keys)]
    for m in models
  ]
  header = ['model', *(key.replace('_', ' ') for key in keys)]
  return pages.table('What the stage select counted', header, rows)


def _edges(largest: int) -> list[tuple[int, int]]:
  """Bars 0, 1, 2, ...; ranges where there would be too many."""
  width = max(1, -(-largest // MAX_BARS))
  starts = range(1, largest + 1, width)
  return [(0, 0), *((a, min(a + width - 1, largest)) for a in starts)]


def _losses(done: run_results.Training) -> list[plots.Series]:
  """The loss of each training of the grid, per target token if logged."""
  result = []
  for name, lines in done.curves.items():
    values = [
      (line['step'], line.get('token_loss', line.get('loss')))
      for line in lines
      if isinstance(line.get('token_loss', line.get('loss')), (int, float))
    ]
    if values:
      result.append((_training_name(name), values))
  return _as_series(result, markers=False)


def _rewards(done: run_results.Training) -> list[plots.Series]:
  """D_val by step, from the manifest, which has every validation."""
  trainings = done.statistics.get('trainings') or [done.statistics]
  result = []
  for training in trainings:
    values = [tuple(pair) for pair in training.get('validations') or ()]
    if values:
      result.append((_training_name(training.get('folder', '')), values))
  return _as_series(result, markers=True)


def _training_name(folder: str) -> str:
  if folder.startswith('lr_'):
    return f'learning rate {folder.removeprefix("lr_")}'
  return folder or 'training'


def _as_series(
  curves: Sequence[tuple[str, Sequence[tuple[float, float]]]], *, markers: bool
) -> list[plots.Series]:
  result = []
  for style, (name, values) in enumerate(curves):
    stride = -(-len(values) // MAX_POINTS)
    values = [*values[:-1][::stride], values[-1]]
    result.append(
      plots.Series(
        name=name,
        points=[plots.Point(x=x, y=y) for x, y in values],
        style=style,
        markers=markers,
      )
    )
  return result


def _chart(
  title: str,
  small: str,
  series: Sequence[plots.Series],
  what: str,
  marks: Sequence[tuple[float, str]],
) -> str:
  y = plots.Axis(label=what, percent=what.startswith('reward'))
  if y.percent and any(p.y > 1 for one in series for p in one.points):
    y = plots.Axis(label=what)  # rewards need not be 0 or 1
  chart = plots.line_chart(
    title, series, x=plots.Axis(label='step'), y=y, verticals=marks
  )
  legend = plots.legend(series) if len(series) > 1 else ''
  return pages.panel(title, small, chart, legend)


def _numbers(
  model: str, what: str, series: Sequence[plots.Series]
) -> list[list[Any]]:
  """At most 25 rows per curve: the shape, for those who cannot see it."""
  rows = []
  for one in series:
    stride = -(-len(one.points) // 25)
    shown = [*one.points[:-1][::stride], one.points[-1]]
    rows += [[model, what, one.name, _plain(p.x), _plain(p.y)] for p in shown]
  return rows


def _plain(value: Any) -> str:
  if value is None:
    return '–'
  return f'{value:.4g}' if isinstance(value, float) else f'{value:,}'


def _job_order(item: tuple[str, float]) -> tuple:
  """The order in which the plan runs them."""
  group, _, stage = item[0].partition('/')
  groups = ('prepare', 'base', 'sft_human', 'iteration')
  rank = [i for i, name in enumerate(groups) if group.startswith(name)]
  place = _JOBS.index(stage) if stage in _JOBS else len(_JOBS)
  return (*(rank or [len(groups)]), group, place, stage)
