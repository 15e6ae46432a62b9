"""The mesh, and the one table that maps logical axes to it.

Model code names logical axes ('embed', 'heads', …); this file alone knows the
mesh axes:

    data     copies of the model, each on its own rows
    fsdp     rows too, and the parameters are split over it
    tensor   heads, MLP and vocabulary are split over it

After T5X's logical_axis_rules, with jax.jit and NamedSharding.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rest_jax.config import configuration
from rest_jax.config.configuration import operational

AXES = ('data', 'fsdp', 'tensor')

# Logical axis -> mesh axes. Parameters first, then activations.
RULES: dict[str, tuple[str, ...]] = {
  'layers': (),
  'embed': ('fsdp',),
  'mlp': ('tensor',),
  'heads': ('tensor',),
  'kv_heads': ('tensor',),
  'head_dim': (),
  'vocab': ('tensor',),
  'norm': (),
  'lora_rank': (),
  'batch': ('data', 'fsdp'),
  'lookup': ('data',),
  'lookup_length': (),
  'group': ('data', 'fsdp'),
  'lane': (),
  'length': (),
  'activation_embed': (),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig(configuration.Configuration):
  """The mesh's shape; -1 in one place is whatever the devices leave over."""

  data: int = operational(1)
  fsdp: int = operational(-1)
  tensor: int = operational(1)

  def check(self):
    sizes = [getattr(self, axis) for axis in AXES]
    for axis, size in zip(AXES, sizes, strict=True):
      self.require(size > 0 or size == -1, axis, 'a positive number or -1')
    self.require(sizes.count(-1) <= 1, 'fsdp', '-1 for one axis at most')


def make_mesh(
  config: MeshConfig, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """The mesh over all devices.

  Raises:
    ConfigurationError: where the shape does not fit the number of devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = [getattr(config, axis) for axis in AXES]
  known = int(np.prod([size for size in sizes if size != -1]))
  shape = ' x '.join(f'{a}={s}' for a, s in zip(AXES, sizes, strict=True))
  if len(devices) % known or (-1 not in sizes and known != len(devices)):
    raise configuration.ConfigurationError(
      f'MeshConfig: {shape} does not fit {len(devices)} devices. Set one of '
      'MESH_DATA, MESH_FSDP, MESH_TENSOR to -1, or make the product '
      f'{len(devices)}.'
    )
  sizes = [len(devices) // known if size == -1 else size for size in sizes]
  if devices[0].platform == 'tpu':
    grid = _on_torus(sizes, devices, shape)
  else:
    grid = np.asarray(devices).reshape(sizes)
  return Mesh(grid, AXES)


def _on_torus(
  sizes: Sequence[int], devices: Sequence[jax.Device], shape: str
) -> np.ndarray:
  """TPUs as an array of these sizes, neighbours of the torus side by side.

  Several slices are copies of the model: only 'data' goes from one to another,
  over the data centre's network, which is slower than a slice's own.

  Args:
    sizes: of AXES.
    devices: of all slices.
    shape: the sizes in words.
  """
  from jax.experimental import mesh_utils

  slices = len({getattr(device, 'slice_index', 0) for device in devices})
  data, *others = sizes
  if data % slices:
    raise configuration.ConfigurationError(
      f'MeshConfig: {shape} on {slices} slices: each slice holds whole copies '
      f'of the model, and {data} (MESH_DATA) is not divisible by {slices}. Set '
      f'MESH_DATA to a multiple of {slices}, such as --gin.MESH_DATA={slices} '
      '--gin.MESH_FSDP=-1.'
    )
  try:
    # Axes of the torus are split only where no others fit: tensor 8 on 4x4.
    if slices == 1:
      return mesh_utils.create_device_mesh(
        sizes, devices=devices, allow_split_physical_axes=True
      )
    return mesh_utils.create_hybrid_device_mesh(
      (data // slices, *others),
      (slices, 1, 1),
      devices=devices,
      allow_split_physical_axes=True,
    )
  except NotImplementedError as error:
    text = ' '.join(str(error).split()).partition(' E.g.')[0]
    raise configuration.ConfigurationError(
      f'MeshConfig: {shape} cannot be laid out on these {len(devices)} chips '
      f'({text}) Set MESH_DATA, MESH_FSDP, MESH_TENSOR to products of the '
      "sizes in the topology's name."
    ) from error


_MESH = contextvars.ContextVar('mesh', default=None)
_RULES = contextvars.ContextVar('rules', default=RULES)


@contextlib.contextmanager
def use(mesh: Mesh) -> Iterator[Mesh]:
  """Makes `constrain` act on this mesh, for code traced inside the block."""
  token = _MESH.set(mesh)
  try:
    yield mesh
  finally:
    _MESH.reset(token)


@contextlib.contextmanager
def split_length(length: int) -> Iterator[None]:
  """Splits the places of rows over the devices instead of the rows.

  For code traced inside the block, where there are few rows, all of them on
  every device. Where the devices do not divide the length, nothing is split.

  Args:
    length: places of a row.
  """
  mesh = _MESH.get()
  rules = RULES | {'batch': (), 'lookup': ()}
  if mesh is not None and length % shards(mesh, 'batch') == 0:
    rules['length'] = RULES['batch']
    rules['lookup_length'] = RULES['lookup']
  token = _RULES.set(rules)
  try:
    yield
  finally:
    _RULES.reset(token)


def in_use() -> Mesh | None:
  """The mesh of the surrounding `use`; None outside of one."""
  return _MESH.get()


def is_split() -> bool:
  """Whether the mesh in use has several devices."""
  mesh = _MESH.get()
  return mesh is not None and mesh.size > 1


def platform(mesh: Mesh | None = None) -> str:
  """The kind of a mesh's devices: 'cpu', 'gpu' or 'tpu'.

  Args:
    mesh: None: the one in use, or jax's own devices outside of `use`.
  """
  mesh = mesh or _MESH.get()
  if mesh is None:
    return jax.default_backend()
  return mesh.devices.flat[0].platform


def device_kind() -> str:
  """What jax calls the devices of the mesh in use, such as 'TPU v4'."""
  mesh = _MESH.get()
  devices = jax.devices() if mesh is None else mesh.devices.flat
  return devices[0].device_kind


def spec(
  names: Sequence[str | None], shape: Sequence[int], mesh: Mesh, what: str
) -> PartitionSpec:
  """The partition of one array.

  Args:
    names: a logical axis per dimension; None is not split.
    shape: its dimensions.
    mesh: whose axis sizes must divide them.
    what: the array's name, for errors.

  Raises:
    ConfigurationError: a name that RULES lacks, two dimensions on one mesh
      axis, or a dimension that its mesh axes do not divide.
  """
  used: dict[str, str] = {}
  entries = []
  for name, size in zip(names, shape, strict=True):
    if name is None:
      entries.append(None)
      continue
    rules = _RULES.get()
    if name not in rules:
      raise configuration.ConfigurationError(
        f'{what}: logical axis {name!r} is not in RULES of partitioning.py. '
        f'Known: {", ".join(RULES)}.'
      )
    axes = tuple(axis for axis in rules[name] if mesh.shape[axis] > 1)
    for axis in axes:
      if axis in used:
        raise configuration.ConfigurationError(
          f'{what} maps {used[axis]} and {name} both to mesh axis {axis!r}. '
          'Edit RULES in partitioning.py.'
        )
      used[axis] = name
    split = int(np.prod([mesh.shape[axis] for axis in axes]))
    if size % split:
      raise configuration.ConfigurationError(
        f'{what}: {name} = {size} is not divisible by {split} '
        f'(mesh {" x ".join(f"{a}={mesh.shape[a]}" for a in axes)}). Change '
        'the mesh (MESH_DATA, MESH_FSDP, MESH_TENSOR) or the size.'
      )
    entries.append(axes if len(axes) > 1 else axes[0] if axes else None)
  return PartitionSpec(*entries)


def shards(mesh: Mesh, name: str) -> int:
  """The number of pieces that a logical axis is split into."""
  return int(np.prod([mesh.shape[axis] for axis in _RULES.get()[name]]))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Pins an activation's partition; nothing where no mesh is in use."""
  if not is_split():
    return x
  mesh = _MESH.get()
  entries = spec(
    names, x.shape, mesh, f'activation {"_".join(map(str, names))}'
  )
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, entries))


def param_shardings(abstract: Any, mesh: Mesh) -> Any:
  """The shardings of a tree of (boxed) parameters.

  Args:
    abstract: what jax.eval_shape(model.init) gives: flax's boxes carry the
      logical names. Arrays without a box are replicated.

  Returns:
    The tree of NamedSharding with the boxes taken off.
  """

  def sharding(path, leaf):
    what = jax.tree_util.keystr(path, simple=True, separator='.')
    if not isinstance(leaf, nn.LogicallyPartitioned):
      return NamedSharding(mesh, PartitionSpec())
    entries = spec(leaf.names, leaf.value.shape, mesh, what)
    return NamedSharding(mesh, entries)

  return jax.tree_util.tree_map_with_path(
    sharding,
    abstract,
    is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned),
  )


def sharding(mesh: Mesh, names: Sequence[str | None], shape, what='array'):
  """The NamedSharding of one array by logical names."""
  return NamedSharding(mesh, spec(names, shape, mesh, what))


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding that puts all of an array on every device."""
  return NamedSharding(mesh, PartitionSpec())
