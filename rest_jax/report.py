"""The stage report: one HTML page and results.json of a run.

    RUN_DIR/**/manifest.json ─▶ RUN_DIR/report/{index.html, results.json}

Reads whatever the run has so far; what is missing becomes a sentence in the
page. results.json has no times in it: the same run gives the same file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.evaluation import comparison
from rest_jax.reporting import (
  breakdown,
  contamination,
  difficulty,
  figures,
  headline,
  pages,
  run_history,
  run_reader,
  run_results,
  sample_browser,
)

VERSION = 1
PAGE, RESULTS = 'index.html', 'results.json'
# Intervals that only the page shows; those in results.json are the stage
# evaluate's own.
PAGE_RESAMPLES = 2_000


@configuration.checked
def report(*, run_dir: str) -> None:
  """Writes RUN_DIR/report/index.html and RUN_DIR/report/results.json.

  Args:
    run_dir: the run's folder.

  Raises:
    ConfigurationError: there is no such folder.
    CorruptPartError: a part was edited or damaged.
  """
  preemption.watch()
  if not storage.path(run_dir).exists():
    raise configuration.ConfigurationError(
      f'{run_dir}: there is no such run. Set RUN_DIR to the folder of one.'
    )
  folder = storage.path(run_dir) / 'report'
  found = run_reader.find(run_dir)
  with manifests.work_on(
    folder,
    stage='report',
    kind=None,
    semantic={},
    inputs=found
    | {'overlap': manifests.digest_of(run_reader.overlap(run_dir))},
    version=VERSION,
  ) as work:
    if work.done and all((folder / n).exists() for n in (PAGE, RESULTS)):
      print(f'report: already done, {folder / PAGE}')
      return
    preemption.check('report')
    run = run_reader.read(run_dir, found)
    bootstrap = _bootstrap(found)
    results = {
      'rows': [row for model in run.models for row in _ordered(model.rows)],
      'breakdown': [
        row for model in run.models for row in _ordered(model.breakdown)
      ],
      'averages': [
        row for model in run.models for row in _ordered(model.averages)
      ],
      'comparisons': compare(run, **bootstrap),
    }
    text = page(run, found, results['comparisons'], bootstrap)
    preemption.check('report')
    storage.write_json(folder / RESULTS, results)
    storage.write_bytes(folder / PAGE, text.encode())
    work.finish(content=manifests.digest_of(results))
  print(f'report: {len(results["rows"])} results, {folder / PAGE}')


def compare(
  run: run_results.Run, *, resamples: int, seed: int
) -> list[dict[str, Any]]:
  """Paired differences of greedy accuracy: final - base, final - sft_human.

  Returns:
    A row per baseline, task and split that both models were graded on: model,
    baseline, task, split, metric, difference, ci_low, ci_high (fractions) and
    n, the number of problems in both.
  """
  rows, final = [], run.final
  for baseline in ('base', 'sft_human'):
    other = run.model(baseline)
    if other is None or final is None:
      continue
    for graded in final.evaluation:
      against = other.graded(graded.task, graded.split, graded.stream)
      if graded.stream != 'eval/greedy' or against is None:
        continue
      if not graded.rates().keys() & against.rates().keys():
        continue
      found = comparison.paired_difference(
        graded.folder,
        against.folder,
        graded.stream,
        resamples=resamples,
        seed=seed,
      )
      rows.append(
        {
          'model': final.name,
          'baseline': baseline,
          'task': graded.task,
          'split': graded.split,
          'metric': run_results.GREEDY,
          **{k: found[k] for k in ('difference', 'ci_low', 'ci_high', 'n')},
        }
      )
  return rows


def page(
  run: run_results.Run,
  found: run_results.Found,
  differences: Sequence[Mapping[str, Any]],
  bootstrap: Mapping[str, int],
  limits: sample_browser.Limits | None = None,
) -> str:
  """The whole page as HTML."""
  resamples = min(bootstrap['resamples'], PAGE_RESAMPLES)
  rough = {**bootstrap, 'resamples': resamples}
  sections = [
    *_results_sections(run, differences, rough),
    sample_browser.section(run, found, limits or sample_browser.Limits()),
    figures.all_results(run),
    run_history.times(run),
    run_history.configuration(run),
  ]
  title = f'{"Evaluation" if run.is_batch else "ReST^EM run"} {run.name}'
  return pages.page(title, _subtitle(run), [text for text in sections if text])


def _subtitle(run: run_results.Run) -> str:
  if run.is_batch:
    names = ', '.join(model.name for model in run.models)
    return f'Evaluation of {len(run.models)} checkpoints: {names}.'
  iterations = max((m.iteration for m in run.policies), default=0)
  return (
    f'ReST^EM, {iterations} iteration{"" if iterations == 1 else "s"}; '
    f'trained on: {", ".join(run.training_tasks) or "nothing yet"}; '
    f'models: {", ".join(m.name for m in run.models) or "none yet"}.'
  )


def _results_sections(
  run: run_results.Run,
  differences: Sequence[Mapping[str, Any]],
  bootstrap: Mapping[str, int],
) -> list[str]:
  """What came of it; a batch of checkpoints has no iterations to show."""
  if run.is_batch:
    return [
      headline.batch(run),
      breakdown.section(run),
      figures.many_samples(run),
      figures.classes(run),
    ]
  return [
    headline.section(run, differences),
    figures.progress(run, bootstrap),
    figures.many_samples(run),
    difficulty.section(run, bootstrap),
    breakdown.section(run),
    figures.classes(run),
    run_history.kept(run),
    run_history.training(run),
    contamination.section(run),
  ]


def _bootstrap(found: run_results.Found) -> dict[str, int]:
  """The bootstrap that the stage evaluate was told to use."""
  for key, manifest in found.items():
    semantic = manifest.fingerprint['semantic']
    if key.endswith('/evaluation/results'):
      return {
        'resamples': semantic.get('bootstrap_resamples', 10_000),
        'seed': semantic.get('seed', 0),
      }
  return {'resamples': 10_000, 'seed': 0}


def _ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  """By task, split, metric and k, whatever order they were written in."""
  return sorted(
    rows,
    key=lambda row: (
      row['task'],
      row['split'],
      row['metric'],
      row['k'] or 0,
      *(str(row[key]) for key in sorted(row)),
    ),
  )
