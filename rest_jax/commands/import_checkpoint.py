"""The command import: a published model as a base checkpoint of Orbax.

    rest-jax import --from=FOLDER|FILE.gguf --to=CHECKPOINT [--dtype=bfloat16]

Once for many runs: each host of a pod then reads its own shards only, and from
gs:// too. CHECKPOINT is what --model and BASE_CHECKPOINT_PATH take. On a pod
every host calls the command.
"""

import argparse
import logging
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np

from rest_jax.artifacts import (
  manifests,
  model_formats,
  orbax_files,
  storage,
)
from rest_jax.config import configuration
from rest_jax.distributed import multihost, partitioning
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import (
  described,
  orbax_base,
  orbax_items,
  policies,
  tensor_pieces,
  weights,
)
from rest_jax.tokenizers import (
  hf_files,
  vocabulary_checks,
  vocabulary_files,
)

DTYPES = ('bfloat16', 'float32')
_STARTED = 'import_started.json'  # there while an import is under way
# Of a source, by ours: what is read in another has changed no value.
_EXACT = {
  'float32': {None, *map(np.dtype, ('float32', 'float16', ml_dtypes.bfloat16))},
  'bfloat16': {np.dtype(ml_dtypes.bfloat16)},
}


def run(arguments: Sequence[str]) -> int:
  """Imports a checkpoint; returns 0."""
  parser = argparse.ArgumentParser(
    prog='rest-jax import',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__,
  )
  parser.add_argument(
    '--from', dest='source', required=True, metavar='FOLDER|FILE.gguf'
  )
  parser.add_argument('--to', required=True, metavar='CHECKPOINT')
  parser.add_argument(
    '--dtype',
    choices=DTYPES,
    help="of the weights; by default the source's: bfloat16 for bfloat16 and "
    'for quantised files, else float32',
  )
  parser.add_argument(
    '--tokenizer', metavar='PATH', help="in place of the source's own"
  )
  flags = parser.parse_args(arguments)
  # Orbax warns of every item that it reads alone.
  logging.getLogger('absl').setLevel(logging.ERROR)
  multihost.initialize()
  import_checkpoint(
    flags.source, flags.to, dtype=flags.dtype, tokenizer=flags.tokenizer
  )
  return 0


def import_checkpoint(
  source: storage.PathLike,
  target: storage.PathLike,
  *,
  dtype: str | None = None,
  tokenizer: str | None = None,
) -> None:
  """Writes a checkpoint anew, as Orbax has it. Collective.

  Args:
    source: a path in one of the formats that hold weights.
    target: a folder, local or gs://, that is empty or not there; or the
      unfinished one of an import that was killed, which is made anew.
    dtype: of the weights, one of DTYPES; None: the source's.
    tokenizer: what vocabulary_files.load takes; None: the source's own.

  Raises:
    ConfigurationError: the source is damaged, incomplete or not implemented,
      or the target holds something else.
    OSError: the disk is full.
  """
  folder = storage.path(target)
  model = described.network(source)
  opened = policies.opened(source, model)
  dtype = dtype or tensor_pieces.natural_dtype(opened, model)
  of_source = policies.digest(source)
  digest = of_source
  if not _is_exact(opened, model, dtype):
    digest = manifests.digest_of([of_source, dtype])
  if multihost.from_writer(lambda: _begin(folder, digest, dtype)):
    multihost.say(f'{target}: imported already')
    return
  parameters = policies.load(source, model, _mesh(model), dtype=dtype)
  orbax_items.save(folder / orbax_files.PARAMS, parameters)
  made_of = {
    'format': model_formats.of_weights(source).name,
    'path': os.fspath(storage.absolute(source)),
    'digest': of_source,
  }

  def finish() -> None:
    spec = tokenizer or vocabulary_files.lying_with(source)
    spec = spec and vocabulary_files.resolve(spec)
    names = _write_tokenizer(spec, folder, model) if spec else []
    orbax_base.describe(
      folder,
      model,
      dtype=dtype,
      digest=digest,
      source=made_of,
      tokenizer=names,
    )
    (folder / _STARTED).unlink()
    beside = '' if names else '; no tokenizer lies with the source'
    print(f'{target}: {model.num_parameters:,} parameters, {dtype}{beside}')

  multihost.from_writer(finish)


def _begin(folder: storage.Path, digest: str, dtype: str) -> bool:
  """Whether the target is finished already; else makes it ready.

  Raises:
    ConfigurationError: it holds something else.
  """
  storage.require_folder(folder, '--to')
  if (folder / orbax_files.NAME).exists():
    found = orbax_files.description(folder)
    if (found['digest'], found['dtype']) == (digest, dtype):
      orbax_files.require_files(folder)
      return True
    raise configuration.ConfigurationError(
      f'--to: {folder} holds {found["source"]["path"]} as {found["dtype"]}, '
      f'which is not what would be imported ({dtype}). Remove it, or name '
      'another folder.'
    )
  if (folder / _STARTED).exists():
    folder.rmtree()  # of an import that was killed
  elif folder.exists() and any(folder.iterdir()):
    raise configuration.ConfigurationError(
      f'--to: {folder} is not empty, and no import of ours. Name another '
      'folder.'
    )
  storage.write_json(folder / _STARTED, {'digest': digest, 'dtype': dtype})
  return False


def _mesh(model: DecoderConfig) -> jax.sharding.Mesh:
  """All devices of all hosts; the weights are split over as many as can be."""
  number = math.gcd(model.embed_dim, jax.device_count())
  return partitioning.make_mesh(partitioning.MeshConfig(data=-1, fsdp=number))


def _is_exact(source: weights.Source, model: DecoderConfig, dtype: str) -> bool:
  found: set[Any] = {source.dtype(tensor) for tensor in weights.tensors(model)}
  return found <= _EXACT[dtype]


def _write_tokenizer(
  spec: str, folder: storage.Path, model: DecoderConfig
) -> list[str]:
  vocabulary = vocabulary_files.load(spec)
  vocabulary_checks.require_fits(vocabulary, model.vocab_size)
  return hf_files.write(vocabulary, folder, max_length=model.max_length)
