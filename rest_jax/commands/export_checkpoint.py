"""The command export: a checkpoint as other programs load it.

    rest-jax export --from=RUN_DIR --to=FOLDER
    rest-jax export --from=CHECKPOINT --to=FILE.gguf --dtype=q8_0
    rest-jax export --from=RUN_DIR --to=FOLDER --adapter

FOLDER is as Hugging Face has it: transformers and vLLM load it. FILE.gguf is
llama.cpp's. The tokenizer is written with the weights. A policy that was
trained with LoRA is merged; with --adapter FOLDER holds its adapters alone, as
peft loads them.
"""

import argparse
import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence

from rest_jax.artifacts import (
  model_formats,
  storage,
)
from rest_jax.commands import export_source
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import (
  described,
  gguf_writer,
  hf_config_writer,
  safetensors_writer,
  tensor_pieces,
)
from rest_jax.tokenizers import (
  hf_files,
  vocabularies,
  vocabulary_checks,
  vocabulary_files,
)


def run(arguments: Sequence[str]) -> int:
  """Exports a checkpoint; returns 0."""
  flags = _parser().parse_args(arguments)
  # Nothing is computed here: a TPU of this machine stays free.
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  # Orbax warns of every item that it reads alone.
  logging.getLogger('absl').setLevel(logging.ERROR)
  checkpoint = export_source.checkpoint_of(flags.source, flags.iteration)
  if flags.adapter:
    export_adapter(checkpoint, flags.to)
    return 0
  export(
    checkpoint,
    flags.to,
    dtype=flags.dtype,
    tokenizer=export_source.tokenizer_of(checkpoint, flags.tokenizer),
  )
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='rest-jax export',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__,
  )
  parser.add_argument(
    '--from',
    dest='source',
    required=True,
    metavar='CHECKPOINT|RUN_DIR',
    help='any checkpoint, or a run: then its last policy',
  )
  parser.add_argument(
    '--to', required=True, metavar='FOLDER|FILE.gguf', help='must not exist'
  )
  parser.add_argument(
    '--iteration', type=int, help='of a run: this policy in place of the last'
  )
  parser.add_argument(
    '--adapter',
    action='store_true',
    help='of a policy that was trained with LoRA: its adapters alone',
  )
  parser.add_argument(
    '--dtype',
    choices=[*safetensors_writer.DTYPES, *gguf_writer.DTYPES],
    help='of the matrices; of a folder: bfloat16, float16, float32, by default '
    'what the run computed in; of a file: f16, bf16, q8_0, f32',
  )
  parser.add_argument(
    '--tokenizer',
    metavar='PATH',
    help="in place of the checkpoint's own, or the run's; 'none': the weights "
    'alone',
  )
  return parser


def export(
  checkpoint: storage.PathLike,
  target: str,
  *,
  dtype: str | None = None,
  tokenizer: export_source.Tokenizer | None = None,
) -> None:
  """Writes a checkpoint to a folder of safetensors or to a GGUF file.

  Args:
    checkpoint: a path in one of the formats that hold weights.
    target: FOLDER or FILE.gguf, on a local disk; must not exist.
    dtype: see --dtype.
    tokenizer: that is written too; a GGUF file must have one.

  Raises:
    ConfigurationError: the format cannot express the network or tokenizer, the
      target is there, or the disk is too small.
    OSError: the disk is full.
  """
  from rest_jax.models.checkpoints import policies

  is_file = _is_gguf(target)
  writer = gguf_writer if is_file else safetensors_writer
  _require_free(target)
  model = described.network(checkpoint)
  vocabulary = _vocabulary(tokenizer, model, is_file)
  if is_file:
    model_there = gguf_writer.expressible(model)
  else:
    hf_config_writer.content(model, 'float32')  # raises before much is read
    model_there = model
  source = policies.opened(checkpoint, model)
  dtype = dtype or _default_dtype(checkpoint, source, model, is_file)
  if dtype not in writer.DTYPES:
    raise configuration.ConfigurationError(
      f'--dtype: got {dtype!r}; allowed for {target}: '
      f'{", ".join(writer.DTYPES)}.'
    )
  _require_space(target, writer.num_bytes(model, dtype))
  with _beside(target) as place:
    if is_file:
      metadata = vocabulary_files.metadata(tokenizer.spec)
      for turn in tokenizer.eos_ids[:1]:  # of the run's chats
        if turn != vocabulary.eos_id:
          metadata.setdefault('tokenizer.ggml.eot_token_id', turn)
      name = model_formats.without_suffix(os.path.basename(target))
      gguf_writer.write(
        place,
        source,
        model_there,
        dtype=dtype,
        tokenizer=metadata,
        name=name,
      )
      if not _is_gguf(tokenizer.spec):
        hf_files.require_same(vocabulary, place)
    else:
      _write_folder(place, source, model, dtype, vocabulary, tokenizer)
  print(f'{target}: {model.num_parameters:,} parameters, {dtype}')


def export_adapter(checkpoint: storage.PathLike, target: str) -> None:
  """Writes the LoRA adapters of a checkpoint in the format of peft.

  Args:
    checkpoint: of the train stage.
    target: a folder on a local disk; must not exist.

  Raises:
    ConfigurationError: it holds no adapters, the model that they belong to is
      an earlier iteration's, which peft cannot load, or the target is there.
  """
  import jax

  from rest_jax.distributed import partitioning
  from rest_jax.models.checkpoints import peft_adapter, policies

  _require_free(target)
  base = policies.adapter_base(checkpoint)
  if base is None:
    raise configuration.ConfigurationError(
      f'--adapter: {checkpoint} holds a whole model; adapters are of an M-step '
      'with LORA_RANK above 0. Leave --adapter out.'
    )
  if model_formats.of_weights(base.path).name == model_formats.TRAIN:
    raise configuration.ConfigurationError(
      f'--adapter: these adapters belong to {base.path}, which this package '
      'alone can load. Leave --adapter out, so that they are merged.'
    )
  model = described.network(checkpoint)
  mesh = partitioning.make_mesh(
    partitioning.MeshConfig(), devices=jax.local_devices()[:1]
  )
  arrays = policies.load_adapters(checkpoint, model, mesh)
  with _beside(target) as place:
    peft_adapter.write(arrays, model, base.config, base.path, place)
  print(f'{target}: adapters of rank {base.config.rank} for {base.path}')


def _is_gguf(path: str) -> bool:
  row = model_formats.of_file_name(path)
  return row is not None and row.name == model_formats.GGUF


def _write_folder(
  place: str,
  source: object,
  model: DecoderConfig,
  dtype: str,
  vocabulary: vocabularies.Vocabulary | None,
  tokenizer: export_source.Tokenizer | None,
) -> None:
  folder = storage.path(place)
  folder.mkdir()
  config = hf_config_writer.content(model, dtype)
  if vocabulary is not None:
    hf_files.write(
      vocabulary,
      folder,
      eos_ids=tokenizer.eos_ids,
      max_length=model.max_length,
    )
    ids = storage.read_json(folder / hf_files.GENERATION)
    config |= {key: ids[key] for key in ids if key.endswith('_token_id')}
  safetensors_writer.write(folder, source, model, dtype=dtype, config=config)


def _require_free(target: str) -> None:
  if storage.is_remote(target):
    raise configuration.ConfigurationError(
      f'--to: got {target!r}; a model is written to a local disk. Copy it from '
      'there.'
    )
  path = storage.path(target)
  if path.exists() and not (path.is_dir() and not any(path.iterdir())):
    raise configuration.ConfigurationError(
      f'--to: {target} is there already, and is not overwritten. Remove it, or '
      'name another.'
    )


def _vocabulary(
  tokenizer: export_source.Tokenizer | None, model: DecoderConfig, is_file: bool
) -> vocabularies.Vocabulary | None:
  """The tokenizer, if one is written; raises unless it is the network's."""
  if tokenizer is None:
    if is_file:
      raise configuration.ConfigurationError(
        f'--tokenizer: got {export_source.NO_TOKENIZER!r}; a GGUF file must '
        'hold a tokenizer.'
      )
    return None
  vocabulary = vocabulary_files.load(tokenizer.spec)
  vocabulary_checks.require_fits(vocabulary, model.vocab_size)
  if tokenizer.digest not in (None, vocabulary.digest):
    raise configuration.ConfigurationError(
      f'{tokenizer.spec}: not the vocabulary that the run was prepared with; '
      'it has changed since. Name that one: --tokenizer=PATH.'
    )
  return vocabulary


def _default_dtype(
  checkpoint: storage.PathLike,
  source: object,
  model: DecoderConfig,
  is_file: bool,
) -> str:
  """What the run computed in, or the checkpoint's own; of a file 16 bits."""
  trained = model_formats.of_weights(checkpoint).name == model_formats.TRAIN
  own = model.dtype if trained else tensor_pieces.natural_dtype(source, model)
  if is_file:
    return 'bf16' if own == 'bfloat16' else 'f16'
  return own


def _require_space(target: str, needed: int) -> None:
  """Raises where the disk is certainly too small."""
  folder = os.path.dirname(os.path.abspath(target))
  os.makedirs(folder, exist_ok=True)
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise configuration.ConfigurationError(
      f'--to: {target} takes {needed / 1e9:.1f} GB, and {folder} has '
      f'{free / 1e9:.1f} GB left. Free some space, or name another disk or a '
      'narrower --dtype.'
    )


@contextlib.contextmanager
def _beside(target: str) -> Iterator[str]:
  """A place to write to, which becomes the target once it is complete.

  What is left of an export that was killed is removed by the next.
  """
  folder, name = os.path.split(os.path.abspath(target))
  place = os.path.join(folder, f'.partial.{name}')  # the suffix counts
  _remove(place)
  try:
    yield place
    if os.path.isdir(target):
      os.rmdir(target)  # it was empty
    os.replace(place, target)
  finally:
    _remove(place)


def _remove(place: str) -> None:
  if os.path.isdir(place):
    shutil.rmtree(place)
  elif os.path.exists(place):
    os.unlink(place)
