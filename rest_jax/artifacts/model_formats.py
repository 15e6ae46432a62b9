"""The formats of weights and tokenizers that are read: one table.

Everything that must know a format asks here: which reader loads the weights,
which reads the tokenizer and the chat template, and what an error lists as
allowed. A new format is one row and one reader module in models/checkpoints/
or tokenizers/ (or in both, where a file holds weights and tokenizer).
"""

import dataclasses
import os
import re

from rest_jax.artifacts import manifests, orbax_files, storage
from rest_jax.config import configuration

TRAIN = 'train'  # the format of the train stage's own checkpoints
GGUF, SENTENCEPIECE = 'gguf', 'sentencepiece'
_HUB_NAME = re.compile(r'\w[\w.-]*/\w[\w.-]*')  # owner/name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
  """One format.

  A path is in this format if it is a file with this suffix, or a folder that
  holds a file of this pattern.

  Attributes:
    name: short and unique.
    described: for errors, behind 'expected'.
    suffix: of a file; None where only a folder can be in this format.
    holds: glob pattern of a file in a folder; None where only a file can be.
    weights: the module of rest_jax/models/checkpoints/ that reads weights:
      `load(path, model, target)`. None if it holds none.
    network: the module of rest_jax/models/checkpoints/ that reads, without
      jax, which network the weights are of: `network(path)`.
    bytes_of: the module of rest_jax/artifacts/ that says which bytes are the
      weights: `digested(path)` and `digest(path)`. None: the manifest says it.
    vocabulary: the module of rest_jax/tokenizers/ that reads the tokenizer:
      `load(spec, path)` and `chat_template(path)`. None if it holds none.
  """

  name: str
  described: str
  suffix: str | None = None
  holds: str | None = None
  weights: str | None = None
  network: str | None = None
  bytes_of: str | None = None
  vocabulary: str | None = None

  def matches(self, path: storage.PathLike) -> bool:
    """Whether a path is in this format; a file need not be there yet."""
    path = storage.path(path)
    if path.is_dir():
      return self.holds is not None and any(path.glob(self.holds))
    return self.suffix is not None and path.name.lower().endswith(self.suffix)


# The first row that matches counts.
FORMATS = (
  Format(
    name=TRAIN,
    described=f'a folder of the train stage (with {manifests.MANIFEST})',
    holds=manifests.MANIFEST,
    weights='trained',
    network='trained',
  ),
  Format(
    name='orbax',
    described='a folder that rest-jax import wrote',
    holds=orbax_files.NAME,
    weights='orbax_base',
    network='orbax_base',
    bytes_of='orbax_files',
  ),
  Format(
    name=GGUF,
    described='a .gguf file',
    suffix='.gguf',
    weights='gguf',
    network='gguf_config',
    bytes_of='gguf_files',
    vocabulary='gguf_vocabularies',
  ),
  Format(
    name='safetensors',
    described='a folder with *.safetensors',
    holds='*.safetensors',
    weights='safetensors',
    network='hf_config',
    bytes_of='safetensors_files',
  ),
  Format(
    name='tokenizer_json',
    described='a tokenizer.json file, or a folder with one',
    suffix='.json',
    holds='tokenizer.json',
    vocabulary='tokenizer_json',
  ),
  Format(
    name=SENTENCEPIECE,
    described='a SentencePiece *.model file',
    suffix='.model',
    vocabulary='sentencepiece_vocabularies',
  ),
)


def of_weights(path: storage.PathLike) -> Format:
  """The format of the checkpoint at a path.

  Raises:
    ConfigurationError: no checkpoint is there.
  """
  for row in FORMATS:
    if row.weights and row.matches(path) and storage.path(path).exists():
      return row
  raise configuration.ConfigurationError(
    f'{path}: no checkpoint is there. BASE_CHECKPOINT_PATH takes '
    f'{expected_weights()}.{hub_hint(path)}'
  )


def of_vocabulary(path: storage.PathLike) -> Format | None:
  """The format of the tokenizer at a path; None if it is in none of them."""
  rows = (row for row in FORMATS if row.vocabulary and row.matches(path))
  return next(rows, None)


def of_file_name(path: storage.PathLike) -> Format | None:
  """The format of a file of this name, there or not; None: of no known one."""
  name = os.fspath(path).lower()
  rows = (row for row in FORMATS if row.suffix and name.endswith(row.suffix))
  return next(rows, None)


def expected_weights() -> str:
  """What a path of weights may be, for errors."""
  return _listed([row.described for row in FORMATS if row.weights])


def expected_vocabulary() -> str:
  """What a path of a tokenizer may be, for errors."""
  return _listed([row.described for row in FORMATS if row.vocabulary])


def without_suffix(name: str) -> str:
  """A file's name without the suffix of its format."""
  for row in FORMATS:
    if row.weights and row.suffix and name.lower().endswith(row.suffix):
      return name[: -len(row.suffix)]
  return name


def hub_hint(path: storage.PathLike, dial: str = 'BASE_CHECKPOINT_PATH') -> str:
  """What to say, behind an error, where a path looks like a name of a hub.

  Args:
    path: as the user gave it.
    dial: that takes the path of what was downloaded.
  """
  name = os.fspath(path)
  if not _HUB_NAME.fullmatch(name) or storage.path(path).exists():
    return ''
  return (
    f' Names of the Hugging Face hub are not fetched: download it first (hf '
    f'download {name} --local-dir FOLDER), then --gin.{dial}=FOLDER.'
  )


def _listed(items: list[str]) -> str:
  *most, last = items
  return f'{", ".join(most)}, or {last}' if most else last
