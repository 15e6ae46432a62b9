"""A run's programs, compiled with other dials than those that are set."""

from collections.abc import Callable
from typing import TypeVar

from rest_jax.costs import search, whole_run
from rest_jax.costs.compiled_run import CompiledRun
from rest_jax.costs.figures import Sampling, Training
from rest_jax.executors import memory_errors
from rest_jax.sampling.streams import Stream

Found = TypeVar('Found')


def training(
  run: CompiledRun, size: whole_run.Size, compiles: int, as_set: Training | None
) -> list[str]:
  """Other ways to train; the best few, in lines.

  Args:
    run: with its own dials.
    size: of the run.
    compiles: how many are tried, at most.
    as_set: what its own dials give; None: they do not fit.
  """
  trainings = size.extent.iterations * len(size.extent.learning_rates)

  def hours(of: Training | None) -> float | None:
    if of is None or not of.step.fits:
      return None
    return trainings * size.steps * of.step.seconds * of.chips / 3600

  def cost(step: search.Step) -> float | None:
    found = _or_none(run.with_step(step).training)
    return hours(found and found.training)

  start = search.Outcome(run.step(), hours(as_set))
  moves = search.training_moves(run.config, run.devices, run.divides)
  return search.lines(
    'training', start, search.explore(start, moves, cost, compiles)
  )


def sampling(
  run: CompiledRun,
  stream: Stream,
  size: whole_run.Size,
  compiles: int,
  as_set: Sampling | None,
) -> list[str]:
  """Other ways to sample; the best few, in lines.

  Args:
    run: with its own dials.
    stream: of the E-step.
    size: of the run.
    compiles: how many are tried, at most.
    as_set: what its own dials give; None: they do not fit.
  """

  def hours(of: Sampling | None) -> float | None:
    if of is None or of.memory['total'] > of.step.chip.hbm_bytes:
      return None
    return size.extent.iterations * of.chips * whole_run.sampling(size, of)

  def cost(decoding: search.Decoding) -> float | None:
    other = run.with_decoding(decoding)
    found = _or_none(lambda: other.sampling(stream))
    return hours(found and found.sampling)

  start = search.Outcome(run.decoding(), hours(as_set))
  chips = run.worker_mesh.size
  moves = search.sampling_moves(run.model, chips, size.num_samples)
  return search.lines(
    'sampling', start, search.explore(start, moves, cost, compiles)
  )


def _or_none(compiled: Callable[[], Found]) -> Found | None:
  """What a function compiles; None where a chip has not the memory."""
  try:
    return compiled()
  except Exception as error:
    if not memory_errors.is_out_of_memory(error):
      raise
    return None
