"""Opens GGUF files (llama.cpp's format) for their weights and tokenizer.

Read with the `gguf` package (extra 'hf'), which maps a local file into memory.
"""

import functools
import os
from typing import Any

from rest_jax.artifacts import file_digests, storage
from rest_jax.config import configuration


def digested(path: storage.Path) -> list[storage.Path]:
  """The files that `digest` depends on: the file itself."""
  return [path]


def digest(path: storage.PathLike) -> str:
  """What identifies the weights: the bytes of the file."""
  return file_digests.content(path)


def open_reader(source: storage.PathLike) -> Any:
  """Opens a file.

  Args:
    source: its path, on a local disk.

  Returns:
    A gguf.GGUFReader.

  Raises:
    ConfigurationError: the file is remote, damaged or one part of several, or
      the package is not installed.
  """
  if storage.is_remote(source):
    raise configuration.ConfigurationError(
      f'{source}: a GGUF file is read in place; copy it to a local disk first.'
    )
  try:
    import gguf  # noqa: F401
  except ImportError as error:
    raise configuration.ConfigurationError(
      f'{source}: reading GGUF needs the package gguf: '
      "pip install 'rest_jax[hf]'."
    ) from error
  try:
    stat = os.stat(source)
    reader = _open(os.path.abspath(source), stat.st_mtime_ns, stat.st_size)
  except (ValueError, OSError, IndexError, KeyError) as error:
    raise configuration.ConfigurationError(
      f'{source}: not a readable GGUF file, or a part of one ({error}).'
    ) from error
  parts = field(reader, 'split.count', 1)
  if parts > 1:
    raise configuration.ConfigurationError(
      f'{source}: one of {parts} parts of a model. Join them first: '
      'llama-gguf-split --merge FIRST_PART WHOLE.gguf.'
    )
  return reader


@functools.lru_cache(maxsize=1)
def _open(source: str, modified: int, size: int) -> Any:
  """Parsing the metadata takes seconds: a vocabulary has 100,000 pieces."""
  del modified, size  # they say whether it is still the same file
  import gguf

  return gguf.GGUFReader(source)


def field(reader: Any, name: str, default: Any = None) -> Any:
  """The value of a metadata key, or the default where the file lacks it."""
  entry = reader.fields.get(name)
  return default if entry is None else entry.contents()
