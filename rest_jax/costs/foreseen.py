"""What a run will be: its dials as the launcher will derive them.

Where the run's problems are prepared (RUN_DIR), their lengths count. Else
lengths are assumed: PREFLIGHT_TRAIN_PROBLEMS and the dials behind it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rest_jax.artifacts import manifests, storage
from rest_jax.config import configuration, gin_parser
from rest_jax.costs.training_rows import Texts, lengths
from rest_jax.executors import machine, topologies
from rest_jax.executors.machine import Machine
from rest_jax.pipeline import (
  automatic,
  derived_sizes,
  sampling_sizes,
  sizes,
  training_sizes,
)
from rest_jax.pipeline.sizes import AUTO, Dial
from rest_jax.tasks import problem_sets

SAMPLE, TRAIN, DVAL = 'sample', 'train', 'dval'
_ASSUMED = (
  *('PREFLIGHT_TRAIN_PROBLEMS', 'PREFLIGHT_EVAL_PROBLEMS'),
  *('PREFLIGHT_PREFIX', 'PREFLIGHT_QUESTION'),
)
_READ = (
  *('PREFLIGHT_TOPOLOGY', 'PREFLIGHT_PROGRAMS', 'PREFLIGHT_COMPLETION'),
  'PREFLIGHT_FULL_ROWS',
  *('SLICES', 'SAMPLE_TOPOLOGY', 'WORKERS', 'DVAL_SHARE', *_ASSUMED),
)


@dataclasses.dataclass(frozen=True)
class Foreseen:
  """What a run will be.

  Attributes:
    prompts: of its problems.
    dval_problems: how many of the evaluated ones are D_val's.
    texts: of its training.
    full_rows: whether rows of one text each stand for those of its training.
    assumed: what of it was assumed, in words; '': nothing.
    refused: why the launcher would not start it, by its own estimate; '': it
      would.
    worker: the slice of a worker that samples.
    workers: how many.
    dials: that were derived, by name.
  """

  prompts: sizes.Prompts = dataclasses.field(repr=False)  # thousands
  dval_problems: int
  texts: Texts = dataclasses.field(repr=False)
  full_rows: bool
  assumed: str
  refused: str
  worker: topologies.Topology
  workers: int
  dials: dict[str, Dial]

  @property
  def question(self) -> int:
    """Tokens of a prompt's own part, in most problems."""
    own = np.asarray(self.prompts.train) - self.prompts.shared
    return max(1, int(np.percentile(own, 75)))

  @property
  def longest_question(self) -> int:
    return max(1, self.prompts.longest - self.prompts.shared)


def parse(
  *,
  gin_files: Sequence[str],
  bindings: Sequence[str],
  search_paths: Sequence[str],
) -> tuple[Callable[..., Any], dict[str, Any]]:
  """gin_parser.parse of the stage preflight, every 'auto' derived.

  Args: as there.

  Returns:
    (the stage's function, its arguments, `foreseen` among them).

  Raises:
    ConfigurationError: a dial is wrong, or the model does not fit into the
      devices' memory whatever the sizes are.
  """
  read = {'gin_files': gin_files, 'search_paths': search_paths}
  dials = gin_parser.macros('preflight', _READ, bindings=bindings, **read)
  wanted = dials['PREFLIGHT_PROGRAMS']
  slice_ = topologies.parse(dials['PREFLIGHT_TOPOLOGY'], 'PREFLIGHT_TOPOLOGY')
  on = [*bindings, f"TOPOLOGY='{slice_}'"]
  found = automatic.Automatic('rest_em', gin_files, on, search_paths)
  derived = found.before_plan()
  asked = found.asked()
  prompts, dval_problems, assumed = _prompts(found, asked, dials)
  sizes.require_room(asked, prompts)
  samples = bool({SAMPLE, DVAL} & {*wanted})
  worker = _worker(asked, prompts, slice_, dials, samples)
  training = machine.of_slices(slice_, dials['SLICES'])
  sizes_found, refused = _sizes(
    *(asked, prompts, machine.of_slices(worker), training), samples=samples
  )
  derived |= found.take(sizes_found)
  if not samples:  # what the configuration needs to be whole
    found.take({name: Dial(1, 'not asked for') for name in _OF_SAMPLING})
  with found.readable() as files:
    function, bound = gin_parser.parse(
      'preflight',
      gin_files=files,
      bindings=found.remaining,
      search_paths=search_paths,
    )
  longest = asked.max_decode_length
  bound['foreseen'] = Foreseen(
    prompts=prompts,
    dval_problems=dval_problems,
    texts=Texts(
      prompts=prompts.train,
      prefix=prompts.shared,
      solution=min(dials['PREFLIGHT_COMPLETION'], longest),
      longest=longest,
      kept=training_sizes.kept_solutions(asked),
    ),
    full_rows=dials['PREFLIGHT_FULL_ROWS'],
    assumed=assumed,
    refused=refused,
    worker=worker,
    workers=_workers(slice_, worker, dials),
    dials=derived,
  )
  return function, bound


_OF_SAMPLING = (
  *('SAMPLE_MESH_TENSOR', 'DVAL_MESH_TENSOR', 'GROUPS', 'LANES'),
  *('GREEDY_GROUPS', 'PROMPT_BUCKET', 'DECODE_CHUNK', 'PROBLEMS_PER_PART'),
)


def _sizes(
  asked: sizes.Asked,
  prompts: sizes.Prompts,
  sampling: Machine,
  training: Machine,
  *,
  samples: bool,
) -> tuple[dict[str, Dial], str]:
  """The sizes that the launcher derives, and why it would refuse the training.

  What it counts is an estimate. Here the compiler has the last word, so that a
  training which it refuses is compiled as if there were memory enough, in rows
  that are no longer than they must be.
  """
  devices = sampling, training
  try:
    found = derived_sizes.derive(asked, prompts, *devices, samples=samples)
    return found, ''
  except configuration.ConfigurationError as error:
    if not str(error).startswith('training:'):
      raise configuration.ConfigurationError(
        f'{error} --gin.PREFLIGHT_PROGRAMS="[\'train\']" compiles the training '
        'alone.'
      ) from error
    ample = dataclasses.replace(training, device_bytes=2**50)
    least = training_sizes.least_row(asked, prompts, training)
    asked = dataclasses.replace(asked, row_length=least)
    found = derived_sizes.derive(
      asked, prompts, sampling, ample, samples=samples
    )
    return found, str(error)


def _prompts(
  found: automatic.Automatic, asked: sizes.Asked, dials: dict[str, Any]
) -> tuple[sizes.Prompts, int, str]:
  """(lengths of prompts, problems of D_val, what of them was assumed)."""
  run_dir = found.context.get('RUN_DIR')
  if run_dir and (storage.path(run_dir) / 'problems').exists():
    problems = storage.path(run_dir) / 'problems'
    dval = sum(
      manifests.load(problems / task / problem_sets.DVAL, stage='prepare')
      .table(columns=['id'])
      .num_rows
      for task in found.context['TASKS']
    )
    return found.prompts(), dval, ''
  problems, evaluated, prefix, question = (dials[name] for name in _ASSUMED)
  dval = round(dials['DVAL_SHARE'] * problems)
  # A small model's context holds less.
  room = max(8, asked.model.max_length - asked.max_decode_length)
  prefix = min(prefix, room // 2)
  question = min(question, (room - prefix) // 4)
  drawn = lengths(question, problems + evaluated, room - prefix, seed=2)
  whole = (prefix + drawn).tolist()
  completion = min(dials['PREFLIGHT_COMPLETION'], asked.max_decode_length)
  words = (
    f'{problems} training and {evaluated} test problems, prompts of '
    f'{prefix} + {question} tokens, completions of {completion} '
    '(PREFLIGHT_TRAIN_PROBLEMS, _EVAL_PROBLEMS, _PREFIX, _QUESTION, '
    '_COMPLETION)'
  )
  prompts = sizes.Prompts(
    train=whole[: problems - dval],
    evaluated=whole[problems - dval :],
    largest_set=evaluated,
    shared=prefix,
  )
  return prompts, dval, words


def _worker(
  asked: sizes.Asked,
  prompts: sizes.Prompts,
  slice_: topologies.Topology,
  dials: dict[str, Any],
  samples: bool,
) -> topologies.Topology:
  """The slice of one worker: the smallest, of whole hosts, that samples."""
  if dials.get('SAMPLE_TOPOLOGY'):
    return topologies.parse(dials['SAMPLE_TOPOLOGY'], 'SAMPLE_TOPOLOGY')
  if not samples:
    return slice_
  if asked.sample_tensor != AUTO:
    least = max(asked.sample_tensor, slice_.chips_per_host)
  else:
    least = slice_.chips_per_host
  for name in slice_.generation.shapes:
    tried = topologies.parse(f'{slice_.generation.name}:{name}', 'worker')
    if not least <= tried.chips < slice_.chips:
      continue
    try:
      sampling_sizes.derive(asked, prompts, machine.of_slices(tried))
    except configuration.ConfigurationError:
      continue
    return tried
  return slice_


def _workers(
  slice_: topologies.Topology,
  worker: topologies.Topology,
  dials: dict[str, Any],
) -> int:
  """As set; else as many as the slices of the training hold."""
  if dials['WORKERS'] > 1 or dials.get('SAMPLE_TOPOLOGY'):
    return dials['WORKERS']
  return max(1, slice_.chips * dials['SLICES'] // worker.chips)
