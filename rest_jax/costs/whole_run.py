"""The hours of a run, from what its programs take and how much it draws."""

import dataclasses
import math

from rest_jax.config import configuration
from rest_jax.costs.figures import Sampling, Training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extent(configuration.Configuration):
  """How far a run goes.

  Attributes:
    iterations: of the loop.
    learning_rates: of an M-step, each a training of its own.
    eval_streams: of the base and of the final model.
    eval_samples: of an evaluated problem in the stream eval/sampled.
  """

  iterations: int
  learning_rates: tuple[float, ...]
  eval_streams: tuple[str, ...]
  eval_samples: int


@dataclasses.dataclass(frozen=True)
class Size:
  """How much a run samples and trains.

  Attributes:
    extent: how far it goes.
    problems: that the E-step samples; D_val's are not among them.
    dval_problems: of D_val.
    eval_problems: of all evaluated sets.
    num_samples: of a problem in an E-step.
    dval_samples: of a problem of D_val.
    completion: tokens of a sample, on average.
    longest: tokens of a sample, at most.
    kept: solutions of a problem, on average.
    steps: of a training, at most.
    epochs: passes over the examples, at most; 0: no limit.
    dval_every: steps between two validations.
  """

  extent: Extent
  problems: int
  dval_problems: int
  eval_problems: int
  num_samples: int
  dval_samples: int
  completion: float
  longest: int
  kept: float
  steps: int
  epochs: float
  dval_every: int


@dataclasses.dataclass(frozen=True)
class Hours:
  """Of a run.

  Attributes:
    sampling, training, validation, evaluation: hours.
    chip_hours: of all.
    steps: of one training, at most.
    passes: over the examples in those steps.
    validating: seconds that one validation takes.
    between: seconds of the steps between two of them.
  """

  sampling: float
  training: float
  validation: float
  evaluation: float
  chip_hours: float
  steps: int
  passes: float
  validating: float
  between: float

  @property
  def dval_share(self) -> float:
    """A validation beside the steps between two, as a share of these."""
    return self.validating / self.between

  @property
  def total(self) -> float:
    return self.sampling + self.training + self.validation + self.evaluation


def hours(
  size: Size,
  training: Training,
  sample: Sampling,
  dval: Sampling,
  workers: int,
) -> Hours:
  """The hours and chip-hours of a run, one stage after the other.

  Every training goes on to its last step: D_val may stop it sooner. Grading,
  loading and compiling are not counted.

  Args:
    size: of the run.
    training, sample, dval: its programs.
    workers: that share the sampling.
  """
  loops = size.extent.iterations
  trainings = loops * len(size.extent.learning_rates)
  steps, examples = size.steps, size.problems * size.kept
  if size.epochs:
    steps = min(steps, math.ceil(size.epochs * examples / training.examples))
  trained = trainings * steps * training.step.seconds / 3600
  validated = (
    trainings * (1 + steps // size.dval_every) * _validation(size, dval)
  )
  sampled = loops * sampling(size, sample) / workers
  evaluated = _evaluation(size, sample) / workers
  return Hours(
    sampling=sampled,
    training=trained,
    validation=validated,
    evaluation=evaluated,
    chip_hours=workers * sample.chips * (sampled + evaluated)
    + training.chips * (trained + validated),
    steps=steps,
    passes=steps * training.examples / max(examples, 1),
    validating=3600 * _validation(size, dval),
    between=min(size.dval_every, steps) * training.step.seconds,
  )


def sampling(size: Size, sample: Sampling) -> float:
  """Hours of one worker that draws a whole E-step."""
  drawn = size.problems * size.num_samples
  return sample.hours(drawn, size.problems, size.completion)


def _validation(size: Size, dval: Sampling) -> float:
  """Hours; a validation is as long as its longest sample, at least."""
  drawn = size.dval_problems * size.dval_samples
  return max(
    dval.hours(drawn, size.dval_problems, size.completion),
    size.longest * dval.seconds / 3600,
  )


def _evaluation(size: Size, sample: Sampling) -> float:
  """Hours of one worker, as fast as the E-step samples.

  All models are evaluated greedily; the base and the final one in all streams.
  """
  models = 1 + size.extent.iterations
  prompts = models * size.eval_problems
  samples = prompts
  if 'eval/sampled' in size.extent.eval_streams:
    both = min(models, 2) * size.eval_problems
    prompts, samples = prompts + both, samples + both * size.extent.eval_samples
  return sample.hours(samples, prompts, size.completion)
