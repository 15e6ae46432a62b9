"""Figure 5 and the M-steps: kept solutions, loss, and reward on D_val."""

import re
from collections.abc import Sequence

from rest_jax.reporting import charts, formatting, run_data

_MAX_POINTS = 300  # of a curve; more would not be seen
_MAX_BARS = 16
_STYLES = (0, 1, 2, 3, 4, 5, 7)  # of iterations; 6 is that of the base
# The columns of the table of selections, those of the usual statistics first.
_COUNTS = (
  'problems',
  'samples',
  'correct',
  'unique',
  'solved_problems',
  'kept',
  'target_tokens',
  'mean_target_tokens',
  'weight_sum',
)


def kept_solutions(run: run_data.Run) -> list[charts.Chart]:
  """Figure 5: problems by their number of kept solutions, a chart per task."""
  kept = {}  # {task: {model: {number of kept solutions: number of problems}}}
  for model in run.policies:
    if model.iteration and model.selection:
      for task, counts in model.selection.kept_per_problem.items():
        kept.setdefault(task, {})[model.name] = counts
  made = []
  for task, of_task in kept.items():
    bars = _bars(max(max(counts) for counts in of_task.values()))
    problems = sum(list(of_task.values())[-1].values())
    names = [f'{b[0]}' if len(b) == 1 else f'{b[0]}–{b[-1]}' for b in bars]
    made.append(
      charts.Chart(
        title=task,
        detail=f'n = {problems:,} training problems in each iteration',
        series=[
          charts.Series(
            name=formatting.model_name(model),
            points=[
              charts.Point(
                x=x,
                y=sum(counts.get(size, 0) for size in sizes),
                note=f'of {problems:,} problems',
              )
              for x, sizes in enumerate(bars)
            ],
            style=_STYLES[index % len(_STYLES)],
          )
          for index, (model, counts) in enumerate(of_task.items())
        ],
        x=charts.Axis(
          label='kept solutions of a problem', ticks=list(enumerate(names))
        ),
        y=charts.Axis(label='problems'),
        bars=True,
      )
    )
  return made


def selection_counts(run: run_data.Run) -> list[str]:
  """The names of what select counted, in the order of the table."""
  known = {
    name for m in run.models if m.selection for name in m.selection.counts
  }
  return [n for n in _COUNTS if n in known] + sorted(known - {*_COUNTS})


def m_steps(run: run_data.Run) -> list[list[charts.Chart]]:
  """For each trained model: its losses, and its rewards on D_val, by step."""
  made = [_m_step(m.name, m.m_step) for m in run.models if m.m_step is not None]
  return [several for several in made if several]


def _m_step(model: str, m_step: run_data.MStep) -> list[charts.Chart]:
  marks, detail, step = [], '', m_step.chosen_step
  if step is not None:
    marks = [(step, f'chosen: step {step:,}')]
    detail = f'dashed: the chosen step {step:,}'
    if m_step.learning_rate is not None:
      detail += f', learning rate {formatting.number(m_step.learning_rate)}'
  losses = {one.name: one.losses for one in m_step.trainings}
  rewards = {one.name: one.rewards for one in m_step.trainings}
  is_share = all(0 <= y <= 1 for pairs in rewards.values() for _, y in pairs)
  name = formatting.model_name(model)
  return [
    charts.Chart(
      title=f'{name}: {title}',
      detail=detail,
      series=series,
      x=charts.Axis(label='step'),
      y=axis,
      legend=len(series) > 1,
      verticals=marks,
    )
    for title, axis, series in (
      ('loss', charts.Axis(label='loss'), _curves(losses, markers=False)),
      (
        'D_val',
        charts.Axis(label='reward on D_val', percent=is_share),
        _curves(rewards, markers=True),
      ),
    )
    if series
  ]


def _curves(
  curves: dict[str, Sequence[tuple[int, float]]], *, markers: bool
) -> list[charts.Series]:
  """A series per training that has any values, by the training's folder."""
  made = []
  for style, (folder, pairs) in enumerate(curves.items()):
    name = re.sub('^lr_', 'learning rate ', folder) or 'training'
    pairs = charts.thinned(pairs, _MAX_POINTS)
    points = [charts.Point(x=x, y=y) for x, y in pairs]
    if points:
      made.append(
        charts.Series(name=name, points=points, style=style, markers=markers)
      )
  return made


def _bars(largest: int) -> list[range]:
  """Bars 0, 1, 2, …; ranges of numbers where there would be too many."""
  width = max(1, -(-largest // _MAX_BARS))
  starts = range(1, largest + 1, width)
  return [range(1), *(range(a, min(a + width, largest + 1)) for a in starts)]
