"""Reads the folder of a run into the values of run_data.py.

    find(run_dir)        the manifests of all finished folders (cheap)
    read(run_dir, found) results, verdict counts, training curves and times

Verdicts are read without the texts of their samples and are counted at once,
so that a run of a million samples fits into memory. A folder is recognised by
the stage that its manifest names, not by its own name.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.artifacts import manifests, run_paths, storage
from rest_jax.config import configuration
from rest_jax.evaluation import metrics
from rest_jax.reporting import m_step_data, m_step_reader, run_data
from rest_jax.rewards import verdicts

RESULTS, OVERLAP = 'results.json', 'overlap.json'


def find(run_dir: storage.PathLike) -> dict[str, manifests.Manifest]:
  """The manifests of a run's finished folders, by path relative to the run."""
  run_dir, found = storage.path(run_dir), {}
  for name in _children(run_dir):
    if name in ('problems', run_paths.MODELS) or run_paths.is_loop_model(name):
      _add_manifests(run_dir, name, found)
  return found


def read(run_dir: storage.PathLike, found: run_data.Manifests) -> run_data.Run:
  """Reads what `find` found; the texts of the samples are not read."""
  run_dir = storage.path(run_dir)
  # prepare writes the corpus that a base model is pretrained on into the
  # base's folder. A folder that holds nothing else is not a model yet.
  made = {
    run_paths.model_folder(key)
    for key, one in found.items()
    if one.stage != 'prepare'
  }
  training = {
    name
    for name in (_children(run_dir) if run_dir.exists() else ())
    if run_paths.is_loop_model(name)
    and (run_dir / name / 'checkpoints' / manifests.STARTED).exists()
  }
  policies = {
    one.digest: run_paths.model_folder(key)
    for key, one in found.items()
    if one.stage == 'train'
  }
  m_steps = {
    name: m_step_reader.m_step(run_dir / name / 'checkpoints', policies)
    for name in made | training
  }
  graded = [
    one
    for key, manifest in sorted(found.items())
    if manifest.stage == 'score'
    for one in _count(key, manifest, found.get(run_paths.samples_of(key)))
  ]
  models = [
    _model(folder, found, graded, m_steps[folder])
    for folder in sorted(m_steps, key=_rank)
  ]
  config = run_dir / 'config.gin'
  return run_data.Run(
    name=run_dir.name,
    models=models,
    difficulty=[g for g in graded if g.stream == run_paths.DIFFICULTY],
    seconds=_seconds(run_dir / 'jobs'),
    rates=m_step_reader.rates(found, models),
    config=_text(config),
    overlap=overlap(run_dir),
    date=_date(config),
  )


def overlap(run_dir: storage.PathLike) -> Mapping[str, Any] | None:
  """What training and evaluated problems share, as prepare counted it."""
  source = storage.path(run_dir) / 'problems' / OVERLAP
  return storage.read_json(source) if source.exists() else None


def _rank(folder: str) -> tuple[Any, ...]:
  """Base, SFT, iterations, then the checkpoints of a batch by name."""
  first = (run_paths.BASE, run_paths.SFT_HUMAN)
  place = first.index(folder) if folder in first else len(first)
  of_batch = folder.startswith(f'{run_paths.MODELS}/')
  return (of_batch, place, run_data.natural(folder))


def _model(
  folder: str,
  found: run_data.Manifests,
  graded: Sequence[run_data.GradedStream],
  m_step: m_step_data.MStep | None,
) -> run_data.Model:
  made_by = {}
  for key, manifest in found.items():
    if key.startswith(f'{folder}/'):
      made_by.setdefault(manifest.stage, manifest)
  graded = [one for one in graded if one.key.startswith(f'{folder}/')]
  prefix = run_paths.EVAL_PREFIX
  return run_data.Model(
    name=folder.rpartition('/')[2],
    results_json=_results(made_by['evaluate']) if 'evaluate' in made_by else {},
    evaluation=[one for one in graded if one.stream.startswith(prefix)],
    e_step=[one for one in graded if one.stream == run_paths.E_STEP],
    selection=_selection(made_by['select']) if 'select' in made_by else None,
    m_step=m_step,
  )


def _results(manifest: manifests.Manifest) -> dict[str, list]:
  source = manifest.folder / RESULTS
  if not source.exists():
    raise configuration.ConfigurationError(
      f'{source}: not there, although the stage evaluate is done. Delete '
      f'{manifest.folder / manifests.MANIFEST} and run evaluate again.'
    )
  value = storage.read_json(source)
  return {'rows': value} if isinstance(value, list) else value


def _selection(manifest: manifests.Manifest) -> run_data.Selection:
  statistics = manifest.statistics
  return run_data.Selection(
    counts={
      name: value
      for name, value in statistics.items()
      if isinstance(value, (int, float)) and not isinstance(value, bool)
    },
    kept_per_problem={
      task: {int(k): n for k, n in one['kept_per_problem'].items()}
      for task, one in statistics.get('tasks', {}).items()
      if one.get('kept_per_problem')
    },
    overlap=statistics.get('overlap'),
  )


def _count(
  key: str, graded: manifests.Manifest, samples: manifests.Manifest | None
) -> Iterator[run_data.GradedStream]:
  table = graded.table(columns=['problem_id', 'stream', 'outcome'])
  outcomes, problems = {}, {}
  for row in _grouped(table, 'outcome').to_pylist():
    outcomes.setdefault(row['stream'], {})[row['outcome']] = row['solved_count']
  counted = table.filter(metrics.counting(table))
  for row in _grouped(counted, 'problem_id').to_pylist():
    counts = (row['solved_sum'], row['solved_count'])
    problems.setdefault(row['stream'], {})[row['problem_id']] = counts
  drawn = samples.fingerprint['semantic'] if samples else {}
  for stream in sorted(outcomes):
    of_stream = dict(sorted(problems.get(stream, {}).items()))
    first = next(iter(of_stream), None) or table['problem_id'][0].as_py()
    task, split = first.split('/')[:2]  # of task/split/key
    yield run_data.GradedStream(
      task=task,
      split=split,
      stream=stream,
      key=key,
      folder=graded.folder,
      temperature=drawn.get('stream', {}).get('temperature'),
      num_samples=drawn.get('num_samples'),
      problems=of_stream,
      outcomes=dict(sorted(outcomes[stream].items())),
    )


def _grouped(table: pa.Table, column: str) -> pa.Table:
  solved = pc.cast(pc.equal(table['outcome'], verdicts.CORRECT), pa.int64())
  table = table.append_column('solved', solved)
  return table.group_by(['stream', column]).aggregate(
    [('solved', 'sum'), ('solved', 'count')]
  )


def _seconds(jobs: storage.Path) -> dict[str, float]:
  """How long each job ran, by its name; without an earlier report."""
  result = {}
  if not jobs.exists():
    return result
  for source in sorted([*jobs.glob('*.json'), *jobs.glob('*/*.json')]):
    try:
      value = storage.read_json(source)
    except ValueError:
      continue  # a broken record costs a time and no result
    # What grades beside an M-step waits for it: its time is the M-step's.
    if (
      isinstance(value, dict)
      and isinstance(value.get('seconds'), (int, float))
      and value.get('stage') != 'grade_dval'
    ):
      name = str(source)[len(str(jobs)) + 1 :].removesuffix('.json')
      result[str(value.get('name', name))] = float(value['seconds'])
  result.pop('report', None)
  return result


def _date(config: storage.Path) -> str | None:
  if not config.exists():
    return None
  written = datetime.datetime.fromtimestamp(config.stat().mtime, datetime.UTC)
  return f'{written:%Y-%m-%d}'


def _text(source: storage.Path) -> str:
  return source.read_text() if source.exists() else ''


def _add_manifests(
  run_dir: storage.Path, key: str, found: dict[str, manifests.Manifest]
) -> None:
  """Adds the manifest of a folder, or those below it."""
  manifest = manifests.load_if_done(run_dir / key)
  if manifest is not None:
    found[key] = manifest
  begun = manifest is not None or (run_dir / key / manifests.STARTED).exists()
  # The manifest of problems/ is about the vocabulary: the sets lie below it.
  if key == 'problems' or not begun:
    for name in _children(run_dir / key):
      _add_manifests(run_dir, f'{key}/{name}', found)


def _children(folder: storage.Path) -> list[str]:
  return sorted(
    child.name
    for child in folder.iterdir()
    # D_val's samples (validation) belong to the training that drew them.
    if child.is_dir()
    and '.superseded-' not in child.name
    and child.name != 'validation'
  )
