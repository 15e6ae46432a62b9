"""Figures 1 and 2: pass@1 by iteration, and pass@k and maj@k by k."""

import dataclasses
from collections.abc import Iterator, Mapping

from rest_jax.artifacts import run_paths
from rest_jax.evaluation import results
from rest_jax.reporting import charts, formatting, run_data

# A model or a kind of sample has the same colour in every chart.
TEST, SFT, TRAIN, BASE = 0, 1, 2, 6


def point(x: float, estimate: results.Estimate) -> charts.Point:
  """An estimate as a point of a chart."""
  return charts.Point(
    x=x,
    y=estimate.value,
    low=estimate.ci_low,
    high=estimate.ci_high,
    note=f'n = {estimate.n:,}',
  )


def by_iteration(
  run: run_data.Run, bootstrap: Mapping[str, int]
) -> list[charts.Chart]:
  """Figure 1: train and test pass@1 by iteration, SFT as a horizontal line.

  Args:
    run: what was read.
    bootstrap: {resamples, seed} of the intervals of the train curve.

  Returns:
    A chart per test set.
  """
  last = max((model.iteration for model in run.policies), default=0)
  made = []
  for task, split in run.evaluated:
    curves = list(_curves(run, task, split, bootstrap))
    if curves:
      ticks = [(i, str(i) if i else 'base') for i in range(last + 1)]
      made.append(
        charts.Chart(
          title=f'{task}/{split}',
          detail='; '.join(
            [run.role(task), *(text for text, _ in curves if text)]
          ),
          series=[one for _, one in curves],
          x=charts.Axis(label='iteration', ticks=ticks),
          y=charts.Axis(label='pass@1', percent=True),
        )
      )
  return made


def _curves(
  run: run_data.Run, task: str, split: str, bootstrap: Mapping[str, int]
) -> Iterator[tuple[str, charts.Series]]:
  """(what it was measured on, curve) of test, train and SFT, if known."""
  test = {
    model.iteration: found
    for model in run.policies
    if (found := model.result(task, split))
  }
  if test:
    n = list(test.values())[-1].n
    detail = f'test: split {split}, greedy, n = {n:,}'
    yield detail, _series('test', test, TEST)
  # The samples of iteration i come from the model of iteration i - 1.
  drawn = {
    model.iteration - 1: graded
    for model in run.policies
    for graded in model.e_step
    if graded.task == task and graded.rates()
  }
  if drawn:
    graded = list(drawn.values())[-1]
    detail = (
      f'train: split {graded.split}, '
      f'{formatting.temperature(graded.temperature)}, '
      f'n = {len(graded.rates()):,} × {graded.num_samples or "?"} samples'
    )
    train = {
      i: results.estimate([*graded.rates().values()], **bootstrap)
      for i, graded in drawn.items()
    }
    yield detail, _series('train', train, TRAIN)
  sft = run.model(run_paths.SFT_HUMAN)
  if sft and (found := sft.result(task, split)):
    name = f'{formatting.model_name(sft.name)}, test'
    yield '', _series(name, {0: found}, SFT, horizontal=True)


def by_num_samples(run: run_data.Run) -> list[charts.Chart]:
  """Figure 2: pass@k and maj@k of the compared models, by k."""
  styles = {run_paths.BASE: BASE, run_paths.SFT_HUMAN: SFT}
  if run.is_batch:
    styles = {model.name: i for i, model in enumerate(run.models)}
  made = []
  for task, split in run.evaluated:
    for metric in ('pass@k', 'maj@k'):
      found = {
        model.name: by_k
        for model in run.compared
        if (by_k := _by_k(model, task, split, metric))
      }
      if not found:
        continue
      # More lines than there are styles could not be told apart.
      names = list(found)[: charts.NUM_STYLES]
      shown = [one for name in names for one in found[name].values()]
      settings = {
        f'{formatting.temperature(one.temperature)}, {one.num_samples} '
        f'samples, n = {one.n:,}'
        for one in shown
      }
      ks = sorted({one.k for one in shown})
      made.append(
        charts.Chart(
          title=f'{metric}, {task}/{split}',
          detail='; '.join(sorted(settings)),
          series=[
            _series(
              formatting.model_name(name), found[name], styles.get(name, TEST)
            )
            for name in names
          ],
          x=charts.Axis(label='k', log2=True, ticks=[(k, f'{k}') for k in ks]),
          y=charts.Axis(label=metric, percent=True),
        )
      )
  return made


def _series(
  name: str,
  estimates: Mapping[float, results.Estimate],
  style: int,
  horizontal: bool = False,
) -> charts.Series:
  points = [point(x, one) for x, one in estimates.items()]
  return charts.Series(
    name=name, points=points, style=style, horizontal=horizontal
  )


def _by_k(
  model: run_data.Model, task: str, split: str, metric: str
) -> dict[int, results.Result]:
  """The model's results of a metric by k; pass@k begins with pass@1."""
  found = {
    one.k: one
    for one in model.rows
    if (one.task, one.split, one.metric) == (task, split, metric)
    and one.k
    and one.value is not None
  }
  first = model.result(task, split, 'pass@1')
  if metric == 'pass@k' and found and first is not None:
    found.setdefault(1, dataclasses.replace(first, k=1))
  return dict(sorted(found.items()))
