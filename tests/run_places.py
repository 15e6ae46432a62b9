"""Where a run of cluster_run.py lies: a folder here, or gs:// of this process.

The store is object_store.py's, which the real gcsfs, google-cloud-storage and
TensorStore of the run's processes talk to; some of its requests can be made to
fail.
"""

import collections
import contextlib
import functools
import json
import pathlib
import random
import threading

import kill
import object_store

_AWAY_SECONDS = 60.0  # longer than any client asks again by itself
_GUSTS = 40  # between two outages


class Folder:
  """A run in a folder of this machine.

  Attributes:
    run_dir: what RUN_DIR is set to.
    environment: of every process of the run.
    table: what its requests have met.
  """

  def __init__(self, base: pathlib.Path, name: str):
    self.run_dir = str(base / name)
    self.environment: dict[str, str] = {}
    self.table = collections.Counter()

  def read(self, name: str) -> bytes | None:
    """A file of the run; None where it is not there."""
    file = pathlib.Path(self.run_dir) / name
    return file.read_bytes() if file.exists() else None

  def content(self) -> dict[str, object]:
    """See kill.content."""
    return kill.content(pathlib.Path(self.run_dir))


class Store(Folder):
  """A run on gs://; to be used as a context manager."""

  def __init__(
    self,
    base: pathlib.Path,
    name: str,
    rng: random.Random | None,
    outages: bool = False,
  ):
    """Args:
    base: a folder for a copy of the run.
    name: of the run.
    rng: what goes wrong; None: nothing.
    outages: whether all requests fail for a minute, too.
    """
    super().__init__(base, name)
    self._copy, self._name = base / name, name
    self.run_dir = f'gs://{object_store.BUCKET}/{name}'
    self._rng, self._outages = rng, outages
    self._stop = threading.Event()

  def __enter__(self):
    self._stack = contextlib.ExitStack()
    self._store, address = self._stack.enter_context(object_store.serve())
    self.environment = object_store.environment(address)
    self._weather = threading.Thread(target=self._make_weather)
    self._weather.start()
    return self

  def __exit__(self, *_):
    self._stop.set()
    self._weather.join()
    self._stack.close()

  def read(self, name: str) -> bytes | None:
    """See Folder."""
    found = self._store.objects.get(
      f'{object_store.BUCKET}/{self._name}/{name}'
    )
    return found and found.data

  def content(self) -> dict[str, object]:
    """See Folder; of a copy in `base`."""
    prefix = f'{object_store.BUCKET}/{self._name}/'
    for name, found in sorted(self._store.objects.items()):
      if name.startswith(prefix) and not name.endswith('/'):
        file = self._copy / name.removeprefix(prefix)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(found.data)
    return kill.content(self._copy)

  def _make_weather(self) -> None:
    """Short gusts, each of one kind; what asks just then meets them."""
    kinds = {
      '503': ('.', {}),
      '429': ('.', {'status': 429}),
      'lost answers': ('POST|PUT|DELETE', {'after': True}),
      'slow uploads': ('/upload', {'status': None, 'delay': 2.0}),
      'slow answers': ('GET', {'status': None, 'delay': 1.0}),
    }
    gusts = 0
    while self._rng and not self._stop.wait(self._rng.uniform(1, 4)):
      name = self._rng.choice(sorted(kinds))
      pattern, how = kinds[name]
      times, seconds = 3, 0.5
      if self._outages and gusts % _GUSTS == 0:  # the first as a launch begins
        name, pattern, how = 'away', '.', {}
        times, seconds = 10**9, _AWAY_SECONDS
      gusts += 1
      hit = functools.partial(self.table.update, [name])
      self._store.fault(pattern, times=times, on_hit=hit, **how)
      self._stop.wait(seconds)
      self._store.fault_nothing()


def record(place: Folder, job: str) -> dict | None:
  """What the launcher has noted of a job."""
  found = place.read(f'jobs/{job}.json')
  return json.loads(found) if found else None
