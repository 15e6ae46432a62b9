"""Loads a vocabulary from a file of any known kind.

    spec                                   what it is
    'bytes'                                UTF-8 bytes, EOS = 256
    FILE.model                             SentencePiece
    FILE.gguf                              the tokenizer in a GGUF file
    tokenizer.json, or a folder with one   Hugging Face tokenizers

Limits: a SentencePiece or Hugging Face model that normalises text (T5, XLNet,
Gemma's Unicode forms) decodes to the normalised text; the character U+2581 is
a space to SentencePiece.
"""

import os
import posixpath

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tokenizers import sentencepiece_vocabularies, vocabularies
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
    spec: 'bytes', or the path of a *.model, *.gguf or tokenizer.json file, or
      of a folder that holds a tokenizer.json.
    base: see `resolve`.

  Raises:
    ConfigurationError: the file is not there, or of no known kind.
  """
  spec = resolve(spec, base)
  if spec == BYTES:
    return vocabularies.utf8_bytes()
  path = storage.path(spec)
  if not path.exists():
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: not there. Allowed: {BYTES}, or the path of a '
      '*.model, *.gguf or tokenizer.json file, or of a folder with one.'
    )
  if path.is_dir():
    path = path / 'tokenizer.json'
    if not path.exists():
      raise configuration.ConfigurationError(
        f'vocabulary {spec}: the folder holds no tokenizer.json.'
      )
  if path.suffix == '.model':
    return sentencepiece_vocabularies.from_model(spec, path.read_bytes())
  from rest_jax.tokenizers import hf_vocabularies

  if path.suffix == '.gguf':
    return hf_vocabularies.from_gguf(spec, path)
  if path.suffix == '.json':
    return hf_vocabularies.from_tokenizer_json(spec, path)
  raise configuration.ConfigurationError(
    f'vocabulary {spec}: unknown kind {path.suffix!r}. Allowed: {BYTES}, '
    '*.model, *.gguf, *.json, or a folder with a tokenizer.json.'
  )
