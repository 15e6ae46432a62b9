"""What ran: the facts at the top of the page, and the dials of a run."""

import math
import re
from collections.abc import Mapping
from typing import Any

from rest_jax import __version__
from rest_jax.reporting import formatting, run_data


def run_facts(
  run: run_data.Run, found: run_data.Manifests
) -> list[tuple[str, str]]:
  """(name, text) of model, problems, samples, software, machine and time.

  Args:
    run: what was read.
    found: the manifests that it was read from.

  Returns:
    Those that the run knows already, in the order of the page.
  """
  facts = {
    'Model': _model(run, found),
    'Problems': _problems(found),
    'Samples': _samples(found),
    'Software': _software(found),
    'Machine': _machine(found),
    'Date': run.date,
    'Time (h:mm)': _time(run),
  }
  return [(name, text) for name, text in facts.items() if text]


def dials(config: str) -> dict[str, str]:
  """{NAME or function.parameter: value} of a config.gin, as text.

  Args:
    config: its text, as gin writes it: a value that does not fit into the line
      goes on in indented lines.
  """
  text = re.sub(r'^\s*#.*$', '', config, flags=re.M)
  text = re.sub(r'\\?\n[ \t]+', ' ', text)
  found = re.findall(r'^([\w./]+) = *(.+?) *$', text, flags=re.M)
  return {name: re.sub(r'\s+', ' ', value) for name, value in found}


def _model(run: run_data.Run, found: run_data.Manifests) -> str:
  """Such as `SmolLM2-135M.gguf, 134,515,008 parameters (30 layers, …)`."""
  named = dials(run.config).get('BASE_CHECKPOINT_PATH', 'None').strip('\'"')
  parts = [] if named == 'None' else [named.rstrip('/').rpartition('/')[2]]
  trained = [m for m in found.values() if m.stage == 'train']
  counts = [m.statistics.get('parameters') for m in trained]
  count = next(filter(None, counts), None)
  if count:
    parts.append(f'{formatting.number(count)} parameters')
  shape = next(
    filter(None, (_semantic(m, 'model') for m in found.values())), {}
  )
  if {'num_layers', 'embed_dim'} <= shape.keys():
    layers, width = shape['num_layers'], shape['embed_dim']
    parts.append(f'{layers} layers of width {formatting.number(width)}')
  if named == 'None' and any(
    m.fingerprint['inputs'].get('init') == 'scratch' for m in trained
  ):
    parts.append('pretrained by this run')
  return ', '.join(parts)


def _problems(found: run_data.Manifests) -> str:
  """Such as `math: 7,000 train, 500 dval, 500 test`."""
  sizes = {}
  for manifest in found.values():
    card = manifest.statistics.get('task')
    if manifest.kind == 'Problem' and isinstance(card, Mapping):
      sizes.setdefault(card['task'], {})[card['split']] = card['num_problems']
  return '; '.join(
    f'{task}: '
    + ', '.join(
      f'{formatting.number(splits[split])} {split}'
      for split in sorted(splits, key=_place)
    )
    for task, splits in sorted(sizes.items())
  )


def _place(split: str) -> tuple[int, str]:
  order = ('train', 'dval', 'test')
  return (order.index(split) if split in order else len(order), split)


def _samples(found: run_data.Manifests) -> str:
  drawn = [m.statistics for m in found.values() if m.stage == 'sample']
  samples, tokens = (
    sum(one.get(name, 0) for one in drawn) for name in ('samples', 'tokens')
  )
  if not samples:
    return ''
  text = f'{formatting.number(samples)} completions'
  return f'{text}, {formatting.number(tokens)} tokens' if tokens else text


def _software(found: run_data.Manifests) -> str:
  versions = {m.recorded.get('jax') for m in found.values()}
  jax = sorted(filter(None, versions))
  return ', '.join(
    [f'rest_jax {__version__}', *(f'jax {version}' for version in jax)]
  )


def _machine(found: run_data.Manifests) -> str:
  """Such as `16 × TPU v5 lite (train), 4 × TPU v5 lite (sample)`."""
  stages = {}
  for manifest in found.values():
    engine = manifest.recorded.get('engine', manifest.recorded)
    device, mesh = engine.get('device'), engine.get('mesh')
    if manifest.stage in ('sample', 'train') and device and mesh:
      if manifest.stage == 'sample':  # the engine names the platform first
        device = device.partition(' ')[2] or device
      name = f'{math.prod(mesh.values()):,} × {device}'
      stages.setdefault(name, set()).add(manifest.stage)
  if len(stages) == 1:
    return next(iter(stages))
  return ', '.join(
    f'{name} ({" and ".join(sorted(used))})'
    for name, used in sorted(stages.items())
  )


def _time(run: run_data.Run) -> str:
  """The jobs' hours and minutes, rounded up."""
  total = sum(run.seconds.values())
  hours, minutes = divmod(math.ceil(total / 60), 60)
  return f'{hours}:{minutes:02d}' if total else ''


def _semantic(manifest: Any, name: str) -> Mapping[str, Any]:
  value = manifest.fingerprint['semantic'].get(name)
  return value if isinstance(value, Mapping) else {}
