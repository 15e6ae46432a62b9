"""Other meshes, layouts and dials, tried by compiling them.

One kind of dial after the other is changed, the rest being as in the best that
was found so far: all combinations would take days.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from rest_jax.config import configuration
from rest_jax.distributed import partitioning
from rest_jax.models.architecture import DecoderConfig
from rest_jax.training.hyperparameters import TrainConfig

_REMAT = ('none', 'dots', 'attention', 'full')
_ROWS = 256  # decoded at once on a chip, at most
_LANES = (2, 4, 8, 16)
_BEST = 3  # are shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(configuration.Configuration):
  """Whether to search, and how long.

  Attributes:
    is_on: whether to search at all.
    compiles: of programs, at most.
  """

  is_on: bool = False
  compiles: int = 12

  def check(self):
    self.require(self.compiles > 0, 'compiles', 'at least 1')


class Step(NamedTuple):
  """A way to train; a candidate."""

  mesh: partitioning.MeshConfig
  remat: str
  microbatches: int

  def __str__(self) -> str:
    return (
      f'--gin.MESH_DATA={self.mesh.data} --gin.MESH_FSDP={self.mesh.fsdp} '
      f'--gin.MESH_TENSOR={self.mesh.tensor} '
      f'--gin.architecture.DecoderConfig.remat={self.remat} '
      f'--gin.MICROBATCHES={self.microbatches}'
    )


class Decoding(NamedTuple):
  """A way to sample; a candidate."""

  tensor: int
  groups: int
  lanes: int

  def __str__(self) -> str:
    return (
      f'--gin.SAMPLE_MESH_TENSOR={self.tensor} --gin.GROUPS={self.groups} '
      f'--gin.LANES={self.lanes}'
    )


class Outcome(NamedTuple):
  """What came of a candidate.

  Attributes:
    candidate: what was compiled.
    cost: chip-hours of the run's stage; None: it does not fit.
  """

  candidate: Any
  cost: float | None


def explore(
  start: Outcome,
  moves: Sequence[Callable[[Any], Iterable[Any]]],
  cost: Callable[[Any], float | None],
  compiles: int,
) -> list[Outcome]:
  """Candidates that fit, the cheapest first.

  Args:
    start: what is set, which was compiled before.
    moves: each gives others than the best so far, in one kind of dial.
    cost: compiles a candidate; None: it does not fit.
    compiles: how many, at most.
  """
  tried: dict[Any, float | None] = {start.candidate: start.cost}

  def best() -> Any:
    fitting = [one for one, found in tried.items() if found is not None]
    return min(fitting, key=lambda one: tried[one], default=start.candidate)

  for move in moves:
    for candidate in move(best()):
      if candidate in tried or len(tried) > compiles:
        continue
      print(
        f'search   {len(tried)} of {compiles} at most: {candidate}', flush=True
      )
      tried[candidate] = cost(candidate)
      print(f'         {_hours(tried[candidate])}', flush=True)
  found = [Outcome(*pair) for pair in tried.items() if pair[1] is not None]
  return sorted(found, key=lambda outcome: outcome.cost)


def _hours(cost: float | None) -> str:
  return 'does not fit' if cost is None else f'{cost:.4g} chip-hours'


def training_moves(
  config: TrainConfig,
  devices: Sequence[jax.Device],
  divides: Callable[[partitioning.MeshConfig], bool],
) -> list[Callable[[Step], Iterable[Step]]]:
  """What to change of a training step.

  Args:
    config: of the step.
    devices: of all slices.
    divides: whether a mesh divides the network and the rows, and can be laid
      out on the devices.
  """
  chips = len(devices)

  def remat(now: Step) -> Iterable[Step]:
    for name in _REMAT:
      yield now._replace(remat=name)

  def mesh(now: Step) -> Iterable[Step]:
    for tensor in (1, 2, 4, 8):
      for fsdp in (
        chips // tensor,
        chips // tensor // 4,
        chips // tensor // 16,
      ):
        if fsdp < 1 or chips % (tensor * fsdp):
          continue
        split = partitioning.MeshConfig(
          data=chips // tensor // fsdp, fsdp=fsdp, tensor=tensor
        )
        if divides(split):
          yield now._replace(mesh=split)

  def microbatches(now: Step) -> Iterable[Step]:
    share = config.batch_rows // (now.mesh.data * now.mesh.fsdp)
    for number in (1, 2, 4, 8):
      if share % number == 0:
        for name in dict.fromkeys((now.remat, 'dots')):
          yield now._replace(microbatches=number, remat=name)

  return [remat, mesh, microbatches]


def sampling_moves(
  model: DecoderConfig, chips: int, num_samples: int
) -> list[Callable[[Decoding], Iterable[Decoding]]]:
  """What to change of decoding.

  Args:
    model: the network.
    chips: of one worker.
    num_samples: of a problem.
  """

  def tensor(now: Decoding) -> Iterable[Decoding]:
    for size in (1, 2, 4, 8, 16):
      sizes = (model.num_kv_heads, model.mlp_dim, model.vocab_size, chips)
      if all(whole % size == 0 for whole in sizes):
        yield now._replace(tensor=size)

  def rows(now: Decoding) -> Iterable[Decoding]:
    for times in (4, 2, 0.5):
      groups = max(int(now.groups * times), 1)
      fits = groups * now.lanes <= _ROWS * chips
      if fits and groups % (chips // now.tensor) == 0:
        yield now._replace(groups=groups)

  def lanes(now: Decoding) -> Iterable[Decoding]:
    for number in _LANES:
      groups = now.groups * now.lanes // number
      if number <= num_samples and groups % (chips // now.tensor) == 0:
        yield now._replace(groups=groups, lanes=number)

  return [tensor, rows, lanes]


def lines(what: str, start: Outcome, found: Sequence[Outcome]) -> list[str]:
  """The best few, for a person.

  Args:
    what: was searched.
    start: what is set.
    found: of `explore`.
  """
  if not found:
    return [f'search   {what}: nothing that was tried fits']
  shown = list(found[:_BEST])
  if start.candidate not in [one.candidate for one in shown]:
    shown.append(start)
  return [
    f'search   {what}, chip-hours of the whole run: the best first',
    *(
      f'         {_hours(one.cost)}: {one.candidate}'
      + (' (as set)' if one.candidate == start.candidate else '')
      for one in shown
    ),
  ]
