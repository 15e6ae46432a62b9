"""Figure 5 and the M-steps: kept solutions, loss, and reward on D_val."""

import re
from collections.abc import Mapping

from rest_jax.artifacts import run_paths
from rest_jax.reporting import (
  accuracy_charts,
  charts,
  formatting,
  m_step_data,
  run_data,
)

_MAX_POINTS = 300  # of a curve; more would not be seen
_MAX_BARS = 16
_STYLES = (0, 2, 3, 4, 5, 7)  # of iterations; others: SFT and base
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
  """Losses and rewards on D_val by step: groups of charts that belong together.

  Returns:
    All M-steps in one pair of charts, a curve for the chosen learning rate of
    each; the base's pretraining, which has many more steps; then the learning
    rates of each M-step that tried several.
  """
  chosen, pretrained, grids = {}, {}, []
  for model in run.models:
    if model.m_step is None or model.m_step.chosen is None:
      continue
    name, place = formatting.model_name(model.name), chosen
    if model.name == run_paths.BASE:
      place = pretrained
    place[name] = (model.m_step, model.m_step.chosen, _style(model))
    if len(model.m_step.trainings) > 1:
      rates = {
        re.sub('^lr_', 'learning rate ', one.name): (model.m_step, one, style)
        for style, one in enumerate(model.m_step.trainings)
      }
      grids.append((f'{name}: ', rates))
  shares = rewards_are_shares(run)
  every = [('', chosen), ('pretraining: ', pretrained), *grids]
  made = [pair(title, curves, shares) for title, curves in every]
  return [one for one in made if one]


def rewards_are_shares(run: run_data.Run) -> bool:
  """Whether all rewards on D_val lie in 0..1 and are shown as percentages."""
  trainings = [t for m in run.models if m.m_step for t in m.m_step.trainings]
  return all(0 <= y <= 1 for one in trainings for _, y in one.rewards)


def _style(model: run_data.Model) -> int:
  """The colour of a model's curve, the same as in the other charts."""
  if model.iteration is None:
    return accuracy_charts.SFT
  if not model.iteration:
    return accuracy_charts.BASE
  return _STYLES[(model.iteration - 1) % len(_STYLES)]


# {name of the curve: (M-step, training, number of its colour)}
Curves = Mapping[str, tuple[m_step_data.MStep, m_step_data.Training, int]]


def pair(title: str, curves: Curves, shares: bool) -> list[charts.Chart]:
  """The chart of the losses and that of D_val, those that have a point."""

  def series(values: str, *, marked: bool) -> list[charts.Series]:
    made = []
    for name, (m_step, training, style) in curves.items():
      chosen = m_step.chosen_step if training is m_step.chosen else None
      points = [
        charts.Point(x=x, y=y, ringed=marked and x == chosen)
        for x, y in charts.thinned(getattr(training, values), _MAX_POINTS)
      ]
      if points:
        one = charts.Series(
          name=name, points=points, style=style, markers=marked
        )
        made.append(one)
    return made

  return [
    charts.Chart(
      title=f'{title}{what}',
      detail=detail,
      series=curves_of,
      x=charts.Axis(label='step'),
      y=axis,
    )
    for what, detail, axis, curves_of in (
      (
        'loss',
        'per target token',
        charts.Axis(label='loss'),
        series('losses', marked=False),
      ),
      (
        'D_val',
        'mean reward; a ring marks the chosen step',
        charts.Axis(label='reward on D_val', percent=shares),
        series('rewards', marked=True),
      ),
    )
    if curves_of
  ]


def _bars(largest: int) -> list[range]:
  """Bars 0, 1, 2, …; ranges of numbers where there would be too many."""
  width = max(1, -(-largest // _MAX_BARS))
  starts = range(1, largest + 1, width)
  return [range(1), *(range(a, min(a + width, largest + 1)) for a in starts)]
