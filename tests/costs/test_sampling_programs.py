"""The programs of sampling are compiled for the arrays that sampling has."""

import dataclasses

import jax
import pytest
import small_networks

from rest_jax.costs import sampling_costs, sampling_programs
from rest_jax.distributed import partitioning
from rest_jax.executors.topologies import GENERATIONS
from rest_jax.models.checkpoints import policies
from rest_jax.sampling import sampling_engine
from rest_jax.sampling.streams import EngineConfig, Stream

MODEL = small_networks.network(
  num_layers=6, num_heads=4, num_kv_heads=2, decode_loop='unroll'
)
STREAM = Stream(name='e_step', num_samples=8, temperature=0.7, top_k=40)
ENGINE = EngineConfig(
  groups=8,
  lanes=4,
  greedy_groups=16,
  max_decode_length=20,
  prompt_bucket=16,
  chunk=8,
  seed=0,
)


@pytest.fixture
def mesh():
  return partitioning.make_mesh(
    partitioning.MeshConfig(data=2, fsdp=2, tensor=2), jax.devices()[:8]
  )


@pytest.mark.parametrize('loop', ['unroll', 'scan'])
@pytest.mark.parametrize('weights', ['as_trained', 'int8'])
def test_weights_have_the_shapes_and_dtypes_that_are_sampled_from(
  mesh, loop, weights
):
  model = dataclasses.replace(MODEL, decode_loop=loop)
  config = dataclasses.replace(ENGINE, weights=weights)
  params = policies.unboxed(model, jax.random.key(0))
  real = sampling_engine.variables(params, model, config)
  layout = sampling_costs.layout(config, STREAM, 40, 10, shards=4)
  found = sampling_programs.Programs(model, mesh, layout, STREAM).inputs
  as_shapes = jax.tree.map(lambda a: (a.shape, a.dtype), real)
  assert jax.tree.map(lambda a: (a.shape, a.dtype), found.weights) == as_shapes


@pytest.mark.parametrize('cache', ['as_computed', 'int8'])
def test_the_programs_compile_on_a_mesh(mesh, cache):
  config = dataclasses.replace(ENGINE, cache=cache)
  layout = sampling_costs.layout(config, STREAM, 40, 10, shards=4)
  programs = sampling_programs.Programs(MODEL, mesh, layout, STREAM)
  for compiled in (programs.decode(), programs.read_questions()):
    assert compiled.memory_analysis().argument_size_in_bytes > 0


def test_the_layout_is_that_of_the_engine():
  layout = sampling_costs.layout(ENGINE, STREAM, 40, 33, shards=4)
  assert (layout.groups, layout.lanes, layout.questions) == (8, 4, 16)
  # 40 tokens in multiples of 16; 33 in 16, 32, 64, …
  assert (layout.prefix, layout.question) == (48, 64)
  # A prefix of fewer than 16 tokens is read with each question.
  layout = sampling_costs.layout(ENGINE, STREAM, 10, 33, shards=4)
  assert (layout.prefix, layout.question) == (0, 64)
  greedy = dataclasses.replace(STREAM, temperature=0.0, num_samples=1)
  layout = sampling_costs.layout(ENGINE, greedy, 40, 33, shards=4)
  assert (layout.groups, layout.lanes) == (16, 1)


def test_a_step_reads_weights_and_caches_at_least(mesh):
  """Counted by hand, in float32: 4 bytes a number."""
  layout = sampling_costs.layout(ENGINE, STREAM, 40, 10, shards=4)
  programs = sampling_programs.Programs(MODEL, mesh, layout, STREAM)
  least = sampling_programs.minimum_bytes(MODEL, mesh, programs.inputs)
  c = MODEL
  token = 2 * 4 * c.num_layers * c.num_kv_heads * c.head_dim // 2  # tensor 2
  caches = token * (48 + 2 * 16 + 2 * 4 * 24)  # 8 groups on 4 shards
  # Matrices are split over fsdp and tensor; norms are not.
  weights = least - caches
  assert weights > 4 * c.num_parameters / 4
  assert weights < 4 * c.num_parameters / 4 * 1.15


def test_a_network_that_compiles_fast_is_compiled_at_its_own_depth(mesh):
  """Gathered weights or many layers: two depths, and a line through them."""
  chip = GENERATIONS['v5e']
  whole = partitioning.make_mesh(
    partitioning.MeshConfig(data=4, fsdp=1, tensor=2), jax.devices()[:8]
  )
  for of, layers in ((whole, (6,)), (mesh, (2, 4))):
    layout = sampling_costs.layout(
      ENGINE, STREAM, 40, 10, shards=sampling_costs.shards(of)
    )
    found = sampling_costs.cost(MODEL, of, layout, STREAM, chip)
    assert found.layers == layers
    total = found.sampling.step.memory['total']
    held = sampling_costs.cost(MODEL, of, layout, STREAM, chip, held=1000)
    assert held.sampling.step.memory['total'] == total + 1000
