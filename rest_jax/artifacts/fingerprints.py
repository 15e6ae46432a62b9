"""Whether a folder that stands may be continued under today's configuration.

A *fingerprint* is what a folder's content depends on, ready for JSON:

    semantic    the stage's semantic bindings
    inputs      name to digest of each folder that it reads
    code        version of the package and of the stage
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rest_jax.config import configuration


class FingerprintError(configuration.ConfigurationError):
  """The folder belongs to another configuration."""


def continued(
  old: Mapping[str, Any],
  new: Mapping[str, Any],
  *,
  semantic: Mapping[str, Any],
  absent: Mapping[str, Any],
  where: Any,
  growable: Sequence[str] = (),
  remedy: str = '',
) -> dict[str, Any]:
  """The semantic part under which a folder that stands is continued.

  It is the new one, without what the old one did not record. So the digests of
  parts and of the folder, and all that later stages made of them, remain.

  Args:
    old: the fingerprint that stands.
    new: the one asked for.
    semantic: the bindings that `new` was made from; their declared defaults
      stand for fields that `old` did not record.
    absent: for keys of `semantic` that `old` may lack, what they stood for.
    where: the folder, for the error.
    growable: keys of the semantic bindings that may grow.
    remedy: how to make the folder again, for the error.

  Raises:
    FingerprintError: `new` changes more than it may.
  """
  recorded = old['semantic']
  known = configuration.with_declared_defaults(recorded, semantic)
  known = json.loads(json.dumps({**absent, **known}))
  compare(
    {**old, 'semantic': known},
    new,
    where=where,
    growable=growable,
    remedy=remedy,
  )
  return _without_new_keys(new['semantic'], recorded)


def compare(
  old: Mapping,
  new: Mapping,
  *,
  where: Any,
  growable: Sequence[str] = (),
  remedy: str = '',
) -> None:
  """Raises FingerprintError where `new` changes more than it may.

  Args:
    old: the fingerprint that stands.
    new: the one asked for.
    where: shown in the error.
    growable: keys of the semantic bindings that may grow.
    remedy: how to make the folder again.
  """
  lines = []
  before, after = old['semantic'], new['semantic']
  for key, a, b in _differences(before, after, ''):
    root = key.split('.')[0].split('[')[0]
    if root in growable and _grew(before.get(root), after.get(root)):
      continue
    lines.append(f'  {key}: stands as {a!r}, asked for {b!r}')
  if old['code'] != new['code']:
    lines.append(f'  code: stands as {old["code"]}, this is {new["code"]}')
  if lines:
    may = f' (only these may grow: {", ".join(growable)})' if growable else ''
    raise FingerprintError(
      f'{where}: made with another configuration:\n'
      + '\n'.join(lines)
      + f'\nRestore these bindings{may}, use another RUN_DIR, or make it '
      f'again: {remedy or f"delete {where}, then give the same command"}.'
    )


def _grew(a: Any, b: Any) -> bool:
  if isinstance(a, list) and isinstance(b, list):
    return b[: len(a)] == a
  return isinstance(a, int) and isinstance(b, int) and b >= a


def _differences(a: Any, b: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
  if isinstance(a, dict) and isinstance(b, dict):
    for key in sorted({*a, *b}):
      name = f'{prefix}.{key}' if prefix else key
      missing = '(absent)'
      yield from _differences(a.get(key, missing), b.get(key, missing), name)
  elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
      yield from _differences(x, y, f'{prefix}[{index}]')
  elif a != b:
    yield prefix, a, b


def _without_new_keys(value: Any, recorded: Any) -> Any:
  """`value` without the keys, at any depth, that `recorded` lacks."""
  if isinstance(value, dict) and isinstance(recorded, dict):
    return {
      key: _without_new_keys(item, recorded[key])
      for key, item in value.items()
      if key in recorded
    }
  if isinstance(value, list) and isinstance(recorded, list):
    start = [
      _without_new_keys(*pair) for pair in zip(value, recorded, strict=False)
    ]
    return [*start, *value[len(start) :]]
  return value
