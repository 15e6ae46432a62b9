"""The programs of sampling, compiled for devices that are not here."""

import dataclasses
import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rest_jax.costs import tpu_compiler
from rest_jax.distributed import partitioning
from rest_jax.models import caches, decoding, layered, quantization
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import policies
from rest_jax.sampling import decode_programs, device_lanes, token_choice
from rest_jax.sampling.streams import Stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """What is decoded at once.

  Attributes:
    groups, lanes: of all devices.
    prefix: tokens that all prompts share, padded; 0: none.
    question: tokens of a prompt's own part, padded.
    new: tokens of a completion at most.
    chunk: decode steps between two looks of the host.
    questions: prompts that are read at once, over all devices.
    weights, cache: as in EngineConfig.
  """

  groups: int
  lanes: int
  prefix: int
  question: int
  new: int
  chunk: int
  questions: int = 0
  weights: str = 'as_trained'
  cache: caches.Kind = 'as_computed'


class Inputs(NamedTuple):
  """What the programs read, without its values."""

  weights: Any
  prefix: caches.Prefix | None
  question: caches.Cache
  suffix: list[caches.Cache]

  @property
  def chip_bytes(self) -> int:
    """Of all of it on one chip."""
    return tpu_compiler.chip_bytes(tuple(self))


class Programs:
  """The programs of one layout, for devices that are not here."""

  def __init__(
    self,
    model: DecoderConfig,
    mesh: jax.sharding.Mesh,
    layout: Layout,
    stream: Stream,
  ):
    self.model, self.mesh, self.layout, self.stream = (
      *(model, mesh),
      *(layout, stream),
    )
    self._programs = decode_programs.DecodePrograms(
      model=model,
      mesh=mesh,
      network=decoding,
      max_decode_length=layout.new,
      chunk=min(layout.chunk, layout.new),
      vocab_size=model.vocab_size,
      eos_ids=(1,),
      cache=layout.cache,
    )
    self.inputs = Inputs(self._weights(), *self._caches())

  def decode(self) -> jax.stages.Compiled:
    """A chunk of decode steps."""
    groups, lanes = self.layout.groups, self.layout.lanes
    state = jax.eval_shape(lambda: self._programs._empty(groups, lanes, 64))[2]
    state = jax.tree.map(self._of_lanes, state)
    return self._programs.decode.lower(
      *self.inputs,
      state,
      device_lanes.Groups.empty(groups, self.stream),
      self._of_lanes(jax.ShapeDtypeStruct((groups, lanes), jnp.int32)),
      token_choice.road(self.stream),
    ).compile()

  def read_questions(self) -> jax.stages.Compiled:
    """The questions that are read at once."""
    tokens = jax.ShapeDtypeStruct(
      (self.layout.questions, self.layout.question), jnp.int32
    )
    weights, prefix, *_ = self.inputs
    return self._programs.read_questions.lower(
      weights, prefix, tokens
    ).compile()

  def _of_lanes(self, leaf: Any) -> jax.ShapeDtypeStruct:
    names = ('group', None)[: len(leaf.shape)]
    where = partitioning.sharding(self.mesh, names, leaf.shape)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  def _weights(self) -> layered.Weights:
    model, mesh = self.model, self.mesh
    params = policies.abstract(model, mesh, model.dtype)
    # All layers of a network are split alike.
    named = {_parameter(path): leaf for path, leaf in _flat(params)}

    def arranged(params):
      if self.layout.weights == 'int8':
        params = quantization.quantize(params)
      return layered.arrange(model, params)

    def with_sharding(path, leaf):
      names = _names(path)
      array = named.get(_parameter(names))
      # Scales of int8 weights are small, and lie everywhere.
      spec = jax.sharding.PartitionSpec()
      if array is not None and 'scales' not in names:
        spec = array.sharding.spec
        if names[0] == 'layers' and model.decode_loop == 'unroll':
          spec = jax.sharding.PartitionSpec(*spec[1:])
      where = jax.sharding.NamedSharding(mesh, spec)
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    return jax.tree_util.tree_map_with_path(
      with_sharding, jax.eval_shape(arranged, params)
    )

  def _caches(
    self,
  ) -> tuple[caches.Prefix | None, caches.Cache, list[caches.Cache]]:
    layout, model = self.layout, self.model
    first = ('layers',) if model.decode_loop == 'scan' else ()
    make = functools.partial(caches.empty, model, kind=layout.cache)
    new = -(-layout.new // layout.chunk) * layout.chunk
    with partitioning.use(self.mesh):
      prefix, question, suffix = jax.eval_shape(
        lambda: (
          make(self._programs.shards, length=max(layout.prefix, 1)),
          make(layout.groups, length=layout.question),
          make(layout.groups, layout.lanes, length=new),
        )
      )
    cut = (lambda s: s[:1] + s[2:]) if first else (lambda s: s[1:])
    prefix = jax.tree.map(
      lambda a: jax.ShapeDtypeStruct(cut(a.shape), a.dtype), prefix
    )
    shared = (*first, 'kv_heads', None, None)
    of_group = (*first, 'group', 'kv_heads', None, None)
    of_lane = (*first, 'group', None, 'kv_heads', None, None)
    read = caches.Prefix(self._placed(prefix, shared), np.int32(layout.prefix))
    return (
      read if layout.prefix else None,
      self._placed(question, of_group),
      [self._placed(suffix, of_lane)],  # in one part on TPUs
    )

  def _placed(self, tree: Any, names: tuple[str | None, ...]) -> Any:
    """Shapes with shardings, for arrays whose logical axes are given."""

    def one(leaf):
      where = partitioning.sharding(self.mesh, names, leaf.shape)
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    return jax.tree.map(one, tree)


def minimum_bytes(
  model: DecoderConfig, mesh: jax.sharding.Mesh, inputs: Inputs
) -> float:
  """What a decode step cannot do without reading on each chip.

  Weights and caches once; of an embedding that is no unembedding too, a few
  rows alone.
  """
  least = inputs.chip_bytes
  if model.tie_embeddings:
    return least
  shards = partitioning.shards(mesh, 'vocab') * partitioning.shards(
    mesh, 'embed'
  )
  width = jnp.dtype(model.dtype).itemsize
  return least - model.vocab_size * model.embed_dim * width // shards


def _names(path: Any) -> list[Any]:
  return [
    getattr(entry, 'name', getattr(entry, 'key', getattr(entry, 'idx', None)))
    for entry in path
  ]


def _parameter(path: Any) -> tuple[bool, tuple[str, ...]]:
  """(whether it is of a layer, its name there)."""
  plain = [str(name) for name in path]
  own = [
    name
    for name in plain
    if name not in ('params', 'outer')
    and not re.fullmatch(r'blocks|rest|layers(_\d+)?|\d+', name)
  ]
  return bool({'blocks', 'rest', 'layers'} & set(plain)), tuple(own)


def _flat(params: Any) -> list[tuple[list[Any], Any]]:
  flat, _ = jax.tree_util.tree_flatten_with_path(params)
  return [(_names(path), leaf) for path, leaf in flat]
