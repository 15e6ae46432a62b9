"""The stage report: one HTML page and results.json of a run.

    RUN_DIR/**/manifest.json ─▶ RUN_DIR/report/{index.html, results.json}

Reads whatever the run has so far; what is missing becomes a sentence in the
page. results.json has no times in it: the same run gives the same file.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import (
  goodput,
  manifests,
  run_paths,
  stage_work,
  storage,
)
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.evaluation import comparison, results
from rest_jax.reporting import (
  accuracy_charts,
  difficulty_charts,
  group_tables,
  job_times,
  outcome_charts,
  page,
  run_data,
  run_facts,
  run_reader,
  run_samples,
  sample_browser,
  training_charts,
)

VERSION = 1
PAGE, RESULTS = 'index.html', 'results.json'
# Intervals that only the page shows; those in results.json are the stage
# evaluate's own.
PAGE_RESAMPLES = 2_000
# The sections of a run's page, {id and template: title}, and of a batch's.
RUN_SECTIONS = {
  'headline': 'Result',
  'progress': 'Figure 1: pass@1 by iteration',
  'pass-at-k': 'Figure 2: pass@k and maj@k',
  'difficulty': 'Figure 3: success by difficulty',
  'breakdown': 'By level and type',
  'classes': 'Figure 4: verdict classes',
  'kept': 'Figure 5: kept solutions per problem',
  'training': 'M-steps: loss and reward on D_val',
  'contamination': 'Contamination',
  'browser': 'Samples',
  'results': 'All results',
  'times': 'Time of each job',
  'configuration': 'Configuration',
}
BATCH_SECTIONS = {
  'checkpoints': 'Result',
  'breakdown': 'By level and type',
  'pass-at-k': 'pass@k and maj@k',
  'classes': 'Verdict classes',
  'browser': 'Samples',
  'results': 'All results',
  'times': 'Time of each job',
  'configuration': 'Configuration',
}


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
  with stage_work.work_on(
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
    bootstrap = bootstrap_of(found)
    differences = list(compare(run, **bootstrap))
    made = {
      key: [
        row
        for model in run.models
        for row in _ordered(model.results_json.get(key, ()))
      ]
      for key in ('rows', 'breakdown', 'averages')
    }
    made['comparisons'] = [dataclasses.asdict(one) for one in differences]
    text = render(run, found, differences, bootstrap)
    preemption.check('report')
    storage.write_json(folder / RESULTS, made)
    storage.write_bytes(folder / PAGE, text.encode())
    work.finish(content=manifests.digest_of(made))
  print(f'report: {len(made["rows"])} results, {folder / PAGE}')


def compare(
  run: run_data.Run, *, resamples: int, seed: int
) -> Iterator[results.Comparison]:
  """Paired differences of greedy pass@1: last iteration - base, and - SFT.

  Args:
    run: what was read.
    resamples: of the bootstrap over problems.
    seed: of the bootstrap.

  Yields:
    One per baseline, task and split that both models were graded on.
  """
  final = run.final
  for baseline in (run_paths.BASE, run_paths.SFT_HUMAN):
    other = run.model(baseline)
    for graded in final.evaluation if final and other else ():
      against = other.graded(graded.task, graded.split, graded.stream)
      if graded.stream != run_paths.GREEDY or against is None:
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
      yield results.Comparison(
        model=final.name,
        baseline=baseline,
        task=graded.task,
        split=graded.split,
        metric=results.GREEDY,
        difference=found.difference,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=found.n,
      )


def render(
  run: run_data.Run,
  found: run_data.Manifests,
  differences: Sequence[results.Comparison],
  bootstrap: Mapping[str, int],
  limits: sample_browser.Limits | None = None,
) -> str:
  """The static page as HTML, with the samples that it may hold.

  Args:
    run: what was read.
    found: the manifests that it was read from.
    differences: of `compare`.
    bootstrap: {resamples, seed} of the stage evaluate.
    limits: of the sample browser.
  """
  limits = limits or sample_browser.Limits()
  samples = run_samples.Samples(run, found)
  browser = sample_browser.browse(samples, limits)
  values = page_values(run, found, differences, bootstrap)
  return page.render(**values, browser=browser, limits=limits)


def page_values(
  run: run_data.Run,
  found: run_data.Manifests,
  differences: Sequence[results.Comparison],
  bootstrap: Mapping[str, int],
) -> dict[str, Any]:
  """What the page shows of a run, but for its samples; see `render`."""
  resamples = min(bootstrap['resamples'], PAGE_RESAMPLES)
  rough = {**bootstrap, 'resamples': resamples}
  sections = BATCH_SECTIONS if run.is_batch else RUN_SECTIONS
  if not run.compared_texts:
    sections = {k: v for k, v in sections.items() if k != 'contamination'}
  kind = 'Evaluation' if run.is_batch else 'ReST^EM run'
  return dict(
    title=f'{kind} {run.name}',
    lead=_lead(run),
    facts=run_facts.run_facts(run, found),
    sections=sections,
    run=run,
    differences=differences,
    progress=accuracy_charts.by_iteration(run, rough),
    pass_at_k=accuracy_charts.by_num_samples(run),
    difficulty=difficulty_charts.by_difficulty(run, rough),
    bins=difficulty_charts.BINS,
    groups=group_tables.group_tables(run),
    outcomes=outcome_charts.outcomes(run),
    kept=training_charts.kept_solutions(run),
    selection_counts=training_charts.selection_counts(run),
    training=training_charts.m_steps(run),
    shares=training_charts.rewards_are_shares(run),
    parts=[part for part in goodput.PARTS if part != 'steps'],
    times=job_times.job_times(run.seconds, run.rates),
  )


def _lead(run: run_data.Run) -> str:
  """The sentence below the title."""
  names = ', '.join(model.name for model in run.models) or 'none yet'
  if run.is_batch:
    return f'Evaluation of {len(run.models)} checkpoints: {names}.'
  count = max((model.iteration for model in run.policies), default=0)
  tasks = ', '.join(run.training_tasks) or 'nothing yet'
  return (
    f'ReST^EM, {count} iteration{"" if count == 1 else "s"}; trained on: '
    f'{tasks}; models: {names}.'
  )


def bootstrap_of(found: run_data.Manifests) -> dict[str, int]:
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
