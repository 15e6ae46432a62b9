"""Figure 3: success by how hard the base model finds a problem.

The bins come from the base model's own samples. What is compared within a bin
comes from other samples, so that a problem which the base solved once by luck
does not count as easy and as solved because of the same sample.
"""

from collections.abc import Iterator, Mapping

from rest_jax.artifacts import run_paths
from rest_jax.evaluation import difficulty_bins, results
from rest_jax.reporting import accuracy_charts, charts, formatting, run_data

# (name, text, least success rate), the hardest first.
BINS = [
  (name, name.replace('_', ' '), least)
  for name, least in reversed(difficulty_bins.BINS)
]


def by_difficulty(
  run: run_data.Run, bootstrap: Mapping[str, int]
) -> list[charts.Chart]:
  """Success of base and last iteration by bin, on test and on training sets.

  Args:
    run: what was read.
    bootstrap: {resamples, seed} of the intervals.
  """
  return [*_on_tests(run, bootstrap), *_on_training(run, bootstrap)]


def _on_tests(
  run: run_data.Run, bootstrap: Mapping[str, int]
) -> Iterator[charts.Chart]:
  """Greedy success on test sets; bins by the base's sampled stream."""
  base = run.model(run_paths.BASE)
  for sampled in run.streams_of(base) if base else ():
    if sampled.stream == run_paths.GREEDY or not sampled.temperature:
      continue
    rates = {}
    for model in filter(None, (base, run.final)):
      greedy = model.graded(sampled.task, sampled.split, run_paths.GREEDY)
      if greedy is not None:
        name = formatting.model_name(model.name)
        rates[f'{name}, greedy'] = greedy.rates()
    yield from _chart(sampled, 'test set, greedy', rates, bootstrap)


def _on_training(
  run: run_data.Run, bootstrap: Mapping[str, int]
) -> Iterator[charts.Chart]:
  """First and last E-step's success; bins by the stream `difficulty`."""
  for binned in run.difficulty:
    steps = [
      (model, graded)
      for model in run.policies
      for graded in model.e_step
      if (graded.task, graded.split) == (binned.task, binned.split)
    ]
    rates = {
      f'{formatting.model_name(model.sampled_model)}, '
      f'{formatting.temperature(graded.temperature)}': graded.rates()
      for model, graded in [*steps[:1], *steps[-1:]]
    }
    how = 'training problems, E-step samples'
    yield from _chart(binned, how, rates, bootstrap)


def _chart(
  binned: run_data.GradedStream,
  how: str,
  rates: Mapping[str, Mapping[str, float]],
  bootstrap: Mapping[str, int],
) -> Iterator[charts.Chart]:
  """The chart of one set, where any of its problems can be shown.

  Args:
    binned: the stream that decides the bins.
    how: how the problems were solved.
    rates: {model: {problem id: success rate}}.
    bootstrap: {resamples, seed}.
  """
  bin_of = {
    key: difficulty_bins.bin_of(rate) for key, rate in binned.rates().items()
  }
  series, sizes = [], [0] * len(BINS)
  for label, of_model in rates.items():
    points = []
    for index, (name, _, _) in enumerate(BINS):
      keys = [key for key in bin_of if bin_of[key] == name and key in of_model]
      if keys:
        found = results.estimate([of_model[key] for key in keys], **bootstrap)
        points.append(accuracy_charts.point(index, found))
        sizes[index] = found.n
    style = accuracy_charts.TEST if series else accuracy_charts.BASE
    series.append(charts.Series(name=label, points=points, style=style))
  if not any(sizes):
    return
  groups = [
    f'{text} ({n:,})' for (_, text, _), n in zip(BINS, sizes, strict=True)
  ]
  yield charts.Chart(
    title=f'{binned.task}/{binned.split}',
    detail=f'{how}; bins from {binned.num_samples or "the"} samples of the '
    f'base at {formatting.temperature(binned.temperature)}; n = '
    f'{len(binned.problems):,} problems',
    series=series,
    x=charts.Axis(
      label='difficulty for the base model (problems)',
      ticks=list(enumerate(groups)),
    ),
    y=charts.Axis(label='success', percent=True),
    bars=True,
  )
