"""The stage evaluate: pass@1, pass@k and maj@k with intervals, per task.

    verdicts ─▶ results.json

results.json holds rows (a number each, with the rates of the verdict classes
beside it) and a breakdown of pass@1 by level and type with the averages over
the groups. It holds no times: the same samples give the same file.
docs/evaluation.md describes it.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np

from rest_jax.artifacts import manifests, run_paths, stage_work, storage
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.evaluation import grouping, metrics, results
from rest_jax.models.checkpoints import trained
from rest_jax.rewards import verdicts

_VERSION = 2
RESULTS = 'results.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
  """The folders that one set of verdicts is evaluated with.

  Attributes:
    verdicts: of the stage score.
    samples: what these are the verdicts of.
    problems: what was sampled; None: no breakdown by level and type.
  """

  verdicts: manifests.Manifest
  samples: manifests.Manifest
  problems: manifests.Manifest | None

  @property
  def name(self) -> dict[str, str]:
    """{'task': …, 'split': …} of its problems."""
    statistics = self.verdicts.statistics
    return {'task': statistics['task'], 'split': statistics['split']}

  def sampling(self, stream: str) -> dict[str, float | int]:
    """{'temperature': …, 'num_samples': …} of one stream of the verdicts."""
    drawn = self.samples.fingerprint['semantic']
    known = drawn['stream']['name']
    if stream != known:
      raise configuration.ConfigurationError(
        f'{self.samples.folder}: its manifest does not list the stream '
        f'{stream!r} that {self.verdicts.folder} has verdicts of (it lists '
        f'{known!r}). Run sample and score again.'
      )
    return {
      'temperature': drawn['stream']['temperature'],
      'num_samples': drawn['num_samples'],
    }


@configuration.checked
def evaluate(
  *,
  verdicts_dirs: Sequence[str],
  samples_dirs: Sequence[str],
  results_dir: str,
  model_name: str,
  problems_dirs: Sequence[str] = (),
  iteration: int | None = None,
  checkpoint: str | None = None,
  bootstrap_resamples: int = 10_000,
  seed: int = 0,
) -> None:
  """Writes RESULTS_DIR/results.json.

  Args:
    verdicts_dirs: folders of verdicts; all their streams are evaluated.
    samples_dirs: the samples that these grade, in the same order.
    results_dir: where to write; <model>/evaluation/results in a run.
    model_name: base, sft_human, iteration_01, … or a checkpoint's own name.
    problems_dirs: the problems that were sampled, in the same order, for the
      breakdown by level and type; empty for no breakdown.
    iteration: of base and iteration_NN; null in the rows of other models.
    checkpoint: shown in the rows, relative to the run if it lies in it.
    bootstrap_resamples: of the problems, for the 95 % intervals.
    seed: of the bootstrap.

  Raises:
    ConfigurationError: an input is missing, or is of other samples.
  """
  preemption.watch()
  _check_arguments(verdicts_dirs, samples_dirs, problems_dirs)
  if bootstrap_resamples < 1:
    raise configuration.ConfigurationError(
      f'evaluate.bootstrap_resamples: got {bootstrap_resamples}; allowed: at '
      'least 1.'
    )
  tasks = _load_tasks(verdicts_dirs, samples_dirs, problems_dirs)
  model = {
    'model': model_name,
    'checkpoint': _relative(checkpoint, results_dir),
    'iteration': iteration if _is_iteration(model_name) else None,
    'same_as': trained.same_as(checkpoint) if checkpoint else None,
  }
  with stage_work.work_on(
    results_dir,
    stage='evaluate',
    kind=None,
    semantic={
      'model_name': model_name,
      'bootstrap_resamples': bootstrap_resamples,
      'seed': seed,
    },
    inputs=_inputs(tasks),
    version=_VERSION,
  ) as work:
    if work.done is not None and (work.folder / RESULTS).exists():
      print(f'evaluate: {results_dir} is done already')
      return
    made = {'rows': [], 'breakdown': [], 'averages': []}
    for task in tasks:
      preemption.check(f'evaluate: {results_dir}')
      more = _evaluate_task(
        task, model, resamples=bootstrap_resamples, seed=seed
      )
      for key, found in more.items():
        made[key] += found
    rows = made['rows']
    storage.write_json(work.folder / RESULTS, made)
    work.finish(
      content=manifests.digest_of(made), statistics={'rows': len(rows)}
    )
  _print(model_name, rows)


def _evaluate_task(
  task: _Task, model: Mapping, *, resamples: int, seed: int
) -> dict[str, list[dict]]:
  """A task's part of results.json, stream by stream."""
  table = task.verdicts.table(columns=metrics.COLUMNS)
  groups = grouping.groups(task.problems)
  made = {'rows': [], 'breakdown': [], 'averages': []}
  for name in sorted(task.verdicts.statistics['classes']):
    sampling = task.sampling(name)
    found = metrics.outcomes(table, name)
    head = {**model, **task.name, 'stream': name, **sampling}
    greedy = sampling['temperature'] == 0
    labels, values_PM = _values(found, greedy=greedy)
    estimates = results.estimate_columns(values_PM, resamples, seed)
    for label, estimate in zip(labels, estimates, strict=True):
      estimate = dataclasses.asdict(estimate)
      made['rows'].append({**head, **label, **estimate, **_rates(found)})
    for by, group_of in groups.items():
      values = grouping.by_group(found, values_PM[:, 0], group_of)
      head_of = {**head, **labels[0], 'by': by}
      made['breakdown'] += grouping.breakdown(head_of, values, resamples, seed)
      made['averages'] += grouping.average(head_of, values, resamples, seed)
  return made


def _values(
  found: metrics.Outcomes, *, greedy: bool
) -> tuple[list[dict], np.ndarray]:
  """The metrics of a stream.

  Returns:
    M labels {'metric': …, 'k': …}, and (P, M) values of each problem.
  """
  labels, columns = [], []
  for k in metrics.ladder(1 if greedy else found.max_samples) or [1]:
    metric = results.GREEDY if greedy else 'pass@1' if k == 1 else 'pass@k'
    labels.append({'metric': metric, 'k': k})
    columns.append(metrics.pass_at_k(found.num_samples, found.num_correct, k))
  if not greedy and found.has_answers:
    for k in metrics.ladder(found.max_samples):
      labels.append({'metric': 'maj@k', 'k': k})
      columns.append(metrics.maj_at_k(found.votes, k))
  return labels, np.stack(columns, axis=1)


def _rates(found: metrics.Outcomes) -> dict:
  rates = dict.fromkeys(verdicts.OUTCOMES, 0.0) | found.rates()
  return {
    'unparsed_rate': rates[verdicts.NO_ANSWER],
    'timeout_rate': rates[verdicts.TIMEOUT],
    'truncated_rate': rates[verdicts.TRUNCATED],
    'harness_error_rate': rates[verdicts.HARNESS_ERROR],
    'ungraded_rate': rates[verdicts.UNGRADED],
    'classes': rates,
  }


def _load_tasks(
  verdicts_dirs: Sequence[str],
  samples_dirs: Sequence[str],
  problems_dirs: Sequence[str],
) -> list[_Task]:
  tasks = []
  for i, verdicts_dir in enumerate(verdicts_dirs):
    graded = manifests.load(verdicts_dir, stage='score')
    samples = manifests.load(samples_dirs[i], stage='sample')
    if graded.fingerprint['inputs']['samples'] != samples.digest:
      raise configuration.ConfigurationError(
        f'{verdicts_dir}: these are not the verdicts of {samples_dirs[i]}, or '
        'the samples have grown since. Run score again.'
      )
    problems = manifests.load(problems_dirs[i]) if problems_dirs else None
    tasks.append(_Task(verdicts=graded, samples=samples, problems=problems))
  return tasks


def _inputs(tasks: Sequence[_Task]) -> dict[str, manifests.Manifest]:
  """What the results depend on, for the fingerprint; by 'verdicts 0', …"""
  return {
    f'{field.name} {i}': manifest
    for i, task in enumerate(tasks)
    for field in dataclasses.fields(task)
    if (manifest := getattr(task, field.name)) is not None
  }


def _check_arguments(
  verdicts_dirs: Sequence[str],
  samples_dirs: Sequence[str],
  problems_dirs: Sequence[str],
) -> None:
  if not verdicts_dirs or len(samples_dirs) != len(verdicts_dirs):
    raise configuration.ConfigurationError(
      f'evaluate: got {len(verdicts_dirs)} verdicts_dirs and '
      f'{len(samples_dirs)} samples_dirs; expected the same number of each, at '
      'least one.'
    )
  if problems_dirs and len(problems_dirs) != len(verdicts_dirs):
    raise configuration.ConfigurationError(
      f'evaluate: got {len(problems_dirs)} problems_dirs for '
      f'{len(verdicts_dirs)} verdicts_dirs; expected the same number, or none.'
    )


def _is_iteration(model_name: str) -> bool:
  is_base = model_name == run_paths.BASE
  return is_base or run_paths.iteration_number(model_name) is not None


def _relative(checkpoint: str | None, results_dir: str) -> str | None:
  """The checkpoint's path within its run, where it lies in one.

  A run can then be moved and still gives the same results.json.

  Args:
    checkpoint: a path, or None.
    results_dir: <run>/<model>/evaluation/results.
  """
  if checkpoint is None:
    return None
  run_dir = os.fspath(storage.path(results_dir).parent.parent.parent)
  checkpoint = os.fspath(storage.path(checkpoint))
  return checkpoint.removeprefix(run_dir.rstrip('/') + '/')


def _print(model_name: str, rows: Sequence[Mapping]) -> None:
  """A line per row; the last line, which the launcher shows, has pass@1."""
  shown = [row for row in rows if row['value'] is not None]
  for row in shown:
    name = f'{row["task"]}/{row["split"]}'
    print(
      f'{name:24} {row["metric"]:14} k {row["k"]:<4} {row["value"]:.3f} '
      f'[{row["ci_low"]:.3f}, {row["ci_high"]:.3f}] n {row["n"]:,}'
    )
  first = [
    f'{row["task"]}/{row["split"]} {row["metric"]} {row["value"]:.3f}'
    for row in shown
    if row['metric'] in (results.GREEDY, 'pass@1')
  ]
  print(f'evaluate: {model_name}: {", ".join(first) or "no values"}')
