"""Something to do as soon as another module has been imported.

`import rest_jax.tasks` registers the tasks with SeqIO. But sample and train
import it for vocabularies alone, and SeqIO costs five seconds and half a
gigabyte of TensorFlow. So it waits until somebody else imports SeqIO:

    sys.meta_path: [ours, …]      asks the others for the module's spec, and
                                  puts its own loader around theirs;
    our loader                    steps aside, lets theirs run the module, then
                                  does what was to be done.

A module that fails to import leaves everything as it was, so that a later
attempt is noticed too.
"""

import importlib
import sys
import threading
from collections.abc import Callable


def when_imported(name: str, then: Callable[[], object]) -> None:
  """Calls `then` once: now, where the module is there, else when it comes.

  An exception of `then` is one of the import; the next import tries again.

  Args:
    name: of a module.
    then: runs before `import name` returns, in the thread that imports.
  """
  hook = _Hook(name, then)
  # First the hook, then the look: no import can slip in between.
  sys.meta_path.insert(0, hook)
  if name in sys.modules:
    importlib.import_module(name)  # waits where another thread is at it
    hook.fire()


class _Hook:
  """A finder of one module, first in sys.meta_path until it has fired."""

  def __init__(self, name: str, then: Callable[[], object]):
    self._name = name
    self._then = then
    self._lock = threading.Lock()
    self._fired = False

  def find_spec(self, name, path=None, target=None):
    if name != self._name:
      return None
    for finder in list(sys.meta_path):
      if finder is self or not hasattr(finder, 'find_spec'):
        continue
      spec = finder.find_spec(name, path, target)
      if spec is not None:
        if spec.loader is not None:
          spec.loader = _Loader(spec.loader, self)
        return spec
    return None

  def fire(self) -> None:
    with self._lock:  # never held while `then` runs, which imports
      if self._fired:
        return
      self._fired = True
    try:
      self._then()
    except BaseException:
      self._fired = False
      raise
    if self in sys.meta_path:
      sys.meta_path.remove(self)


class _Loader:
  """The loader of the module, and what comes after it."""

  def __init__(self, loader, hook: _Hook):
    self._loader = loader
    self._hook = hook

  def create_module(self, spec):
    return self._loader.create_module(spec)

  def exec_module(self, module):
    # The module, and who asks its loader for sources or data, see no hook.
    module.__spec__.loader = module.__loader__ = self._loader
    self._loader.exec_module(module)
    self._hook.fire()

  def __getattr__(self, name):
    return getattr(self._loader, name)
