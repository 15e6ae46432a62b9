"""Reads M-steps, also while they go, and the tokens per second of each job."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import goodput, manifests, run_paths, storage
from rest_jax.reporting import m_step_data, run_data

# The job that draws the samples below a folder of a model.
_SAMPLE_JOBS = {
  'samples': 'sample',
  'difficulty': 'sample_difficulty',
  'evaluation': 'sample_eval',
}


def m_step(
  folder: storage.Path, policies: Mapping[str, str]
) -> m_step_data.MStep | None:
  """What a folder of checkpoints says, also while it is being trained.

  Args:
    folder: of one model; None is returned where there is no such folder.
    policies: {digest of a folder of checkpoints: the model's name}.
  """
  manifest = manifests.load_if_done(folder)
  if manifest is None and not (folder / manifests.STARTED).exists():
    return None
  known = manifest.statistics if manifest else {}
  rewards = {
    one.get('folder', ''): one.get('validations') or ()
    for one in known.get('trainings') or [known]
  }
  trainings = [
    _training(name, folder / name / 'metrics.jsonl', rewards.get(name, ()))
    for name in sorted({'', *rewards, *_folders(folder)})
  ]
  init = (manifest.fingerprint['inputs'] if manifest else {}).get('init')
  base = None if init in (None, 'scratch') else run_paths.BASE
  return m_step_data.MStep(
    trainings=[one for one in trainings if one.losses or one.rewards],
    chosen_step=known.get('chosen_step'),
    learning_rate=known.get('learning_rate'),
    reward=known.get('reward'),
    init=policies.get(init, base),
    seconds=_seconds(folder, manifest),
  )


def _seconds(
  folder: storage.Path, manifest: manifests.Manifest | None
) -> Mapping[str, float]:
  """The wall time by part; what was noted last, while the M-step goes."""
  if manifest is not None:
    return manifest.recorded.get('seconds', {})
  try:
    return storage.read_json(folder / goodput.CLOCK)['parts']
  except (OSError, ValueError, KeyError):
    return {}


def _training(
  name: str, source: storage.Path, rewards: Sequence[Sequence[float]]
) -> m_step_data.Training:
  """One training by its metrics.jsonl, which need not be there.

  Args:
    name: of its folder.
    source: its metrics.jsonl.
    rewards: (step, reward) pairs of the manifest; those of metrics.jsonl count
      as long as there is none.
  """
  lines = _metrics(source)

  def column(*names: str) -> list[tuple[int, float]]:
    found = ((s, next((v[n] for n in names if n in v), None)) for s, v in lines)
    return [(s, value) for s, value in found if isinstance(value, (int, float))]

  return m_step_data.Training(
    name=name,
    losses=column('token_loss', 'loss'),
    rewards=[tuple(pair) for pair in rewards] or column('dval_reward'),
    rates=[rate for _, rate in column('tokens_per_second')],
  )


def _metrics(source: storage.Path) -> list[tuple[int, dict[str, Any]]]:
  """(step, its values) of a metrics.jsonl, by step."""
  lines = {}
  for text in source.read_text().splitlines() if source.exists() else ():
    try:
      line = json.loads(text)
    except json.JSONDecodeError:
      continue  # cut by a crash; the step is logged again on resuming
    if isinstance(line, dict) and 'step' in line:
      # A resumed training repeats steps: the last line of a step counts.
      lines.setdefault(line['step'], {}).update(line)
  return sorted(lines.items())


def rates(
  found: run_data.Manifests, models: Sequence[run_data.Model]
) -> dict[str, float]:
  """Tokens per second by the name of the job that sampled or trained."""
  result, drawn = {}, {}
  for key, manifest in found.items():
    rate = manifest.recorded.get('tokens_per_second')
    if manifest.stage == 'sample' and rate:
      folder = run_paths.model_folder(key)
      stage = _SAMPLE_JOBS.get(key.removeprefix(f'{folder}/').split('/')[0])
      # The jobs of a checkpoint of a batch, models/NAME, are NAME/sample_eval.
      job = f'{folder.rpartition("/")[2]}/{stage}'
      seconds = manifest.recorded.get('seconds') or 1.0
      drawn.setdefault(job, []).append((rate, seconds))
  for job, pairs in drawn.items():
    result[job] = sum(r * s for r, s in pairs) / sum(s for _, s in pairs)
  for model in models:
    chosen = model.m_step and model.m_step.chosen
    if chosen and chosen.rates:
      result[f'{model.name}/train'] = statistics.median(chosen.rates)
  return result


def _folders(folder: storage.Path) -> list[str]:
  names = [path.name for path in folder.iterdir() if path.is_dir()]
  return [name for name in names if '.superseded-' not in name]
