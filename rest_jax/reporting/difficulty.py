"""Figure 3: success by how hard the base model finds a problem."""

from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.evaluation import difficulty_bins
from rest_jax.reporting import labels, pages, plots, run_results

# (problem set, what is shown and how many, base's rates, model -> its rates)
Panel = tuple[str, str, Mapping[str, float], Mapping[str, Mapping[str, float]]]
_NAMES = [name for name, _ in reversed(difficulty_bins.BINS)]  # hardest first
_LABELS = [name.replace('_', ' ') for name in _NAMES]


def section(run: run_results.Run, bootstrap: Mapping[str, int]) -> str:
  """Success of base and final by difficulty bin, on test and on training.

  The bins come from the base model's own samples; what is compared within a
  bin comes from other samples, so that a problem which was lucky once does not
  count as easy and solved by the same luck.
  """
  charts, rows = [], []
  for panel in [*_tests(run), *_trains(run)]:
    chart, more = _panel(*panel, bootstrap)
    charts += chart
    rows += more
  title = 'Figure 3: success by difficulty'
  if not charts:
    return pages.section(
      'difficulty',
      title,
      pages.absent(
        'No figure: the run has neither a difficulty stream '
        '(DIFFICULTY_SAMPLES = 0) nor several samples per test problem of the '
        'base model.'
      ),
    )
  least = [
    f'{_LABELS[_NAMES.index(n)]} from {100 * a:.0f}%'
    for n, a in reversed(difficulty_bins.BINS)
  ]
  notes = pages.paragraph(
    "Bins by the base model's own success rate: "
    + ', '.join(least)
    + '. Error bars: 95% bootstrap intervals over the problems of the bin; '
    'where there is no bar, no problem falls into the bin.'
  )
  header = ['set', 'model', 'bin', 'success', 'n']
  numbers = pages.folded('Numbers', pages.table('By difficulty', header, rows))
  return pages.section(
    'difficulty', title, pages.panels(charts), notes, numbers
  )


def _panel(
  name: str,
  small: str,
  rates: Mapping[str, float],
  models: Mapping[str, Mapping[str, float]],
  bootstrap: Mapping[str, int],
) -> tuple[list[str], list[list[Any]]]:
  """([chart] or [], rows of the table)."""
  series, rows, sizes = [], [], [0] * len(_NAMES)
  for index, (label, values) in enumerate(models.items()):
    points = []
    for number, members in enumerate(_binned(rates, values)):
      if not members:
        continue
      row = labels.mean(members, bootstrap)
      sizes[number] = row['n']
      points.append(labels.point(number, row))
      rows.append([name, label, _LABELS[number], labels.span(row), row['n']])
    style = labels.TEST if index else labels.BASE
    series.append(plots.Series(name=label, points=points, style=style))
  if not rows:
    return [], []
  chart = plots.bar_chart(
    f'Success by difficulty, {name}',
    [f'{a} ({n})' for a, n in zip(_LABELS, sizes, strict=True)],
    series,
    x=plots.Axis(label='difficulty for the base model (problems)'),
    y=plots.Axis(label='success', percent=True),
  )
  return [
    pages.panel(name, small, chart, plots.legend(series, bars=True))
  ], rows


def _tests(run: run_results.Run) -> list[Panel]:
  """Greedy success on each test set, in bins by the base's sampled stream."""
  base, result = run.model('base'), []
  for sampled in labels.in_order(run, base.evaluation if base else ()):
    if sampled.stream == 'eval/greedy' or not sampled.temperature:
      continue
    models = {}
    for model in filter(None, (base, run.final)):
      greedy = model.graded(sampled.task, sampled.split, 'eval/greedy')
      if greedy is not None:
        models[f'{labels.label(model.name)}, greedy'] = greedy.rates()
    small = f'test set, greedy; {_bins_from(sampled)}'
    name = f'{sampled.task}/{sampled.split}'
    result.append((name, small, sampled.rates(), models))
  return result


def _trains(run: run_results.Run) -> list[Panel]:
  """E-step success on training problems, in bins by the stream difficulty."""
  result = []
  for asked in run.difficulty:
    steps = [
      (model, graded)
      for model in run.policies
      for graded in model.e_step
      if (graded.task, graded.split) == (asked.task, asked.split)
    ]
    models = {
      f'{labels.sampler(model)}, {labels.at(graded.temperature)}': (
        graded.rates()
      )
      for model, graded in [*steps[:1], *steps[-1:]]
    }
    small = f'training problems, E-step samples; {_bins_from(asked)}'
    name = f'{asked.task}/{asked.split}'
    result.append((name, small, asked.rates(), models))
  return result


def _bins_from(graded: run_results.Graded) -> str:
  drawn = graded.num_samples or 'the'
  return (
    f'bins from {drawn} samples of the base at '
    f'{labels.at(graded.temperature)}; n = {len(graded.problems):,} problems'
  )


def _binned(
  rates: Mapping[str, float], values: Mapping[str, float]
) -> list[Sequence[float]]:
  members = {name: [] for name in _NAMES}
  for key, rate in rates.items():
    if key in values:
      members[difficulty_bins.bin_of(rate)].append(values[key])
  return list(members.values())
