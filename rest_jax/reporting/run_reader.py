"""Reads a run's folder into the plain values of run_results.py.

    find(run_dir)        the manifests of all that is finished (cheap)
    read(run_dir, found) results, verdict counts, curves and times

Verdicts are read without their texts, and become counts at once, so that a run
of a million samples fits into memory. Folders are known by the stage that made
them, not by their names.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.artifacts import manifests, run_paths, storage
from rest_jax.config import configuration
from rest_jax.evaluation import metrics
from rest_jax.reporting import run_results

RESULTS, OVERLAP = 'results.json', 'overlap.json'
_MODEL = re.compile(r'base|sft_human|iteration_\d+')


def find(run_dir: storage.PathLike) -> dict[str, manifests.Manifest]:
  """The manifests of all finished folders of a run, by relative path."""
  run_dir, found = storage.path(run_dir), {}
  for name in _children(run_dir):
    if name in ('problems', run_paths.MODELS) or _MODEL.fullmatch(name):
      _walk(run_dir, name, found)
  return found


def read(
  run_dir: storage.PathLike, found: run_results.Found
) -> run_results.Run:
  """Reads what `find` found; the texts of the samples stay where they are."""
  run_dir = storage.path(run_dir)
  # A corpus alone, which prepare writes for a base model, is no model.
  made = [key for key, one in found.items() if one.stage != 'prepare']
  order = sorted({_folder(key) for key in made}, key=_in_order)
  graded = [
    one
    for key, manifest in sorted(found.items())
    if manifest.stage == 'score'
    for one in _count(key, manifest, found.get(run_results.samples_key(key)))
  ]
  return run_results.Run(
    name=run_dir.name,
    models=[_model(name, found, graded) for name in order],
    difficulty=[g for g in graded if g.stream == 'difficulty'],
    seconds=_seconds(run_dir / 'jobs'),
    config=_text(run_dir / 'config.gin'),
    overlap=overlap(run_dir),
  )


def overlap(run_dir: storage.PathLike) -> Mapping[str, Any] | None:
  """What prepare says that training and evaluated problems share."""
  source = storage.path(run_dir) / 'problems' / OVERLAP
  return storage.read_json(source) if source.exists() else None


def task_of(problem_id: str) -> tuple[str, str]:
  """(task, split) of a problem's id `task/split/key`."""
  task, _, rest = problem_id.partition('/')
  return task, rest.partition('/')[0]


def _folder(key: str) -> str:
  """The folder of a model, of the key of one of its manifests."""
  parts = key.split('/')
  return '/'.join(parts[:2] if parts[0] == run_paths.MODELS else parts[:1])


def _in_order(folder: str) -> tuple:
  """Base, SFT, iterations, then checkpoints by name."""
  inside = folder.startswith(f'{run_paths.MODELS}/')
  rank = (inside, folder != 'base', folder != 'sft_human')
  return (*rank, run_results.natural(folder))


def _model(
  folder: str, found: run_results.Found, graded: Sequence[run_results.Graded]
) -> run_results.Model:
  made_by = {}
  for key, manifest in found.items():
    if key.startswith(f'{folder}/'):
      made_by.setdefault(manifest.stage, manifest)
  graded = [one for one in graded if one.key.startswith(f'{folder}/')]
  results = _results(made_by['evaluate']) if 'evaluate' in made_by else {}
  selection = made_by['select'].statistics if 'select' in made_by else None
  return run_results.Model(
    name=folder.rpartition('/')[2],
    **{key: results.get(key, []) for key in ('rows', 'breakdown', 'averages')},
    evaluation=[one for one in graded if one.stream.startswith('eval/')],
    e_step=[one for one in graded if one.stream == 'e_step'],
    selection=selection,
    training=_training(made_by['train']) if 'train' in made_by else None,
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


def _count(
  key: str, graded: manifests.Manifest, samples: manifests.Manifest | None
) -> Iterator[run_results.Graded]:
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
    task, split = task_of(first)
    setting = drawn.get('stream', {})
    yield run_results.Graded(
      task=task,
      split=split,
      stream=stream,
      key=key,
      folder=graded.folder,
      temperature=setting.get('temperature'),
      num_samples=drawn.get('num_samples'),
      problems=of_stream,
      outcomes=dict(sorted(outcomes[stream].items())),
    )


def _grouped(table: pa.Table, column: str) -> pa.Table:
  solved = pc.cast(pc.equal(table['outcome'], metrics.CORRECT), pa.int64())
  table = table.append_column('solved', solved)
  return table.group_by(['stream', column]).aggregate(
    [('solved', 'sum'), ('solved', 'count')]
  )


def _training(manifest: manifests.Manifest) -> run_results.Training:
  lines = {}
  sources = {'': manifest.folder / 'metrics.jsonl'}
  for name in _children(manifest.folder):
    sources[name] = manifest.folder / name / 'metrics.jsonl'
  for label, source in sources.items():
    if not source.exists():
      continue
    for line in source.read_text().splitlines():
      try:
        value = json.loads(line)
      except json.JSONDecodeError:
        continue  # cut by a crash; the step is logged again on resuming
      if isinstance(value, dict) and 'step' in value:
        # A resumed run repeats steps: the last line of a step is the one.
        lines.setdefault(label, {}).setdefault(value['step'], {}).update(value)
  curves = {
    name: [steps[step] for step in sorted(steps)]
    for name, steps in sorted(lines.items())
  }
  return run_results.Training(statistics=manifest.statistics, curves=curves)


def _seconds(jobs: storage.Path) -> dict[str, float]:
  result = {}
  if not jobs.exists():
    return result
  for source in sorted([*jobs.glob('*.json'), *jobs.glob('*/*.json')]):
    try:
      value = storage.read_json(source)
    except ValueError:
      continue  # a time is missing, no result
    if isinstance(value, dict) and isinstance(
      value.get('seconds'), (int, float)
    ):
      name = str(source)[len(str(jobs)) + 1 :].removesuffix('.json')
      result[str(value.get('name', name))] = float(value['seconds'])
  result.pop('report', None)  # of an earlier report
  return result


def _text(source: storage.Path) -> str:
  return source.read_text() if source.exists() else ''


def _walk(
  run_dir: storage.Path, key: str, found: dict[str, manifests.Manifest]
) -> None:
  """Adds the manifest of a folder, or those below it."""
  manifest = manifests.load_if_done(run_dir / key)
  if manifest is not None:
    found[key] = manifest
  begun = manifest is not None or (run_dir / key / manifests.STARTED).exists()
  # That of problems/ itself is the vocabulary's: the sets lie below it.
  if key == 'problems' or not begun:
    for name in _children(run_dir / key):
      _walk(run_dir, f'{key}/{name}', found)


def _children(folder: storage.Path) -> list[str]:
  return sorted(
    child.name
    for child in folder.iterdir()
    # D_val's samples (validation) belong to the training that drew them.
    if child.is_dir()
    and '.superseded-' not in child.name
    and child.name != 'validation'
  )
