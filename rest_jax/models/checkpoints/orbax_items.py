"""One item of an Orbax checkpoint: a tree of arrays in this network's shapes.

Restored onto a mesh, where each host reads the shards of its own devices; or
read array by array, so that a model is exported by a machine that could not
hold it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import weights

_SAVED_AT_ONCE = 1  # GB of host memory that a save holds beside the arrays


class Leaf(NamedTuple):
  """An array of an item.

  Attributes:
    shape: its sizes.
    dtype: in which it was saved.
  """

  shape: tuple[int, ...]
  dtype: np.dtype


def leaves(source: storage.PathLike) -> dict[str, Leaf]:
  """The arrays of an item by path, 'params/blocks/query' say.

  Args:
    source: the item's folder.

  Raises:
    ConfigurationError: no item of Orbax is there, or it is damaged.
  """
  import orbax.checkpoint as ocp

  with _Readable(source), ocp.PyTreeCheckpointer() as checkpointer:
    metadata = checkpointer.metadata(storage.absolute(source)).item_metadata
    tree = getattr(metadata, 'tree', metadata)
  return {
    path: Leaf(tuple(leaf.shape), np.dtype(leaf.dtype))
    for path, leaf in _flat(tree).items()
  }


def require_same(
  source: storage.PathLike, wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, Leaf]:
  """The arrays of an item, which must be the wanted ones.

  Args:
    source: the item's folder.
    wanted: path to shape of all arrays that a network has.

  Raises:
    ConfigurationError: listing the arrays that are missing, have another
      shape, or are not wanted.
  """
  found = leaves(source)
  lines = [
    f'{path}: not in the checkpoint, MODEL needs {shape}'
    if path not in found
    else f'{path}: the checkpoint has {found[path].shape}, MODEL needs {shape}'
    for path, shape in wanted.items()
    if path not in found or found[path].shape != tuple(shape)
  ]
  lines += [
    f'{path}: {leaf.shape}, nothing in MODEL uses it'
    for path, leaf in found.items()
    if path not in wanted
  ]
  weights.require_same(source, lines)
  return found


def restore(source: storage.PathLike, target: Any) -> Any:
  """Reads an item into the target's shardings, cast to its dtypes.

  Collective: every process reads the shards of its own devices.

  Args:
    source: the item's folder.
    target: jax.ShapeDtypeStructs with shardings.

  Raises:
    ConfigurationError: the item has other arrays than the target, all listed,
      or cannot be read.
  """
  import orbax.checkpoint as ocp

  require_same(source, {p: leaf.shape for p, leaf in _flat(target).items()})
  with _Readable(source), ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(storage.absolute(source), target)


def save(target: storage.PathLike, tree: Any) -> None:
  """Writes an item, in place of one that is there. Collective.

  Args:
    target: the item's folder; it appears when the item is complete.
    tree: of jax.Arrays; each host writes its own shards.

  Raises:
    OSError: the disk is full.
  """
  import orbax.checkpoint as ocp

  handler = ocp.PyTreeCheckpointHandler(save_concurrent_gb=_SAVED_AT_ONCE)
  with storage.disk_errors(target), ocp.Checkpointer(handler) as checkpointer:
    checkpointer.save(
      storage.absolute(target), args=ocp.args.PyTreeSave(tree), force=True
    )


class Item:
  """An item as a weights.Source. It holds one array at a time.

  Tensors are read in the order of weights.by_array, or each array is read once
  for every layer.
  """

  def __init__(self, source: storage.PathLike, found: Mapping[str, Leaf]):
    """Args:
    source: the item's folder.
    found: its arrays.
    """
    self._source, self._found = source, found
    self._path, self._array = '', np.zeros(0)

  def dtype(self, tensor: weights.Tensor) -> np.dtype:
    """See weights.Source."""
    return self._found[tensor.path].dtype

  def read(
    self, tensor: weights.Tensor, rows: slice, columns: slice
  ) -> np.ndarray:
    """See weights.Source."""
    if self._path != tensor.path:
      self._path, self._array = '', np.zeros(0)  # freed before the next
      self._array = _read(self._source, tensor.path)
      self._path = tensor.path
    here = self._array if tensor.index is None else self._array[tensor.index]
    return weights.published(tensor, here)[
      (rows, columns) if tensor.inputs else rows
    ]


def opened(source: storage.PathLike, config: DecoderConfig) -> Item:
  """Compares an item with the network and opens it.

  Args:
    source: the item's folder.
    config: the network.

  Raises:
    ConfigurationError: see `require_same`.
  """
  return Item(source, require_same(source, weights.shapes(config)))


def _read(source: storage.PathLike, path: str) -> np.ndarray:
  """One array of an item, in the dtype in which it was saved."""
  import orbax.checkpoint as ocp

  keys = path.split('/')

  def nested(value: Any) -> Any:
    for key in reversed(keys):
      value = {key: value}
    return value

  arguments = ocp.args.PyTreeRestore(
    item=nested(0),
    restore_args=nested(ocp.RestoreArgs(restore_type=np.ndarray)),
    partial_restore=True,
  )
  with _Readable(source), ocp.PyTreeCheckpointer() as checkpointer:
    found = checkpointer.restore(storage.absolute(source), args=arguments)
  for key in keys:
    found = found[key]
  return found


def _flat(tree: Any) -> dict[str, Any]:
  """The leaves of nested mappings by their path."""
  if not isinstance(tree, Mapping):
    return {'': tree}
  return {
    f'{key}/{path}' if path else str(key): leaf
    for key, value in tree.items()
    for path, leaf in _flat(value).items()
  }


# What Orbax and TensorStore say of files that are missing or cut off. Other
# errors, of the network say, may pass: the job is tried again.
_DAMAGED = ('NOT_FOUND', 'DATA_LOSS', 'OUT_OF_RANGE', 'FAILED_PRECONDITION')


class _Readable:
  """Turns what is said of damaged files into a ConfigurationError."""

  def __init__(self, source: storage.PathLike):
    self._source = source

  def __enter__(self) -> None:
    pass

  def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
    if error is None or not isinstance(error, Exception):
      return
    texts = [str(error)]
    while error.__cause__ is not None:
      error = error.__cause__
      texts.append(str(error))
    damaged = isinstance(error, (ValueError, KeyError, FileNotFoundError))
    if damaged or any(word in text for text in texts for word in _DAMAGED):
      raise configuration.ConfigurationError(
        f'{self._source}: cannot be read; a file of the checkpoint is missing '
        f'or damaged. Copy it again. ({texts[-1].splitlines()[0][:300]})'
      ) from error
