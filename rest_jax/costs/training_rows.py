"""The rows of a training that has not begun, from the lengths of its texts.

Examples are drawn with these lengths and packed as the train stage packs them
(training/packing.py, shared_rows.py), so that the step that is compiled, its
padding and its useful work are those of the run.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.selection import examples
from rest_jax.training import batches, packing, shared_rows
from rest_jax.training.hyperparameters import TrainConfig

_PROBLEMS = 400  # are drawn: as many as fill a few dozen rows
_SPREAD = 0.7  # of the logarithm of lengths: MATH's questions and solutions


@dataclasses.dataclass(frozen=True)
class Texts:
  """How long the texts of a training are, in tokens.

  Attributes:
    prompts: of the problems, whole.
    prefix: what all prompts begin with.
    solution: of a kept solution, on average.
    longest: of a solution.
    kept: solutions of a problem.
  """

  prompts: Sequence[int]
  prefix: int
  solution: float
  longest: int
  kept: float


@dataclasses.dataclass(frozen=True)
class Rows:
  """What the rows of a training hold, on average.

  Attributes:
    plan: of the step.
    examples: in a row.
    tokens: of a row, padding apart.
    targets: tokens of a row that are learned.
    most_targets: of the row that has most.
    pairs: (token, token that it attends to) of a row, for each kind of layer.
    prefix: tokens that are read once a step.
  """

  plan: batches.Plan
  examples: float
  tokens: float
  targets: float
  most_targets: int
  pairs: dict[str, float]
  prefix: int

  def flops(self, model: DecoderConfig, rows: int, trained: float = 1) -> float:
    """Operations that a step needs: what MFU is counted of.

    6 for each weight and token, 6 for each number of the unembedding and
    target, and 12 x heads x head width for each layer and pair of tokens: a
    multiplication and an addition forward, twice as many backward. Padding,
    what is computed again, and scores that a mask hides do not count.

    Args:
      model: the network.
      rows: of a step.
      trained: share of the weights that have gradients; 1 without LoRA.
    """
    outer = model.vocab_size * model.embed_dim
    blocks = model.num_parameters - outer * (1 if model.tie_embeddings else 2)
    tokens = rows * self.tokens + self.prefix
    of_weights = blocks * tokens + outer * rows * self.targets
    pairs = sum(
      rows * self.pairs[kind] + _pairs(np.arange(self.prefix), kind, model)
      for kind in map(model.kind, range(model.num_layers))
    )
    of_pairs = 12 * model.num_heads * model.head_dim * pairs
    return (4 + 2 * trained) * of_weights + of_pairs


def full(model: DecoderConfig, row_length: int) -> Rows:
  """Rows of one text each that fills the row, all of it learned.

  What other trainers state their MFU for.
  """
  positions = np.arange(row_length)
  return Rows(
    plan=batches.Plan(packing.PLAIN_FIELDS, row_length),
    examples=1,
    tokens=row_length,
    targets=row_length,
    most_targets=row_length,
    pairs={
      kind: _pairs(positions, kind, model) for kind in ('global', 'local')
    },
    prefix=0,
  )


def packed(model: DecoderConfig, config: TrainConfig, texts: Texts) -> Rows:
  """Rows as the train stage packs examples of such lengths.

  Args:
    model: the network.
    config: row_length, share_prompt, loss_normalizer.
    texts: of the training.

  Raises:
    ConfigurationError: no example fits a row.
  """
  make = shared_rows.SharedPacker if config.share_prompt else packing.Packer
  packer = make(
    _table(texts),
    row_length=config.row_length or model.max_length,
    seed=config.seed,
    loss_normalizer=config.loss_normalizer,
  )
  # The last ones are not full, as there are few examples.
  number = max(1, packer.rows_per_epoch - 1)
  fullest = sorted(range(packer.rows_per_epoch), key=_places(packer))[-number:]
  return of_packer(model, packer, fullest)


def of_packer(
  model: DecoderConfig, packer: packing.Packer, chosen: Sequence[int]
) -> Rows:
  """What some rows of a packer hold, on average.

  Args:
    model: the network.
    packer: of the examples.
    chosen: the numbers of the rows in the training.
  """
  number = len(chosen)
  made = [packer.batch([index]) for index in chosen]
  real = [rows.segment_ids > 0 for rows in made]
  learned = [int((rows.loss_weights > 0).sum()) for rows in made]
  positions = np.concatenate(
    [rows.positions[here] for rows, here in zip(made, real, strict=True)]
  )
  prefixes = packer.prefixes
  return Rows(
    plan=batches.Plan.of(packer),
    examples=packer.num_examples / packer.rows_per_epoch,
    tokens=sum(int(here.sum()) for here in real) / number,
    targets=sum(learned) / number,
    most_targets=max(learned),
    pairs={
      kind: _pairs(positions, kind, model) / number
      for kind in ('global', 'local')
    },
    prefix=0 if prefixes is None else int(prefixes.lengths_F.sum()),
  )


def _places(packer: packing.Packer):
  """The tokens of the row at a place of the training."""
  return lambda index: packer.tokens_in(index, 1)


def _pairs(positions: np.ndarray, kind: str, model: DecoderConfig) -> float:
  """What tokens at these positions of their texts attend to, in all."""
  seen = positions + 1
  if kind == 'local' and model.window is not None:
    seen = np.minimum(seen, model.window)
  return float(seen.sum())


def lengths(mean: float, number: int, longest: int, seed: int) -> np.ndarray:
  """Lengths of texts, log-normal as those of MATH, of about this mean."""
  draw = np.random.default_rng(seed)
  drawn = draw.lognormal(np.log(mean) - _SPREAD**2 / 2, _SPREAD, number)
  return np.clip(np.round(drawn), 1, longest).astype(int)


def _table(texts: Texts) -> pa.Table:
  """Example records of these lengths."""
  if not texts.prompts:
    raise configuration.ConfigurationError(
      'preflight: there are no training problems.'
    )
  draw = np.random.default_rng(0)
  prompts = draw.permutation(np.asarray(texts.prompts))[:_PROBLEMS]
  kept = np.diff(np.round(np.arange(len(prompts) + 1) * texts.kept)).astype(int)
  owners = np.repeat(np.arange(len(prompts)), kept)
  targets = lengths(texts.solution, len(owners), texts.longest - 1, seed=1)
  prefix = draw.integers(3, 100, texts.prefix)
  names = [f'problem-{index}' for index in range(len(prompts))]
  rows = pa.table(
    {
      'problem_id': [names[owner] for owner in owners],
      'sample_index': pa.array(np.arange(len(owners)), pa.int32()),
      'weight': pa.array(np.ones(len(owners)), pa.float32()),
    }
  )
  asked = {
    name: np.concatenate(
      # Questions differ from their first token on.
      [prefix, draw.integers(3, 30000, max(1, length - len(prefix)))]
    )
    for name, length in zip(names, prompts, strict=True)
  }
  ids = [draw.integers(3, 100, length) for length in targets]
  return examples.build(rows, ids, asked, eos_id=2).table
