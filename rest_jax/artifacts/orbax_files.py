"""Base checkpoints that `rest-jax import` wrote: their description and files.

    FOLDER/
      params/…           the weights, an item of Orbax
      orbax_base.json    written last: the network, the dtype, every file above
      tokenizer.json …   the tokenizer of the source, if it had one

A folder without the description is not finished, and no checkpoint.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration

NAME = 'orbax_base.json'
PARAMS = 'params'  # the item that holds the weights
VERSION = 1  # of the description
_KEYS = {
  *('version', 'network', 'dtype', 'digest', 'source', 'files', 'tokenizer'),
  'recorded',
}


def description(folder: storage.PathLike) -> dict[str, Any]:
  """What the folder's description says.

  Raises:
    ConfigurationError: there is none, or one of another version.
  """
  file = storage.path(folder) / NAME
  if not file.exists():
    raise configuration.ConfigurationError(
      f'{folder}: no {NAME}: the import was not finished. Run rest-jax import '
      'again.'
    )
  found = storage.read_json(file)
  if not isinstance(found, dict) or set(found) != _KEYS:
    raise configuration.ConfigurationError(
      f'{file}: not a description of this version of rest_jax. Run rest-jax '
      'import again.'
    )
  return found


def digested(folder: storage.Path) -> list[storage.Path]:
  """The files that `digest` depends on.

  Raises:
    ConfigurationError: some are missing, or have another size.
  """
  require_files(folder)
  rows = description(folder)['files']
  return [folder / NAME, *(folder / row['name'] for row in rows)]


def digest(folder: storage.Path) -> str:
  """What identifies the weights; reads every file.

  The same as the source's where importing changed no value: a run may go over
  from one to the other.

  Raises:
    ConfigurationError: a file is missing or damaged; all such are named.
  """
  require_files(folder, bytes_too=True)
  return description(folder)['digest']


def listed(folder: storage.Path) -> list[dict[str, Any]]:
  """The files of the weights as they are: name, bytes, sha256."""
  root = folder / PARAMS
  return [
    {
      'name': f'{PARAMS}/{file.relative_to(root)}',
      'bytes': file.stat().length,
      'sha256': _sha256(file),
    }
    for file in sorted(_below(root))
  ]


def require_files(folder: storage.PathLike, *, bytes_too: bool = False) -> None:
  """Raises ConfigurationError, naming each file that is missing or damaged.

  Args:
    folder: of the checkpoint.
    bytes_too: reads every file and compares its digest; else the sizes alone
      are compared, which takes no time.
  """
  folder, lines = storage.path(folder), []
  for row in description(folder)['files']:
    file = folder / row['name']
    if not file.exists():
      lines.append(f'{row["name"]}: not there')
    elif file.stat().length != row['bytes']:
      size = file.stat().length
      lines.append(f'{row["name"]}: {size} bytes, expected {row["bytes"]}')
    elif bytes_too and _sha256(file) != row['sha256']:
      lines.append(f'{row["name"]}: damaged, its bytes are not those imported')
  if not lines:
    return
  raise configuration.ConfigurationError(
    f'{folder}: an incomplete checkpoint:\n'
    + configuration.listed(lines)
    + '\nCopy the folder again, or remove it and run rest-jax import again.'
  )


def _below(folder: storage.Path) -> Iterator[storage.Path]:
  """The files of a folder and of those in it; epath globs one folder only."""
  for path in folder.iterdir():
    if path.is_dir():
      yield from _below(path)
    else:
      yield path


def _sha256(file: storage.Path) -> str:
  total = hashlib.sha256()
  with file.open('rb') as stream:
    while block := stream.read(1 << 24):
      total.update(block)
  return total.hexdigest()
