"""The gin files that come with the package, without gin."""

import os
import re

import rest_jax

DEFAULTS = 'defaults.gin'  # every dial


def directory() -> str:
  """Their folder, in a checkout or in a wheel."""
  package = rest_jax.__path__[0]
  checkout = os.path.join(os.path.dirname(package), 'gin')
  if os.path.exists(os.path.join(checkout, DEFAULTS)):
    return checkout
  return os.path.join(package, 'gin_files')


def path(name: str) -> str:
  """Where a file of the folder lies."""
  return os.path.join(directory(), name)


def described(kind: str) -> dict[str, str]:
  """The files of one folder, and the first sentence of each.

  Args:
    kind: runs, tasks or models.

  Returns:
    'runs/math.gin' to what it says it is for, by name.
  """
  found = {}
  folder = os.path.join(directory(), kind)
  for name in sorted(os.listdir(folder)):
    if name.endswith('.gin'):
      with open(os.path.join(folder, name)) as file:
        found[f'{kind}/{name}'] = _first_sentence(file.read())
  return found


def listed(kind: str) -> str:
  """The files of one folder for a person, a line each."""
  found = described(kind)
  return '\n'.join(f'  {name:24}{first}' for name, first in found.items())


def _first_sentence(text: str) -> str:
  lines = []
  for line in text.splitlines():
    if not line.startswith('# '):
      break
    lines.append(line.removeprefix('# '))
    if line.rstrip().endswith(('.', ':')):
      break
  return re.split(r'[.:;](?: |$)', ' '.join(lines))[0]
