"""`rest-jax run`: a model and a file of problems, and nothing else to say.

    rest-jax run --model=model.gguf --problems=problems.jsonl [--run_dir=…]

is short for launch/rest_em.py with gin/runs/own_problems.gin and three
bindings. Everything else that launch/rest_em.py takes may follow.
"""

import argparse
import pathlib
from collections.abc import Sequence

from rest_jax.artifacts import model_formats, storage
from rest_jax.config import configuration, packaged_gin

RUN_FILE = 'runs/own_problems.gin'


def add_flags(target: argparse.ArgumentParser) -> None:
  """Adds --model, --problems and --run_dir."""
  target.add_argument(
    '--model',
    metavar='PATH',
    help='the base model: a .gguf file, a folder of safetensors, or '
    'checkpoints of ours',
  )
  target.add_argument(
    '--problems',
    metavar='FILE.jsonl',
    help='your problems: {"question": …, "answer": …} a line',
  )
  target.add_argument(
    '--run_dir',
    metavar='FOLDER',
    help='everything is written below it (runs/<problems>)',
  )


def expand(
  flags: argparse.Namespace, bindings: Sequence[str]
) -> tuple[list[str], list[str]]:
  """What --model, --problems and --run_dir are short for.

  Args:
    flags: with `add_flags`.
    bindings: of the command line; they override.

  Returns:
    (gin files, bindings).

  Raises:
    ConfigurationError: the model or the problems are not there, or neither
      these flags nor a gin file says what to run.
  """
  files, added = list(flags.gin_file), []
  if not (files or flags.model or flags.problems):
    raise configuration.ConfigurationError(
      'nothing says what to run. Give --model=PATH --problems=FILE.jsonl, or '
      '--gin_file= with one of\n' + packaged_gin.listed('runs')
    )
  if not flags.run_dir and not flags.model and not flags.problems:
    return files, list(bindings)
  named = {binding.partition('=')[0].strip() for binding in bindings}
  if flags.model or flags.problems:
    if RUN_FILE not in files:
      files.insert(0, RUN_FILE)
    if not flags.model and 'BASE_CHECKPOINT_PATH' not in named:
      raise configuration.ConfigurationError(
        '--model is missing: the path of the base model, '
        f'{model_formats.expected_weights()}.'
      )
    if not flags.problems and 'INPUT' not in named:
      raise configuration.ConfigurationError(
        '--problems is missing: a JSONL file with a line for each problem, '
        '{"question": "…", "answer": "…"}.'
      )
  if flags.model:
    model_formats.of_weights(flags.model)
    added.append(f'BASE_CHECKPOINT_PATH={flags.model}')
  if flags.problems:
    if not storage.path(flags.problems).exists():
      raise configuration.ConfigurationError(
        f'--problems={flags.problems}: no such file.'
      )
    added.append(f'INPUT={flags.problems}')
    if not flags.run_dir and 'RUN_DIR' not in named:
      stem = pathlib.PurePath(flags.problems).stem
      added.append(f'RUN_DIR=runs/{stem}')
  if flags.run_dir:
    added.append(f'RUN_DIR={flags.run_dir}')
  return files, [*added, *bindings]
