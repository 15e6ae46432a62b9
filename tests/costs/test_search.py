"""The search: what it tries, in which order, and what it gives."""

import pytest
import small_networks

from rest_jax.costs import search
from rest_jax.distributed.partitioning import MeshConfig
from rest_jax.training.hyperparameters import TrainConfig


def moves(*axes):
  """Each changes one place of a tuple to each of some values."""

  def of(place, values):
    return lambda now: [
      (*now[:place], value, *now[place + 1 :]) for value in values
    ]

  return [of(place, values) for place, values in enumerate(axes)]


def explored(cost, compiles=100):
  tried = []

  def counted(candidate):
    tried.append(candidate)
    return cost(candidate)

  axes = moves((1, 2, 3), (10, 20), ('a', 'b'))
  start = search.Outcome((1, 10, 'a'), cost((1, 10, 'a')))
  found = search.explore(start, axes, counted, compiles)
  return found, tried


def test_each_dial_is_changed_from_the_best_so_far(capsys):
  def cost(candidate):
    first, second, third = candidate
    return abs(first - 3) + second / 100 + (third == 'a')

  found, tried = explored(cost)
  assert tried == [  # what is set was compiled before
    *((2, 10, 'a'), (3, 10, 'a')),
    (3, 20, 'a'),
    (3, 10, 'b'),
  ]
  assert [one.candidate for one in found] == [
    *((3, 10, 'b'), (3, 10, 'a'), (3, 20, 'a')),
    *((2, 10, 'a'), (1, 10, 'a')),
  ]
  printed = capsys.readouterr().out.splitlines()
  assert printed[-2].startswith('search   4 of 100')
  assert printed[-1].strip() == '0.1 chip-hours'


def test_what_does_not_fit_is_tried_once_and_not_given(capsys):
  found, tried = explored(lambda one: None if one[0] < 3 else 1.0)
  assert tried[:2] == [(2, 10, 'a'), (3, 10, 'a')]
  assert {one.candidate[0] for one in found} == {3}
  assert capsys.readouterr().out.count('does not fit') == 1
  assert len(tried) == len(set(tried))


def test_a_search_ends_after_so_many_compiles():
  _, tried = explored(lambda one: float(one[0]), compiles=3)
  assert len(tried) == 3


def test_meshes_that_divide_nothing_are_not_compiled():
  config = TrainConfig(max_steps=1, batch_rows=16)
  remat, mesh, microbatches = search.training_moves(
    config, [None] * 16, lambda mesh: mesh.tensor <= 2
  )
  now = search.Step(MeshConfig(data=1, fsdp=16, tensor=1), 'full', 1)
  choices = ['none', 'dots', 'attention', 'full']
  assert [one.remat for one in remat(now)] == choices
  shapes = {(m.data, m.fsdp, m.tensor) for m, *_ in mesh(now)}
  assert shapes == {
    *((1, 16, 1), (4, 4, 1), (16, 1, 1)),
    *((1, 8, 2), (4, 2, 2)),
  }
  # One row on each device: there is nothing to split.
  assert {one.microbatches for one in microbatches(now)} == {1}


def test_decoding_keeps_whole_groups_on_each_copy_of_the_weights():
  model = small_networks.network(
    num_heads=8, num_kv_heads=4, mlp_dim=64, vocab_size=64
  )
  tensor, rows, lanes = search.sampling_moves(model, chips=8, num_samples=32)
  now = search.Decoding(tensor=2, groups=16, lanes=8)
  assert [one.tensor for one in tensor(now)] == [1, 2, 4]  # 4 key heads
  assert [one.groups for one in rows(now)] == [64, 32, 8]
  pairs = [(one.groups, one.lanes) for one in lanes(now)]
  assert pairs == [(64, 2), (32, 4), (16, 8), (8, 16)]


def test_the_best_few_are_printed_with_their_dials_beside_what_is_set():
  step = search.Step(MeshConfig(data=2, fsdp=8, tensor=1), 'dots', 2)
  found = [
    search.Outcome(step._replace(microbatches=number), 12.0)
    for number in range(1, 6)
  ]
  start = search.Outcome(step._replace(remat='full'), 13.5)
  for as_set, number in ((start, 4), (found[1], 3)):
    head, *lines = search.lines('training', as_set, found)
    assert head.startswith('search   training, ')
    assert len(lines) == number
    assert '12 chip-hours' in lines[0]
    for dial in ('--gin.MESH_DATA=2', 'remat=dots', '--gin.MICROBATCHES=1'):
      assert dial in lines[0]
    [marked] = [line for line in lines if line.endswith('(as set)')]
    assert str(as_set.candidate) in marked
  [nothing] = search.lines('training', start._replace(cost=None), [])
  assert 'nothing that was tried fits' in nothing
  *_, last = search.lines('training', start._replace(cost=None), found)
  assert 'does not fit' in last and last.endswith('(as set)')


@pytest.mark.parametrize('compiles', [0, -1])
def test_a_search_compiles_something(compiles):
  with pytest.raises(ValueError, match='compiles'):
    search.SearchConfig(compiles=compiles)
