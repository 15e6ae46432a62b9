"""RUN_DIR/automatic.gin: what was derived for a run, each with its reason."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.pipeline.sizes import Dial

FILE = 'automatic.gin'  # below RUN_DIR
_HEADER = """\
# Derived by rest_jax for this run, where a dial was 'auto'; fixed from then on.
# To set one yourself: --gin.NAME=VALUE or a --gin_file.
from __gin__ import dynamic_registration

from rest_jax.models import architecture
"""


def text(entries: Mapping[str, str]) -> str:
  """The whole file.

  Args:
    entries: of `entry`, by the name that each binds.
  """
  return '\n'.join([_HEADER, *entries.values()])


def read(file: storage.Path) -> dict[str, str]:
  """The entries of a file, by the first name that each binds."""
  if not file.exists():
    return {}
  _, _, bindings = file.read_text().partition(_HEADER)
  entries = {}
  for block in bindings.strip('\n').split('\n\n'):
    names = re.findall(r'^([\w.]+) = ', block, re.M)
    if names:
      entries[names[0]] = block + '\n'
  return entries


def entry(name: str, dial: Dial) -> str:
  """A dial as gin reads it, behind its reason as a comment."""
  lines = [f'# {line}' for line in dial.reason.splitlines()]
  return '\n'.join([*lines, _gin(name, dial.value), ''])


def _gin(name: str, value: Any) -> str:
  """A binding as gin reads it."""
  if not dataclasses.is_dataclass(value):
    return f'{name} = {value!r}'
  kind = type(value).__name__
  lines = [f'{name} = @architecture.{kind}()', f'architecture.{kind}:']
  nested: list[str] = []
  for field in dataclasses.fields(value):
    part = getattr(value, field.name)
    if not field.metadata.get('semantic', True):
      continue
    if dataclasses.is_dataclass(part):
      nested += _gin('', part).splitlines()[1:]
      part = f'@architecture.{type(part).__name__}()'
      lines.append(f'  {field.name} = {part}')
    else:
      lines.append(f'  {field.name} = {part!r}')
  return '\n'.join([*lines, *nested])
