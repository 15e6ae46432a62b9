"""A gs:// that lives in memory, for the fixture `bucket` of conftest.py.

It keeps what matters of an object store: there are no folders, only names
with slashes in them; an object appears whole when its upload is closed, and an
upload that is given up leaves nothing; there is no rename that is atomic.
"""

import io
import time

import fsspec


class _Upload(io.BytesIO):
  def __init__(self, objects: dict, name: str):
    super().__init__()
    self._objects, self._name = objects, name

  def __exit__(self, kind, error, trace):
    if kind is not None:
      self._objects = {}  # an upload cut short is never seen
    self.close()

  def close(self):
    if not self.closed:
      self._objects[self._name] = (self.getvalue(), time.time())
    super().close()


class ObjectStore(fsspec.AbstractFileSystem):
  """gs:// as fsspec sees it, with its objects in a dict."""

  protocol = ('gs', 'gcs')
  cachable = False
  objects: dict[str, tuple[bytes, float]] = {}

  def ls(self, path, detail=True, **_):
    path = self._strip_protocol(path).rstrip('/')
    found = {}
    for name, (data, created) in self.objects.items():
      if name == path:
        found[name] = _entry(name, 'file', len(data), created)
      elif name.startswith(f'{path}/' if path else ''):
        rest = name[len(path) + 1 :] if path else name
        head, slash, _ = rest.partition('/')
        child = f'{path}/{head}' if path else head
        size = 0 if slash else len(data)
        kind = 'directory' if slash else 'file'
        found[child] = _entry(child, kind, size, created)
    if not found:
      raise FileNotFoundError(path)
    return [found[k] if detail else k for k in sorted(found)]

  def info(self, path, **_):
    path = self._strip_protocol(path).rstrip('/')
    if path in self.objects:
      data, created = self.objects[path]
      return _entry(path, 'file', len(data), created)
    if any(name.startswith(f'{path}/') for name in self.objects):
      return _entry(path, 'directory', 0, 0.0)
    raise FileNotFoundError(path)

  def _open(self, path, mode='rb', **_):
    path = self._strip_protocol(path)
    if mode == 'rb':
      if path not in self.objects:
        raise FileNotFoundError(path)
      return io.BytesIO(self.objects[path][0])
    if mode == 'wb':
      return _Upload(self.objects, path)
    raise ValueError(f'an object store cannot open with mode {mode!r}')

  def _rm(self, path):
    del self.objects[self._strip_protocol(path)]

  def rm(self, path, recursive=False, maxdepth=None):
    path = self._strip_protocol(path)
    names = [
      name
      for name in self.objects
      if name == path or (recursive and name.startswith(f'{path}/'))
    ]
    if not names:
      raise FileNotFoundError(path)
    for name in names:
      del self.objects[name]

  def cp_file(self, path1, path2, **_):
    source, target = map(self._strip_protocol, (path1, path2))
    self.objects[target] = self.objects[source]

  def mkdir(self, path, create_parents=True, **_):
    """There are no folders."""

  def makedirs(self, path, exist_ok=False):
    """There are no folders."""


def _entry(name, kind, size, created):
  return {'name': name, 'type': kind, 'size': size, 'created': created}
