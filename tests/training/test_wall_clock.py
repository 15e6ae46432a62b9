"""The parts of the wall time: they add up, over restarts too."""

import time

import pytest

from rest_jax.artifacts import goodput, storage
from rest_jax.training import wall_clock


@pytest.fixture
def now(monkeypatch):
  """A clock of the test's own: now.pass_(seconds)."""

  class Now:
    monotonic, time = 500.0, 1e9

    def pass_(self, seconds):
      self.monotonic += seconds
      self.time += seconds

  found = Now()
  monkeypatch.setattr(wall_clock.time, 'monotonic', lambda: found.monotonic)
  monkeypatch.setattr(wall_clock.time, 'time', lambda: found.time)
  monkeypatch.setattr(wall_clock, '_newest', [None])
  return found


def test_every_second_is_counted_once_and_for_the_innermost_part(now):
  clock = wall_clock.Clock(age=2.0)
  now.pass_(3)
  with clock.within('steps'):
    now.pass_(10)
    with clock.within('validation'):
      now.pass_(4)
      clock.move(1.5, 'compile')
    now.pass_(5)
    with pytest.raises(KeyError), clock.within('saves'):
      now.pass_(1)
      raise KeyError
  now.pass_(7)
  found = clock.seconds()
  assert {part: v for part, v in found.items() if v} == {
    'startup': 12.0,
    'steps': 15.0,
    'validation': 2.5,
    'compile': 1.5,
    'saves': 1.0,
  }
  assert sum(found.values()) == 2 + 3 + 10 + 4 + 5 + 1 + 7
  assert goodput.share(found) == 15 / 32
  assert goodput.words(found).startswith('47% of 32 s in steps; startup 38%')


def test_steps_that_a_kill_took_are_lost_and_the_time_between_is_down(
  now, tmp_path
):
  folder, began = storage.path(tmp_path), now.time
  clock = wall_clock.Clock(age=0.0)
  clock.resume(folder)
  clock.restored('lr_0.1', 0)
  with clock.within('steps'):
    now.pass_(10)
    clock.saved('lr_0.1', 5)
    now.pass_(6)
    clock.note(now=True)
    now.pass_(3)  # killed here: nobody noted these
  now.pass_(100)
  again = wall_clock.Clock(age=4.0)
  again.resume(folder)
  with again.within('restore'):
    now.pass_(2)
  again.restored('lr_0.1', 5)
  with again.within('steps'):
    now.pass_(20)
    again.saved('lr_0.1', 10)
  found = again.seconds()
  assert found['lost'] == 6 and found['steps'] == 10 + 20
  assert found['down'] == 3 + 100 - 4 and found['restore'] == 2
  assert sum(found.values()) == pytest.approx(now.time - began)


def test_without_a_save_all_steps_are_lost_and_others_of_the_grid_stay(
  now, tmp_path
):
  folder = storage.path(tmp_path)
  clock = wall_clock.Clock(age=0.0)
  clock.resume(folder)
  for name, seconds in (('lr_0.1', 30), ('lr_0.2', 8)):
    clock.restored(name, 0)
    with clock.within('steps'):
      now.pass_(seconds)
  clock.note(now=True)
  again = wall_clock.Clock(age=0.0)
  again.resume(folder)
  again.restored('lr_0.2', 0)
  found = again.seconds()
  assert found['lost'] == 8 and found['steps'] == 30


def test_a_compilation_is_counted_where_it_happens(monkeypatch):
  import jax
  import jax.numpy as jnp

  monkeypatch.setattr(wall_clock, '_newest', [])  # as in a new process
  before = time.monotonic()
  clock = wall_clock.Clock(age=0.0)
  with clock.within('steps'):
    jax.jit(lambda x: jnp.sin(x) * 3.25)(jnp.ones(7)).block_until_ready()
  found = clock.seconds()
  assert 0 < found['compile'] and found['steps'] > 0  # tracing is no compiling
  assert sum(found.values()) <= time.monotonic() - before
