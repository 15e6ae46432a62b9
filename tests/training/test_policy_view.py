"""What D_val is sampled from: the same bits, on the mesh of sampling."""

import dataclasses

import jax
import meshes
import numpy as np
import pytest
import small_networks
import tiny_run

from rest_jax.artifacts import manifests, records
from rest_jax.distributed import partitioning
from rest_jax.models.checkpoints import policies
from rest_jax.sampling import requests, sampling_engine
from rest_jax.sampling.streams import Stream
from rest_jax.training import dval, policy_view
from rest_jax.training.hyperparameters import ValidationConfig

MODEL = small_networks.network(
  vocab_size=264, max_length=48, num_heads=4, num_kv_heads=2
)


def mesh(devices=None, **axes):
  here = meshes.mesh(**axes)
  if devices is None:
    return here
  return partitioning.make_mesh(partitioning.MeshConfig(**axes), devices)


TRAINING = mesh(data=1, fsdp=8, tensor=1)
# On a torus another mesh has its devices in another order.
OTHERS = {
  'copies': mesh(data=8, fsdp=1, tensor=1),
  'tensor': mesh(data=4, fsdp=1, tensor=2),
  'another order': mesh(jax.devices()[::-1], data=4, fsdp=1, tensor=2),
}


def on(where, model, seed=1):
  """Parameters of that seed on a mesh."""
  params = tiny_run.fresh(model, seed=seed)
  target = policies.abstract(model, where)
  return jax.tree.map(
    lambda leaf, like: jax.device_put(np.asarray(leaf), like.sharding),
    params,
    target,
  )


def engine_of(weights='as_trained'):
  return dataclasses.replace(tiny_run.ENGINE, groups=8, weights=weights)


def as_sampling_loads_them(model, config, where):
  params = on(where, model)
  cast = jax.tree.map(lambda leaf: leaf.astype(model.dtype), params)
  return sampling_engine.variables_on(where, cast, model, config)


@pytest.mark.parametrize(
  ('name', 'loop', 'weights'),
  [
    ('copies', 'unroll', 'as_trained'),
    ('tensor', 'unroll', 'int8'),
    ('another order', 'scan', 'as_trained'),
    ('another order', 'unroll', 'int8'),
  ],
)
def test_the_view_holds_what_the_stage_sample_would_load(name, loop, weights):
  model = dataclasses.replace(MODEL, decode_loop=loop, dtype='bfloat16')
  config, where = engine_of(weights), OTHERS[name]
  view = policy_view.PolicyView(model, config, TRAINING, where)
  params = on(TRAINING, model)
  # Nothing passes the host.
  with jax.transfer_guard_host_to_device('disallow_explicit'):
    found = view.of(params)
  expected = as_sampling_loads_them(model, config, where)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  places = set()
  for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert a.sharding.is_equivalent_to(b.sharding, a.ndim), (a.shape, b)
    places.add(str(a.sharding.spec))
  assert any('tensor' in spec for spec in places) == (name != 'copies')
  assert not any('fsdp' in spec for spec in places)


def test_on_the_same_mesh_nothing_is_moved():
  view = policy_view.PolicyView(MODEL, engine_of(), TRAINING, TRAINING)
  leaves = jax.tree.leaves(view.of(on(TRAINING, MODEL)))
  assert any('fsdp' in str(leaf.sharding.spec) for leaf in leaves)


def test_a_validation_draws_what_the_stage_sample_would_and_leaves_nothing(
  tmp_path,
):
  """Bit by bit: the weights and the mesh are the same."""
  folder = tiny_run.problems(
    tmp_path / 'dval', {str(i): f'Q{i}:' for i in range(6)}
  )
  problems = manifests.load(folder)
  stream = Stream(name='dval', num_samples=2, temperature=1.0)
  config, where = engine_of(), OTHERS['another order']
  validator = dval.Validator(
    *([problems], MODEL, config, TRAINING, where, stream),
    *(ValidationConfig(every=1), 1, tmp_path / 'checkpoints'),
  )
  params = on(TRAINING, MODEL)  # float32: the view's cast copies nothing
  standing = sorted(id(leaf) for leaf in jax.live_arrays())
  with validator:
    validator.reward(params, tmp_path / 'step_0')
  assert sorted(id(leaf) for leaf in jax.live_arrays()) == standing
  written = records.read_part(
    tmp_path / 'step_0/samples' / records.part_name(0, 1), records.Sample
  )
  engine = sampling_engine.Engine(
    *(MODEL, as_sampling_loads_them(MODEL, config, where), config, where),
    requests.text_of(problems),
  )
  asked = [
    requests.request(row, range(2), few_shot=True) for row in problems.records()
  ]
  drawn = {
    (one.problem_id, one.sample_index): (one.token_ids, one.logprobs)
    for one in engine.generate(asked, stream=stream, iteration=1)
  }
  assert drawn == {
    (row.problem_id, row.sample_index): (row.token_ids, row.logprobs)
    for row in records.to_records(records.Sample, written)
  }
  for a, b in zip(
    *map(jax.tree.leaves, (params, on(TRAINING, MODEL))), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_the_compilers_figures_of_a_view_are_its_sizes():
  model = dataclasses.replace(MODEL, dtype='bfloat16')
  where = OTHERS['tensor']
  told = policy_view.compiled_bytes(model, engine_of(), TRAINING, where)
  view = as_sampling_loads_them(model, engine_of(), where)
  here = [leaf.addressable_shards[0].data for leaf in jax.tree.leaves(view)]
  assert told['copy'] == sum(shard.nbytes for shard in here)
  # The largest is split by vocabulary instead of embedding: gathered for it.
  assert told['moving'] >= model.vocab_size * model.embed_dim * 2 / 8
  assert told['cast'] >= told['copy'] / 8
