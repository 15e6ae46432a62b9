"""What the E-step and D_val cost a chip.

Decoding unrolls the layers, so that a deep network, or one whose weights are
gathered, takes minutes to compile. Two shallow ones are compiled instead, and
their figures drawn out to the whole depth by a line: layers are alike. Weights
and caches are counted exactly.
"""

import dataclasses

import jax

from rest_jax.costs import figures, hlo_program, tpu_compiler
from rest_jax.costs.figures import Figures, Sampling
from rest_jax.costs.sampling_programs import (
  Inputs,
  Layout,
  Programs,
  minimum_bytes,
)
from rest_jax.distributed import partitioning
from rest_jax.executors.topologies import Generation
from rest_jax.models.architecture import DecoderConfig
from rest_jax.sampling import token_choice
from rest_jax.sampling.streams import EngineConfig, Stream

_LEAST_LAYERS = 2  # of the shallower network
# Up to here the whole depth takes no longer to compile than two shallow ones:
# 63 against 61 CPU seconds for 32 layers of Llama-3.1-8B on v5e:2x2. What a
# line gave was 3 % off for a decode step, and 0.5 % for reading prompts.
_WHOLE_LAYERS = 48


@dataclasses.dataclass(frozen=True)
class Sampled:
  """The figures of sampling, and what they are drawn out from.

  Attributes:
    sampling: the figures.
    layers: that were compiled: the whole depth, or two depths.
  """

  sampling: Sampling
  layers: tuple[int, ...]


def layout(
  engine: EngineConfig,
  stream: Stream,
  prefix: int,
  question: int,
  shards: int,
) -> Layout:
  """What a stream decodes at once.

  Args:
    engine: the dials.
    stream: that is sampled.
    prefix: tokens that all prompts share; fewer than PROMPT_BUCKET are read
      with each question.
    question: tokens of the longest prompt's own part.
    shards: of the groups.
  """
  unit = engine.prompt_bucket
  shared = prefix >= unit
  places = unit
  while places < (question if shared else question + prefix):
    places *= 2
  groups, lanes = engine.layout(stream)
  return Layout(
    groups=groups,
    lanes=lanes,
    prefix=-(-prefix // unit) * unit if shared else 0,
    question=places,
    new=engine.max_decode_length,
    chunk=min(engine.chunk, engine.max_decode_length),
    questions=engine.questions * shards,
    weights=engine.weights,
    cache=engine.cache,
  )


def cost(
  model: DecoderConfig,
  mesh: jax.sharding.Mesh,
  layout: Layout,
  stream: Stream,
  chip: Generation,
  *,
  longest: Layout | None = None,
  held: int = 0,
) -> Sampled:
  """Compiles the programs of a stream, and gives their figures.

  Args:
    model: the network.
    mesh: of one worker.
    layout: what is decoded at once.
    stream: that is sampled.
    chip: of the mesh.
    longest: what is decoded at once where the questions are longest; their
      caches are what memory is needed for.
    held: bytes of a chip that are taken beside: a training's state.
  """
  depths = _depths(model, mesh)
  programs = Programs(model, mesh, layout, stream)
  steps, prefills = [], []
  for depth in depths:
    here = dataclasses.replace(model, num_layers=depth)
    of_depth = Programs(here, mesh, layout, stream)
    # Limits that nobody asks for cost nothing.
    limited = token_choice.road(stream) == token_choice.Road.LIMITED
    pick = max if limited else min
    steps.append(_figures(of_depth, chip, pick, decodes=True))
    prefills.append(_figures(of_depth, chip, max, decodes=False))
  if len(depths) == 2:
    layers = (*depths, model.num_layers)
    step, prefill = (figures.line(*of, layers) for of in (steps, prefills))
  else:
    [step], [prefill] = steps, prefills
  inputs = programs.inputs
  most = Programs(model, mesh, longest or layout, stream).inputs
  weights = Inputs(most.weights, most.prefix, [], [])
  caches_bytes = most.chip_bytes - weights.chip_bytes
  # The prompts are read while the groups' caches are there.
  return Sampled(
    Sampling(
      step=_with_inputs(step, most.chip_bytes, held),
      prefill=_with_inputs(prefill, weights.chip_bytes, held + caches_bytes),
      prompts=layout.questions,
      chips=mesh.size,
      rows=layout.groups * layout.lanes,
      least_bytes=minimum_bytes(model, mesh, inputs),
      suffix_bytes=tpu_compiler.chip_bytes(inputs.suffix),
      chunk=layout.chunk,
    ),
    depths,
  )


def _depths(model: DecoderConfig, mesh: jax.sharding.Mesh) -> tuple[int, ...]:
  """The depths to compile: the model's own, or two that are shallow."""
  pattern = len(model.layer_pattern)
  small = pattern * -(-_LEAST_LAYERS // pattern)
  gathers = partitioning.shards(mesh, 'embed') > 1
  few = model.num_layers <= (2 * small if gathers else _WHOLE_LAYERS)
  if few or model.decode_loop == 'scan':
    return (model.num_layers,)
  return small, 2 * small


def _figures(
  programs: Programs, chip: Generation, pick: hlo_program.Pick, decodes: bool
) -> Figures:
  """Of one decode step, or of reading the prompts that are read at once."""
  compiled = programs.decode() if decodes else programs.read_questions()
  program = hlo_program.Program.read(compiled.as_text(), chip, pick=pick)
  cost = program.cost(program.loop()) if decodes else program.cost()
  memory = tpu_compiler.memory_bytes(compiled)
  return Figures.of(chip, memory, cost)


def _with_inputs(of: Figures, arguments: float, held: float) -> Figures:
  """The figures with what is known of the memory at the whole depth."""
  memory = dict(of.memory) | {'arguments': arguments}
  if held:
    memory['held beside'] = held
  memory['total'] = sum(
    size for name, size in memory.items() if name != 'total'
  )
  return dataclasses.replace(of, memory=memory)


def shards(mesh: jax.sharding.Mesh) -> int:
  """Of the groups."""
  return partitioning.shards(mesh, 'group')
