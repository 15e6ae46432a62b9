"""A job that ran out of memory: how that is seen, and what is said."""

import os
import signal

import pytest

from rest_jax.executors import memory_errors


class XlaRuntimeError(RuntimeError):
  """Of jaxlib, which names it so."""


@pytest.mark.parametrize(
  ('error', 'is_one'),
  [
    (XlaRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9'), True),
    (XlaRuntimeError('INTERNAL: the device is lost'), False),
    (RuntimeError('RESOURCE_EXHAUSTED: a quota of requests'), False),
    (MemoryError(), True),
    (ValueError('a bug'), False),
  ],
)
def test_the_errors_of_jax_and_of_python_are_told_apart(error, is_one):
  assert memory_errors.is_out_of_memory(error) == is_one


def test_jax_itself_raises_what_is_looked_for():
  import jax

  name = jax.errors.JaxRuntimeError.__name__
  assert name in memory_errors._XLA


def test_every_stage_names_its_dials_with_their_values():
  bound = {'MICROBATCHES': '1', 'BATCH_ROWS': '6', 'ROW_LENGTH': 'None'}
  said = memory_errors.told('train', bound, 'RESOURCE_EXHAUSTED: 9\nmore')
  assert said.startswith('out of memory in train: try MICROBATCHES=2 (now 1), ')
  assert 'ROW_LENGTH=… (now None)' in said and 'BATCH_ROWS=3 (now 6)' in said
  assert 'remat=full' in said and 'Not tried again' in said
  assert 'RESOURCE_EXHAUSTED: 9)' in said and 'more)' not in said
  bound = {'MICROBATCHES': '2', 'BATCH_ROWS': '6'}
  bound['/rest_jax.models.architecture.DecoderConfig.remat'] = "'full'"
  said = memory_errors.told('train', bound)
  assert 'MICROBATCHES=6 (now 2)' in said  # 4 does not divide the rows
  assert 'remat' not in said
  said = memory_errors.told('sample', {'GROUPS': '16', 'LANES': "'auto'"})
  assert 'GROUPS=8 (now 16)' in said and "LANES=… (now 'auto')" in said


@pytest.fixture
def kernel(tmp_path, monkeypatch):
  """The files of a kernel that has killed two processes so far."""
  events = tmp_path / 'memory.events'

  def kills(number):
    events.write_text(f'low 0\noom 7\noom_kill {number}\n')

  kills(2)
  monkeypatch.setattr(
    memory_errors, '_group_files', lambda *_: [os.fspath(events)]
  )
  return kills


def test_only_a_killed_process_that_the_kernel_counts_was_too_large(kernel):
  watch = memory_errors.KillWatch(os.getpid())
  assert not watch.killed(-signal.SIGKILL)  # by a person, or a preemption
  kernel(3)
  assert watch.killed(-signal.SIGKILL) and watch.killed(137)
  assert not watch.killed(-signal.SIGTERM) and not watch.killed(1)
  assert not memory_errors.KillWatch(os.getpid()).killed(-signal.SIGKILL)


def test_a_process_that_c_plus_plus_ends_has_said_why(kernel):
  watch = memory_errors.KillWatch(os.getpid())
  assert not watch.killed(-signal.SIGABRT)
  watch.read('  what():  std::bad_alloc')
  assert watch.killed(-signal.SIGABRT) and not watch.killed(1)


def test_without_counts_the_size_of_the_process_decides(monkeypatch):
  watch = memory_errors.KillWatch(os.getpid())
  watch.look()
  assert 1e6 < watch._peak < memory_errors.memory_bytes()
  monkeypatch.setattr(memory_errors, '_kills', dict)
  assert not watch.killed(-signal.SIGKILL)
  monkeypatch.setattr(memory_errors, 'memory_bytes', lambda: watch._peak)
  assert watch.killed(-signal.SIGKILL)
