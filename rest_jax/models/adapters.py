"""The arrays of LoRA adapters: fresh, beside frozen weights, and merged.

Adapters are a Flax collection of their own, which `block.Block` reads:

    {'adapters': {'blocks': {'query': {'a': …, 'b': …}, …}}}

They are float32, whatever the dtypes of the network: they are small, and a
learning rate that suits them would be lost in bfloat16.
"""

import functools
import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rest_jax.distributed import partitioning
from rest_jax.models import lora, matrices
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.lora import LoraConfig
from rest_jax.models.matrices import Matrix

COLLECTION = 'adapters'


def abstract(model: DecoderConfig, config: LoraConfig, mesh: Mesh) -> Any:
  """The adapters' shapes, dtype and shardings, without their values.

  Raises:
    ConfigurationError: config.targets matches no matrix, or the mesh does not
      divide a dimension.
  """
  tree: dict[str, Any] = {}
  for one in lora.adapted(model, config):
    axes = one.axes()
    arrays = {
      name: jax.ShapeDtypeStruct(
        shape,
        jnp.float32,
        sharding=partitioning.sharding(
          mesh, axes[name], shape, f'{one.path}/{name}'
        ),
      )
      for name, shape in one.shapes(model, config.rank).items()
    }
    _put(tree, one.path, arrays)
  return {COLLECTION: tree}


def fresh(model: DecoderConfig, config: LoraConfig, key: jax.Array) -> Any:
  """Adapters that change nothing yet: A is random, B is zero.

  A is uniform within 1 / sqrt(inputs), the distribution of peft's default.

  Args:
    model: the network.
    config: what is adapted.
    key: a typed key; a matrix's A depends on it and on the matrix's path only.
  """
  tree: dict[str, Any] = {}
  for one in lora.adapted(model, config):
    shapes = one.shapes(model, config.rank)
    own = jax.random.fold_in(key, zlib.crc32(one.path.encode()))
    bound = math.prod(matrices.shape(model, one.matrix.inputs)) ** -0.5
    a = jax.random.uniform(own, shapes['a'], jnp.float32, -bound, bound)
    _put(tree, one.path, {'a': a, 'b': jnp.zeros(shapes['b'], jnp.float32)})
  return {COLLECTION: tree}


def pair(adapters: Any, one: lora.AdaptedMatrix) -> dict[str, jax.Array]:
  """The stacked A and B of one matrix: {'a': …, 'b': …}."""
  return _at(adapters[COLLECTION], one.path)


def beside(frozen: Any, adapters: Any, config: LoraConfig) -> Any:
  """What network.Decoder is applied to in training.

  Args:
    frozen: the base's parameters, {'params': …}.
    adapters: as `fresh` gives them.
    config: whose alpha / rank is multiplied into B here.
  """
  scaled = jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf * config.scale if path[-1].key == 'b' else leaf,
    adapters,
  )
  return {**frozen, **scaled}


def merge(
  params: Any,
  adapters: Any,
  model: DecoderConfig,
  config: LoraConfig,
  *,
  donate: bool = False,
) -> Any:
  """The parameters W + alpha / rank * A B of the adapted network.

  Sums are made in float32, one layer of one matrix at a time, and rounded once
  to W's dtype. Where B is zero the result is W, bit for bit.

  Args:
    params: the base's parameters, on the mesh.
    adapters: on the same mesh.
    model: the network.
    config: of the adapters.
    donate: whether the memory of the base's adapted matrices may be reused:
      the caller's `params` cannot be read any more.

  Returns:
    Parameters with the dtypes and shardings of `params`. Arrays that have no
    adapter are those of `params`, not copies.
  """
  add = _add_in_place if donate else _add
  tree = _copied(params['params'])
  for one in lora.adapted(model, config):
    both, weight = pair(adapters, one), _at(tree, one.path)
    made = add(
      weight, both['a'], both['b'], config.scale, one.matrix, weight.sharding
    )
    _put(tree, one.path, made)
  return {**params, 'params': tree}


def _sum(weight, a, b, scale, matrix: Matrix, where) -> jax.Array:
  letters = f'{matrix.inputs}Z,Z{matrix.outputs}->{matrix.dimensions}'

  def layer(arrays):
    w, a, b = arrays
    change = jnp.einsum(letters, a, b * scale, precision='highest')
    return (w.astype(jnp.float32) + change).astype(w.dtype)

  return jax.lax.with_sharding_constraint(
    jax.lax.map(layer, (weight, a, b)), where
  )


_add = functools.partial(jax.jit, static_argnums=(3, 4, 5))(_sum)
_add_in_place = functools.partial(
  jax.jit, static_argnums=(3, 4, 5), donate_argnums=(0,)
)(_sum)


def _at(tree: Any, path: str) -> Any:
  for name in path.split('/'):
    tree = tree[name]
  return tree


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
  *above, last = path.split('/')
  for name in above:
    tree = tree.setdefault(name, {})
  tree[last] = value


def _copied(tree: Any) -> Any:
  """Dictionaries that may be changed, holding the same arrays."""
  return jax.tree.map(lambda leaf: leaf, tree)
