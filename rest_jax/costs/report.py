"""What preflight prints, from figures."""

from collections.abc import Iterator, Mapping

from rest_jax.costs.figures import Figures, Sampling, Training
from rest_jax.costs.parts import AGAIN
from rest_jax.costs.whole_run import Hours
from rest_jax.models.architecture import DecoderConfig

_GIB = 2**30
# What computes less again; copies of what 'none' keeps cost a TPU more.
_NEXT = {'full': 'attention', 'attention': 'dots'}
_MUCH = 0.1  # of the time


def block(name: str, lines: Iterator[str] | list[str]) -> str:
  """Lines behind the name of what they are about."""
  first, *rest = lines
  return '\n'.join(
    [f'{name:8} {first}', *(f'         {line}' for line in rest)]
  )


def memory(needed: Mapping[str, float], limit: float) -> str:
  """Of one chip."""
  total = needed['total']
  word = 'fits: ' if total <= limit else 'does not fit: '
  parts = ', '.join(
    f'{name} {size / _GIB:.2f}'
    for name, size in needed.items()
    if name != 'total' and size >= 0.005 * _GIB
  )
  return f'{word}{total / _GIB:.2f} of {limit / _GIB:.0f} GiB a chip ({parts})'


def training(of: Training, model: DecoderConfig) -> Iterator[str]:
  """The block of the M-step, behind its first line."""
  step = of.step
  yield memory(of.memory, step.chip.hbm_bytes)
  yield (
    f'step {step.seconds:.3f} s: computing {step.computing:.3f} '
    f'({step.cycles / 1e6:,.0f} M cycles), waiting for collectives '
    f'{step.sent:.3f}; {step.sent_beside:.3f} of collectives beside it'
  )
  yield (
    f'MFU {of.mfu:.0%}, {of.mfu_alone:.0%} without collectives; '
    f'{of.tokens_per_second:,.0f} tokens/s and '
    f'{of.examples_per_chip_hour:,.0f} examples/h per chip; '
    f'{of.fill:.0%} of the places filled'
  )
  yield costs(step)
  yield from collectives(step)
  yield from _training_advice(of, model)


def costs(of: Figures) -> str:
  """The three largest."""
  named = ', '.join(f'{name} {share:.0%}' for name, share in of.largest())
  return f'largest costs: {named}'


def collectives(of: Figures) -> Iterator[str]:
  """What a chip sends, by kind; the seconds are of all links at once."""
  for kinds, how in ((of.waiting, 'waited for'), (of.beside, 'beside')):
    named = ', '.join(
      f'{kind} {size / 1e9:.2f} GB {size / of.chip.link_bandwidth:.4f} s'
      for kind, size in sorted(kinds.items(), key=lambda item: -item[1])
      if size >= 1e6
    )
    if named:
      yield f'collectives {how}: {named}'


def _training_advice(of: Training, model: DecoderConfig) -> Iterator[str]:
  step = of.step
  free = step.chip.hbm_bytes - step.memory['total']
  again = step.parts.get(AGAIN, 0) / step.cycles
  if (
    again > _MUCH and model.remat in _NEXT and free > 0.2 * step.chip.hbm_bytes
  ):
    yield (
      f'change: {again:.0%} is computed again and {free / _GIB:.1f} GiB are '
      'free; try --gin.architecture.DecoderConfig.remat='
      f'{_NEXT[model.remat]}, or more rows'
    )
  waited = 1 - step.computing / step.seconds
  if waited > _MUCH:
    yield (
      f'change: {waited:.0%} is waiting for collectives; try another split of '
      'MESH_DATA x MESH_FSDP, or more BATCH_ROWS (--search)'
    )
  if of.fill < 0.85:
    yield f'change: {1 - of.fill:.0%} is padding; try a longer ROW_LENGTH'


def sampling(
  of: Sampling, layers: tuple[int, ...], depth: int
) -> Iterator[str]:
  """The block of the E-step or of D_val, behind its first line."""
  step = of.step
  yield memory(of.memory, step.chip.hbm_bytes)
  least, most = of.hbm_share
  yield (
    f'decode step {1e3 * of.seconds:.2f} ms ({step.cycles / 1e6:,.2f} M cycles'
    f', caches full): {least:.0%} to {most:.0%} of the HBM bandwidth; '
    f'{of.tokens_per_second:,.0f} tokens/s per chip'
  )
  yield (
    f'reading {of.prompts} prompts {1e3 * of.prefill.seconds:.1f} ms'
    + (
      f'; extrapolated from {layers[0]} and {layers[1]} layers to {depth}'
      if len(layers) == 2
      else ''
    )
  )
  yield costs(step)
  yield from collectives(step)
  waited = 1 - step.computing / step.seconds
  free = step.chip.hbm_bytes - of.memory['total']
  if waited > 2 * _MUCH:
    yield (
      f'change: {waited:.0%} is waiting for collectives; fewer chips for each '
      'copy of the weights (SAMPLE_MESH_TENSOR, and of D_val MESH_FSDP)'
    )
  elif free > 0.3 * step.chip.hbm_bytes:
    yield (
      f'change: {free / _GIB:.1f} GiB are free; try more GROUPS x LANES '
      '(--search)'
    )


def run(of: Hours, iterations: int, trainings: int, where: str) -> list[str]:
  """The block of the whole run."""
  total = of.total
  lines = [
    f'{total:,.1f} h, {of.chip_hours:,.0f} chip-hours of {where}: sampling '
    f'{of.sampling:,.2f} h, training {of.training:,.2f}, D_val '
    f'{of.validation:,.2f}, evaluation {of.evaluation:,.2f}',
    f'{iterations} iterations; each M-step {trainings} x {of.steps} steps at '
    f'most, {of.passes:.1f} passes over its examples (D_val may stop it)',
    f'a validation {of.validating:,.1f} s, {of.dval_share:.1%} of the '
    f'{of.between:,.0f} s of steps between two',
    'not counted: grading, loading, compiling, waiting for machines',
  ]
  if of.dval_share > _MUCH:
    lines.insert(
      -1,
      f'change: D_val takes over {_MUCH:.0%} of that; try a larger '
      'DVAL_EVERY or a smaller DVAL_PROBLEMS',
    )
  return lines
