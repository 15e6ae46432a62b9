"""Loads a vocabulary from a file of any known format.

A spec is 'bytes' (UTF-8 bytes, EOS = 256), or the path of a file or folder in
one of the formats of artifacts/model_formats.py that hold a tokenizer.

Limits: a SentencePiece or Hugging Face model that normalises text (T5, XLNet,
Gemma's Unicode forms) decodes to the normalised text; the character U+2581 is
a space to SentencePiece.
"""

import importlib
import os
import posixpath
from types import ModuleType
from typing import Any

from rest_jax.artifacts import (
  manifests,
  model_formats,
  run_paths,
  storage,
)
from rest_jax.config import configuration
from rest_jax.tokenizers import vocabularies
from rest_jax.tokenizers.vocabularies import BYTES, Vocabulary


def resolve(spec: str, base: storage.PathLike | None = None) -> str:
  """The spec with its path made absolute.

  Args:
    spec: see the module's docstring.
    base: the folder that a relative path starts from; the working directory
      by default. In a task card that is the folder of its problems.
  """
  if spec == BYTES or storage.is_remote(spec):
    return spec
  if base is None:
    return os.path.abspath(spec)
  base = os.fspath(base)
  if storage.is_remote(base):  # object stores do not know '..'
    scheme, _, path = base.partition('://')
    return f'{scheme}://{posixpath.normpath(posixpath.join(path, spec))}'
  return os.path.abspath(os.path.join(base, spec))


def load(spec: str, *, base: storage.PathLike | None = None) -> Vocabulary:
  """Loads a vocabulary.

  Args:
    spec: see the module's docstring.
    base: see `resolve`.

  Raises:
    ConfigurationError: the file is not there, or of no known format.
  """
  given, spec = spec, resolve(spec, base)
  if spec == BYTES:
    return vocabularies.utf8_bytes()
  path = storage.path(spec)
  reader = _reader(spec)
  if reader is None or not path.exists():
    problem = 'of no known format' if path.exists() else 'not there'
    raise configuration.ConfigurationError(
      f'VOCABULARY: got {given!r}: the vocabulary {spec} is {problem}. '
      f'Expected {BYTES!r}, or the path of '
      f'{model_formats.expected_vocabulary()}.'
      f'{model_formats.hub_hint(given, "VOCABULARY")}'
    )
  return reader.load(spec, path)


def chat_template(spec: str) -> str | None:
  """The Jinja chat template that lies with a vocabulary, if there is one.

  Args:
    spec: see `load`; absolute.
  """
  reader = None if spec == BYTES else _reader(spec)
  return reader and reader.chat_template(storage.path(spec))


def lying_with(checkpoint: storage.PathLike) -> str | None:
  """The spec of the tokenizer that belongs to a checkpoint; None: none does.

  Some formats hold one (artifacts/model_formats.py), or a folder has a
  SentencePiece tokenizer.model. A checkpoint that still lies in its run,
  <run>/<model>/checkpoints, has the run's.

  Args:
    checkpoint: its path.
  """
  path = storage.path(checkpoint)
  if model_formats.of_vocabulary(path):
    return os.fspath(checkpoint)
  if (path / 'tokenizer.model').exists():
    return os.fspath(path / 'tokenizer.model')
  if not (path / manifests.MANIFEST).exists():
    return None
  problems = storage.absolute(path).parent.parent / 'problems'
  if (problems / run_paths.VOCABULARY).exists():
    return os.fspath(problems / run_paths.VOCABULARY)
  prepared = manifests.load_if_done(problems)
  return prepared.recorded.get('spec') if prepared else None


def metadata(spec: str) -> dict[str, Any]:
  """A tokenizer in the words of GGUF: the keys 'tokenizer.…' of such a file.

  Args:
    spec: see `load`; absolute.

  Raises:
    ConfigurationError: it cannot be written so; what to give instead.
  """
  reader = None if spec == BYTES else _reader(spec)
  if reader is None:
    raise configuration.ConfigurationError(
      f'the vocabulary {spec} has no files that other programs read. Give '
      '--tokenizer=PATH, or --tokenizer=none for the weights alone.'
    )
  return reader.metadata(storage.path(spec))


def _reader(spec: str) -> ModuleType | None:
  """The module that reads the vocabulary at a path; loads what it needs."""
  row = model_formats.of_vocabulary(spec)
  if row is None:
    return None
  return importlib.import_module(f'rest_jax.tokenizers.{row.vocabulary}')
