"""Stage: compiles a run's programs for TPUs that are not here.

    rest-jax preflight --gin_file=runs/math.gin \\
      --gin.PREFLIGHT_TOPOLOGY=v5e:16x16 [--search]

Says of sampling, training and D_val whether they fit, how fast they are and
what to change, and what the whole run takes (docs/preflight.md). libtpu holds
the TPU's whole compiler (the extra 'tpu', x86-64 Linux).

Every figure here is the compiler's estimate, never a measurement.
"""

import time
from typing import Literal

from rest_jax.config import configuration
from rest_jax.costs import (
  fitting,
  report,
  run_search,
  search,
  tpu_compiler,
  whole_run,
)
from rest_jax.costs.compiled_run import CompiledRun
from rest_jax.costs.figures import Sampling, Training
from rest_jax.costs.foreseen import DVAL, SAMPLE, TRAIN, Foreseen
from rest_jax.costs.sampling_costs import Sampled
from rest_jax.distributed import partitioning
from rest_jax.executors import memory_errors, topologies
from rest_jax.models.architecture import DecoderConfig
from rest_jax.sampling.streams import EngineConfig, Stream
from rest_jax.training.hyperparameters import (
  OptimizerConfig,
  TrainConfig,
  ValidationConfig,
)


@configuration.checked
def preflight(
  *,
  topology: str,
  slices: int,
  programs: tuple[Literal['sample', 'train', 'dval'], ...],
  model: DecoderConfig,
  optimizer: OptimizerConfig,
  config: TrainConfig,
  mesh: partitioning.MeshConfig,
  engine: EngineConfig,
  sample_mesh: partitioning.MeshConfig,
  stream: Stream,
  dval_mesh: partitioning.MeshConfig,
  dval_stream: Stream,
  validation: ValidationConfig,
  extent: whole_run.Extent,
  search_config: search.SearchConfig,
  foreseen: Foreseen | None = None,
) -> None:
  """Compiles the programs, prints what they need, and fails if too much.

  Args:
    topology: such as v5e:16x16, v5p:4x4x4, v6e:16x16, v4:4x4x8, or a type of
      Google Cloud such as v5litepod-256.
    slices: of that topology.
    programs: which to compile.
    model: the network.
    optimizer: whose state counts too.
    config: batch_rows, row_length, LoRA.
    mesh: of training and D_val, over all chips.
    engine: what is decoded at once.
    sample_mesh: of a worker that samples.
    stream: of the E-step.
    dval_mesh: of D_val, over all chips.
    dval_stream: of D_val.
    validation: when D_val is sampled.
    extent: how far the run goes.
    search_config: whether other dials are tried.
    foreseen: lengths, and the slice of a worker; of foreseen.parse, which no
      gin file binds.

  Raises:
    ConfigurationError: a program does not fit, or gathers activations.
  """
  assert foreseen is not None
  slice_ = topologies.parse(topology, 'PREFLIGHT_TOPOLOGY')
  run = CompiledRun(
    *(slice_, slices, model, optimizer, config, mesh, engine, sample_mesh),
    *(dval_mesh, foreseen),
  )
  chips = slice_.chips * slices
  print(
    f'preflight: {slice_} x {slices}, {chips} chips, '
    f'{model.num_parameters / 1e9:.2f} G parameters. All figures are the '
    "compiler's estimates; none is measured."
  )
  _say_what_is_foreseen(foreseen)
  if {TRAIN, DVAL} & {*programs}:
    _ = run.training_mesh  # raises at once where it does not divide the model
  stage = _Preflight(run, stream, dval_stream)
  found = {name: getattr(stage, name)() for name in programs}
  size = _size(run, stream, dval_stream, validation, extent)
  if all(found.get(name) for name in (SAMPLE, TRAIN, DVAL)):
    hours = whole_run.hours(
      size, found[TRAIN], found[SAMPLE], found[DVAL], foreseen.workers
    )
    where = slice_.generation.name
    print(
      report.block(
        'run',
        report.run(hours, extent.iterations, len(extent.learning_rates), where),
      )
    )
  if search_config.is_on:
    compiles = search_config.compiles
    if TRAIN in programs:
      best = run_search.training(run, size, compiles, found[TRAIN])
      print('\n'.join(best))
    if SAMPLE in programs:
      best = run_search.sampling(run, stream, size, compiles, found[SAMPLE])
      print('\n'.join(best))
  if stage.problems:
    raise configuration.ConfigurationError('preflight: ' + stage.problems[0])
  print(f'preflight: fits {slice_} (compiler estimates, not measurements)')


def _say_what_is_foreseen(foreseen: Foreseen) -> None:
  if foreseen.refused:
    print(f'note     the launcher would refuse this run: {foreseen.refused}')
  if foreseen.assumed:
    print(f'assumed  {foreseen.assumed}')
  derived = ', '.join(
    f'{name} = {dial.value!r}'
    for name, dial in foreseen.dials.items()
    if name.isupper()
  )
  if derived:
    print(f'derived  {derived}')


def _size(
  run: CompiledRun,
  stream: Stream,
  dval_stream: Stream,
  validation: ValidationConfig,
  extent: whole_run.Extent,
) -> whole_run.Size:
  prompts, texts = run.foreseen.prompts, run.foreseen.texts
  dval = run.foreseen.dval_problems
  return whole_run.Size(
    extent=extent,
    problems=len(prompts.train),
    dval_problems=min(dval, validation.num_problems or dval),
    eval_problems=len(prompts.evaluated) - dval,
    num_samples=_most(stream),
    dval_samples=_most(dval_stream),
    completion=texts.solution,
    longest=run.engine.max_decode_length,
    kept=texts.kept,
    steps=run.config.max_steps,
    epochs=run.config.max_epochs,
    dval_every=validation.every,
  )


def _most(stream: Stream) -> int:
  """Samples of a problem, of the task that has most."""
  number = stream.num_samples
  return number if isinstance(number, int) else max(number.values())


class _Preflight:
  """Compiles one program after the other, and prints a block for each.

  Attributes:
    problems: what does not fit or is wrong, in sentences.
  """

  def __init__(self, run: CompiledRun, stream: Stream, dval_stream: Stream):
    self._run, self._stream, self._dval_stream = run, stream, dval_stream
    self.problems: list[str] = []

  def train(self) -> Training | None:
    """Of the M-step; None where it does not fit."""
    run = self._run
    config, mesh = run.config, run.training_mesh
    length = run.rows.plan.row_length
    what = f'{config.batch_rows} rows of {length} tokens'
    started = time.monotonic()
    try:
      found = run.training()
    except Exception as error:
      if not memory_errors.is_out_of_memory(error):
        raise
      needed = tpu_compiler.needed(str(error))
      print(report.block('train', [f'does not fit: {what}: {needed}']))
      self._refuse(f'training: does not fit {run.slice_}, {what}: {needed}')
      return None
    training = found.training
    shared = (
      f', {run.rows.prefix} of a shared prefix' if run.rows.prefix else ''
    )
    first = (
      f'mesh {_words(mesh)}; {what}{shared}; remat {run.model.remat}, '
      f'{config.microbatches} micro-batches; compiled in '
      f'{time.monotonic() - started:.0f} s'
    )
    lines = report.training(training, run.model)
    print(report.block('train', [first, *lines]), flush=True)
    if found.summed:
      print(
        '         change: parameters are gathered by sums, which move twice '
        'the bytes; another split of MESH_DATA x MESH_FSDP may avoid it'
      )
    if found.gathered:
      self.problems.append(
        'activations are gathered, so a sharding rule is missing:\n  '
        + '\n  '.join(found.gathered)
      )
    if not training.step.fits:
      total = training.step.memory['total'] / 2**30
      limit = run.slice_.generation.hbm_bytes / 2**30
      self._refuse(
        f'training: needs {total:.1f} GiB per chip, a {run.slice_} chip has '
        f'{limit:.0f}'
      )
      return None
    return training

  def _refuse(self, sentence: str) -> None:
    run = self._run
    limit = run.slice_.generation.hbm_bytes
    advice = fitting.what_fits(
      *(run.training_bytes, run.model, run.config, run.training_mesh, limit)
    )
    self.problems.append(f'{sentence}. {advice}')

  def sample(self) -> Sampling | None:
    """Of the E-step, on one worker; None where it does not fit."""
    run = self._run
    foreseen, mesh = run.foreseen, run.worker_mesh
    groups, lanes = run.engine.layout(self._stream)
    first = (
      f'{foreseen.workers} workers on {foreseen.worker} each, mesh '
      f'{_words(mesh)}; {groups} groups x {lanes} lanes'
    )
    advice = 'Lower GROUPS or LANES, or set SAMPLE_TOPOLOGY to more chips.'
    return self._sampled(
      'sample', first, lambda: run.sampling(self._stream), advice
    )

  def dval(self) -> Sampling | None:
    """Of D_val, on the devices of the training; None where it does not fit."""
    run = self._run
    groups, lanes = run.engine.layout(self._dval_stream)
    first = (
      f'on the chips of the training, mesh {_words(run.validation_mesh)}; '
      f'{groups} groups x {lanes} lanes'
    )
    return self._sampled(
      'D_val',
      first,
      lambda: run.validation(self._dval_stream),
      'Lower GREEDY_GROUPS or raise DVAL_MESH_TENSOR.',
    )

  def _sampled(self, name, first, compiled, advice) -> Sampling | None:
    started = time.monotonic()
    try:
      found: Sampled = compiled()
    except Exception as error:
      if not memory_errors.is_out_of_memory(error):
        raise
      needed = tpu_compiler.needed(str(error))
      print(report.block(name, [first, f'does not fit: {needed}']))
      self.problems.append(f'{name}: does not fit: {needed}. {advice}')
      return None
    first += f'; compiled in {time.monotonic() - started:.0f} s'
    depth = self._run.model.num_layers
    lines = report.sampling(found.sampling, found.layers, depth)
    print(report.block(name, [first, *lines]), flush=True)
    chip = self._run.slice_.generation
    if found.sampling.memory['total'] > chip.hbm_bytes:
      total = found.sampling.memory['total'] / 2**30
      self.problems.append(
        f'{name}: needs {total:.1f} GiB per chip, a chip has '
        f'{chip.hbm_bytes / 2**30:.0f}. {advice}'
      )
      return None
    return found.sampling


def _words(mesh) -> str:
  return ' x '.join(f'{axis}={size}' for axis, size in mesh.shape.items())
