"""The hook on another module's import: once, in any order, from any thread."""

import importlib
import subprocess
import sys
import textwrap
import threading

import pytest

from rest_jax.tasks import import_hook


@pytest.fixture
def module(tmp_path, monkeypatch):
  """Writes a module of a name of its own; returns the name."""
  monkeypatch.syspath_prepend(str(tmp_path))
  before = list(sys.meta_path)
  names = []

  def module(text='value = 1'):
    name = f'hooked_{tmp_path.name.rpartition("_")[2]}_{len(names)}'
    names.append(name)
    (tmp_path / f'{name}.py').write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    return name

  yield module
  for name in names:
    sys.modules.pop(name, None)
  sys.meta_path[:] = [f for f in sys.meta_path if f in before]


def test_before_and_after_the_import_it_is_called_once(module):
  name, calls = module(), []
  import_hook.when_imported(name, lambda: calls.append('waited'))
  assert calls == [] and name not in sys.modules
  found = importlib.import_module(name)
  assert calls == ['waited'] and found.value == 1
  import_hook.when_imported(name, lambda: calls.append('at once'))
  assert calls == ['waited', 'at once']
  importlib.import_module(name)
  importlib.reload(found)
  assert calls == ['waited', 'at once']


def test_it_runs_before_the_import_returns_and_sees_the_whole_module(module):
  name, seen = module('first = 1\nlast = 2'), []
  import_hook.when_imported(
    name, lambda: seen.append(vars(sys.modules[name]).copy())
  )
  importlib.import_module(name)
  assert seen[0]['last'] == 2


def test_nothing_is_left_of_it(module):
  name, plain, before = module(), module(), list(sys.meta_path)
  import_hook.when_imported(name, lambda: None)
  assert sys.meta_path[1:] == before
  assert importlib.util.find_spec(name).loader.is_package(name) is False
  found, other = map(importlib.import_module, (name, plain))
  assert sys.meta_path == before
  assert type(found.__spec__.loader) is type(other.__spec__.loader)
  assert found.__loader__ is found.__spec__.loader


def test_an_import_that_fails_is_noticed_when_it_succeeds(module, tmp_path):
  name, calls = module('import there_is_no_such_module'), []
  import_hook.when_imported(name, lambda: calls.append(1))
  for _ in range(2):
    with pytest.raises(ModuleNotFoundError, match='no_such_module'):
      importlib.import_module(name)
  with pytest.raises(ModuleNotFoundError, match='nowhere'):
    importlib.import_module('nowhere')
  assert calls == []
  (tmp_path / f'{name}.py').write_text('value = 22')
  importlib.invalidate_caches()
  assert importlib.import_module(name).value == 22 and calls == [1]


def test_a_module_that_is_not_installed_is_not_there(module):
  import_hook.when_imported('nowhere_at_all', lambda: None)
  assert importlib.util.find_spec('nowhere_at_all') is None
  with pytest.raises(ModuleNotFoundError):
    importlib.import_module('nowhere_at_all')


def test_an_error_of_what_was_to_be_done_is_told_and_tried_again(module):
  name, calls = module(), []

  def then():
    calls.append(1)
    if len(calls) == 1:
      raise ValueError('not this time')

  import_hook.when_imported(name, then)
  with pytest.raises(ValueError, match='not this time'):
    importlib.import_module(name)
  assert importlib.import_module(name).value == 1 and len(calls) == 2


def test_many_threads_import_and_it_is_done_once_for_all(module):
  name, calls, late = module('import time\ntime.sleep(0.2)'), [], []
  import_hook.when_imported(name, lambda: calls.append(threading.get_ident()))

  def work():
    importlib.import_module(name)
    if not calls:
      late.append(1)

  threads = [threading.Thread(target=work) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(20)
  assert len(calls) == 1 and late == []


def test_an_import_between_the_hook_and_the_look_is_counted_once(
  module, monkeypatch
):
  name, calls = module(), []

  class Eager(list):
    def insert(self, place, finder):
      super().insert(place, finder)
      importlib.import_module(name)  # as another thread may, just then

  monkeypatch.setattr(sys, 'meta_path', Eager(sys.meta_path))
  import_hook.when_imported(name, lambda: calls.append(1))
  assert calls == [1]


# A package whose import waits for `slow`, and whose registration needs both,
# as rest_jax.tasks does; each round in a process of its own.
RACE = """
import sys, threading, time
sys.path.insert(0, {folder!r})
def tasks():
  time.sleep({tasks})
  import pack
def slow():
  time.sleep({slow})
  import slow
threads = [threading.Thread(target=t, daemon=True) for t in (tasks, slow)]
[t.start() for t in threads]
[t.join(20) for t in threads]
import slow
print([t.is_alive() for t in threads], slow.registered)
"""


def test_two_threads_that_import_each_a_side_do_not_wait_for_ever(
  tmp_path, root
):
  (tmp_path / 'slow.py').write_text(
    'import time\ntime.sleep(0.3)\nregistered = []\n'
  )
  (tmp_path / 'pack').mkdir()
  (tmp_path / 'pack' / '__init__.py').write_text(
    'import importlib, time\n'
    'from rest_jax.tasks.import_hook import when_imported\n'
    'time.sleep(0.1)\n'
    "when_imported('slow', lambda: importlib.import_module('pack.tasks'))\n"
    'time.sleep(0.1)\n'
  )
  (tmp_path / 'pack' / 'parts.py').write_text('name = "math"\n')
  (tmp_path / 'pack' / 'tasks.py').write_text(
    'import slow\nfrom pack import parts\nslow.registered.append(parts.name)\n'
  )
  for wait in (0.0, 0.05, 0.15, 0.25):
    for before in ({'tasks': wait, 'slow': 0.0}, {'tasks': 0.0, 'slow': wait}):
      script = RACE.format(folder=str(tmp_path), **before)
      out = subprocess.check_output(
        [sys.executable, '-c', script], text=True, timeout=60, cwd=root
      )
      assert out == "[False, False] ['math']\n", before
