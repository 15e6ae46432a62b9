"""What is advised where a training step does not fit."""

import dataclasses
import types

import jax
import pytest
import small_networks

from rest_jax.config import configuration
from rest_jax.costs import fitting, tpu_compiler
from rest_jax.distributed import partitioning
from rest_jax.training.hyperparameters import TrainConfig

GIB = 2**30
MODEL = small_networks.network(embed_dim=256, num_heads=4, num_kv_heads=4)


class XlaRuntimeError(Exception):
  """What XLA raises, by its name."""


@pytest.fixture
def advised():
  """Gives the advice for a step of so many GiB with remat = 'full'.

  A stub stands for the compiler: the memory falls with the microbatches, is ten
  times as much without remat, and above 100 GiB the compiler gives up.
  """
  tried = []

  def compiled(gib):
    def total(model, config):
      tried.append((model.remat, config.microbatches))
      needed = gib / config.microbatches * (1 if model.remat == 'full' else 10)
      if needed > 100:
        raise XlaRuntimeError('RESOURCE_EXHAUSTED: Ran out of memory')
      return needed * GIB

    return total

  def advise(gib, remat='none'):
    tried.clear()
    text = fitting.what_fits(
      compiled(gib),
      dataclasses.replace(MODEL, remat=remat),
      train_config(batch_rows=256),
      types.SimpleNamespace(shape={'data': 2, 'fsdp': 2, 'tensor': 2}),
      16 * GIB,
    )
    return text, list(tried)

  return advise


def train_config(batch_rows):
  return TrainConfig(max_steps=1, batch_rows=batch_rows)


REMAT = '--gin.architecture.DecoderConfig.remat=full'


@pytest.mark.parametrize(
  ('gib', 'remat', 'dials', 'left'),
  [
    (10, 'none', REMAT, 10.0),
    (40, 'none', f'{REMAT} --gin.MICROBATCHES=8', 5.0),
    (640, 'none', f'{REMAT} --gin.MICROBATCHES=64', 10.0),
    (40, 'full', '--gin.MICROBATCHES=8', 5.0),
  ],
)
def test_the_first_dials_that_fit_are_advised(advised, gib, remat, dials, left):
  text, tried = advised(gib, remat)
  assert text == f'With {dials} it fits: {left:.2f} GiB.'
  # What was asked for has been compiled already.
  assert (remat, 1) not in tried and len(tried) == len(set(tried))


def test_where_no_dial_helps_other_chips_are_advised(advised):
  text, tried = advised(64 * 17)  # one row of a chip at a time: 17 GiB
  assert text.startswith('Neither remat nor MICROBATCHES makes it fit')
  assert tried == [('full', 1), ('full', 8), ('full', 64)]


def test_another_error_of_the_compiler_is_not_taken_for_too_little_memory(
  advised,
):
  with pytest.raises(ZeroDivisionError):
    advised(_Broken())


class _Broken:
  def __truediv__(self, other):
    raise ZeroDivisionError


@pytest.mark.parametrize(
  ('embed_dim', 'rows', 'advice'),
  [
    (256, 8, '--gin.MESH_DATA=1 --gin.MESH_FSDP=8 divides'),
    (60, 8, '--gin.MESH_DATA=2 --gin.MESH_FSDP=4 divides'),
    (61, 8, '--gin.MESH_DATA=8 --gin.MESH_FSDP=1 divides'),
    (256, 9, '--gin.MESH_DATA=1 --gin.MESH_FSDP=8 --gin.BATCH_ROWS=16 divides'),
  ],
)
def test_a_mesh_that_divides_is_advised(embed_dim, rows, advice):
  """The largest FSDP of the 8 devices that divides the embedding."""
  devices = jax.devices()[:8]
  model = dataclasses.replace(MODEL, embed_dim=embed_dim)
  mesh = partitioning.MeshConfig(data=1, fsdp=1, tensor=8)  # of 4 heads
  with pytest.raises(configuration.ConfigurationError) as error:
    fitting.require_divisible(
      model,
      train_config(batch_rows=rows),
      partitioning.make_mesh(mesh, devices),
      devices,
    )
  assert 'is not divisible by 8' in str(error.value)
  assert advice in str(error.value)


def test_a_mesh_that_divides_everything_is_left_alone():
  devices = jax.devices()[:8]
  mesh = partitioning.MeshConfig(data=2, fsdp=2, tensor=2)
  fitting.require_divisible(
    MODEL,
    train_config(batch_rows=8),
    partitioning.make_mesh(mesh, devices),
    devices,
  )


def test_the_compilers_figures_are_given_in_one_clause():
  text = 'RESOURCE_EXHAUSTED: XLA:TPU ... Used 17.20G of 15.75G hbm. Exceeded'
  assert tpu_compiler.needed(text) == (
    'needs 17.20 GiB per chip, a chip has 15.75 GiB'
  )
  temporaries = (
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
    'for HLO temporaries (19.62G) exceeds available HBM (15.75G).'
  )
  assert tpu_compiler.needed(temporaries) == (
    'needs 19.62 GiB per chip for temporaries, a chip has 15.75 GiB'
  )
  assert tpu_compiler.needed('out of\n  space.') == (
    'the compiler says: out of space'
  )
