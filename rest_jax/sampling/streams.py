"""What is asked of a policy (a stream), and how the engine is laid out."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from rest_jax.config import configuration


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream(configuration.Configuration):
  """A purpose that samples are drawn for, and the way they are drawn.

  The random bits of a sample depend on its stream's name, so that the E-step,
  the validation and the evaluation never share noise.

  Attributes:
    name: e_step, dval, difficulty, or eval/<name>.
    num_samples: per problem, of every task or {task: number}; 0 where the
      stream is not drawn.
    temperature: 0 is greedy (one sample is then all there is).
    top_k: sample among this many best tokens; 0 for all.
    top_p: sample among the fewest best tokens of at least this probability.
    min_p: sample among the tokens at least this many times as probable as the
      best; 0 for all.
    few_shot: whether the prompt holds the exemplars.
  """

  name: str
  num_samples: int | Mapping[str, int]
  temperature: float
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  few_shot: bool = True

  def check(self):
    known = ('e_step', 'dval', 'difficulty')
    self.require(
      self.name in known or self.name.startswith('eval/'),
      'name',
      ' | '.join(known) + ' | eval/<name>',
    )
    numbers = self.num_samples
    numbers = numbers.values() if isinstance(numbers, Mapping) else [numbers]
    ok = all(number >= 0 for number in numbers)
    self.require(ok, 'num_samples', '>= 0 (0: not drawn)')
    self.require(self.temperature >= 0, 'temperature', '>= 0')
    self.require(self.top_k >= 0, 'top_k', '>= 0 (0: no limit)')
    self.require(0 < self.top_p <= 1, 'top_p', '0 < top_p <= 1')
    self.require(0 <= self.min_p <= 1, 'min_p', '0 <= min_p <= 1')
    if self.temperature == 0:
      ok = all(number <= 1 for number in numbers)
      self.require(ok, 'num_samples', '1 where temperature is 0')

  def of_task(self, task: str) -> 'Stream':
    """The stream with the one number of samples that this task gets.

    Raises:
      ConfigurationError: num_samples says nothing of the task.
    """
    where = f'the stream {self.name!r}: num_samples'
    number = configuration.per_task(where, self.num_samples, task)
    return dataclasses.replace(self, num_samples=number)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineConfig(configuration.Configuration):
  """The engine's layout. All of it is in the engine's fingerprint.

  Attributes:
    groups: problems that are decoded at once.
    lanes: samples of one problem that are decoded at once.
    greedy_groups: problems at once where one sample each is wanted; they are
      decoded with a single lane.
    max_decode_length: tokens at most for a completion, EOS included.
    prompt_bucket: the part of a prompt that is a problem's own is padded to
      this many tokens, or the least of 2, 4, 8, … times as many that holds it;
      the part that many share, to a multiple of it.
    chunk: decode steps between two looks of the host at the samples; a lane
      starts a sample only between them.
    questions: prompts that are read at once, on each shard of the groups.
    seed: of every random bit.
    problems_per_part: problems in one part of the output.
    weights: what the policy is multiplied with: 'as_trained', its own weights
      in the network's dtype; 'int8', its matrices rounded to 8 bits with a
      scale per output channel (models/quantization.py).
    cache: how keys and values of earlier tokens are kept: 'as_computed', in the
      network's dtype; 'int8', rounded to 8 bits with a scale per token and head
      (models/caches.py).
  """

  groups: int
  lanes: int
  greedy_groups: int
  max_decode_length: int
  prompt_bucket: int
  seed: int
  chunk: int = 16
  questions: int = 4
  problems_per_part: int = 64
  weights: Literal['as_trained', 'int8'] = 'as_trained'
  cache: Literal['as_computed', 'int8'] = 'as_computed'

  def check(self):
    for field in dataclasses.fields(self):
      if field.name not in ('seed', 'weights', 'cache'):
        value = getattr(self, field.name)
        self.require(value > 0, field.name, 'at least 1')
    self.require(0 <= self.seed < 2**32, 'seed', '0 <= seed < 2**32')

  def layout(self, stream: Stream) -> tuple[int, int]:
    """(groups, lanes) of a stream: greedy wants one lane, whatever is asked."""
    if stream.temperature == 0:
      return self.greedy_groups, 1
    return self.groups, self.lanes
