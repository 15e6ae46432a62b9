"""What `rest-jax export` reads: which checkpoint, and which tokenizer."""

from typing import NamedTuple

from rest_jax.artifacts import (
  manifests,
  model_formats,
  run_paths,
  storage,
  task_card,
)
from rest_jax.config import configuration
from rest_jax.tokenizers import vocabulary_files

NO_TOKENIZER = 'none'  # --tokenizer: the weights alone


class Tokenizer(NamedTuple):
  """What is exported beside the weights.

  Attributes:
    spec: what vocabulary_files.load takes.
    eos_ids: that end a completion of the run's chats, before its own.
    digest: of the vocabulary that the run was prepared with, if it was.
  """

  spec: str
  eos_ids: tuple[int, ...] = ()
  digest: str | None = None


def checkpoint_of(
  source: storage.PathLike, iteration: int | None = None
) -> storage.Path:
  """The checkpoint at a path: itself, or the last policy of a run.

  Args:
    source: a checkpoint, or RUN_DIR.
    iteration: of the run's policy; None: its last.

  Raises:
    ConfigurationError: none is there.
  """
  path = storage.path(source)
  policies = {
    run_paths.iteration_number(folder.name): folder / 'checkpoints'
    for folder in (path.iterdir() if path.is_dir() else ())
    if run_paths.iteration_number(folder.name) is not None
    and (folder / 'checkpoints' / manifests.MANIFEST).exists()
  }
  if not policies:
    if iteration is not None:
      raise configuration.ConfigurationError(
        f'--iteration: {source} is not the folder of a run with a finished '
        'iteration.'
      )
    if path.is_dir() and (path / 'problems').exists():
      raise configuration.ConfigurationError(
        f'--from: the run {source} has no finished iteration yet.'
      )
    if model_formats.of_weights(path).name == model_formats.TRAIN:
      manifests.load(path, stage='train')  # raises where another made it
    return path
  number = max(policies) if iteration is None else iteration
  if number not in policies:
    raise configuration.ConfigurationError(
      f'--iteration: got {iteration}; finished in {source}: '
      f'{", ".join(map(str, sorted(policies)))}.'
    )
  return policies[number]


def tokenizer_of(
  checkpoint: storage.Path, given: str | None
) -> Tokenizer | None:
  """The tokenizer that belongs to a checkpoint.

  Args:
    checkpoint: its path.
    given: of --tokenizer.

  Returns:
    None where the weights alone are wanted.

  Raises:
    ConfigurationError: none is found.
  """
  if given == NO_TOKENIZER:
    return None
  if given is not None:
    return Tokenizer(vocabulary_files.resolve(given))
  spec = vocabulary_files.lying_with(checkpoint)
  if spec is not None:
    spec = vocabulary_files.resolve(spec)
    if model_formats.of_weights(checkpoint).name != model_formats.TRAIN:
      return Tokenizer(spec)
    problems = storage.absolute(checkpoint).parent.parent / 'problems'
    prepared = manifests.load(problems, stage='prepare')
    digest = prepared.statistics['digest']
    return Tokenizer(spec, _chat_ends(problems), digest)
  raise configuration.ConfigurationError(
    f'{checkpoint}: no tokenizer lies with it. Give it: --tokenizer=PATH of '
    f'{model_formats.expected_vocabulary()}; or --tokenizer={NO_TOKENIZER} for '
    'the weights alone.'
  )


def _chat_ends(problems: storage.Path) -> tuple[int, ...]:
  """The ids that end a completion of the run's problems, as prepared."""
  for path in sorted(problems.glob(f'*/*/{manifests.MANIFEST}')):
    return task_card.of(manifests.load(path.parent)).eos_ids
  return ()
