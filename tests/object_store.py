"""A small Google Cloud Storage server on this machine, for the tests.

It speaks the JSON API over HTTP, so that the real clients are tested: gcsfs
(epath), google-cloud-storage, TensorStore. It keeps what matters of the store:

* there are no folders, only names with slashes in them;
* an object appears whole, at the end of its upload;
* every write gives an object a new generation, and a request may state the
  generation that it expects (0: the object must not exist), else 412;
* requests fail: see `ObjectStore.fault`.

https://cloud.google.com/storage/docs/json_api
"""

import base64
import collections
import contextlib
import dataclasses
import datetime
import hashlib
import http.server
import itertools
import json
import re
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator

import google_crc32c

BUCKET = 'bucket'
# gcsfs looks for no credentials, and for no other kinds of buckets by gRPC.
CLIENTS = {
  'FSSPEC_GS': '{"token": "anon"}',
  'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
}


def environment(address: str) -> dict[str, str]:
  """Of a process that shall take a server's address for gs://."""
  return {
    **CLIENTS,
    # Both clients read it: gcsfs and google-cloud-storage; TensorStore another.
    'STORAGE_EMULATOR_HOST': address,
    'TENSORSTORE_GCS_HTTP_URL': address,
  }


@dataclasses.dataclass
class Object:
  """One object: its bytes, its generation, and since when it has its name."""

  data: bytes
  generation: int
  updated: str
  since: float  # by time.monotonic()


@dataclasses.dataclass
class Fault:
  """What happens to some of the coming requests.

  Attributes:
    pattern: a regular expression, searched in 'METHOD /path?query'; an upload's
      name is added as &name= where it stands in the body.
    times: how many requests it still meets.
    status: answered instead of the result; None: the result itself.
    after: whether the request takes effect before it is answered so.
    delay: seconds to wait before anything else.
    on_hit: called with each request that it meets.
  """

  pattern: str
  times: int
  status: int | None
  after: bool
  delay: float
  on_hit: Callable[[], None]


class ObjectStore:
  """The state of the server; see `serve`.

  Attributes:
    stale_seconds: for which a new object is missing in listings, and one that
      was deleted is still there. Those of Google Cloud Storage are never stale,
      and Orbax relies on it: with 0.3 s a training cannot save.
  """

  def __init__(self):
    self.lock = threading.RLock()
    self._generations = itertools.count(1001)
    self.clear()

  def clear(self) -> None:
    """Forgets all objects, faults and requests."""
    self.objects: dict[str, Object] = {}
    self.log: list[str] = []
    self.bytes_in = self.bytes_out = 0  # of all bodies
    self.faults: list[Fault] = []
    self.stale_seconds = 0.0
    self._deleted: dict[str, tuple[Object, float]] = {}  # and when
    self._uploads: dict[str, tuple[str, dict, bytearray]] = {}

  def fault(
    self,
    pattern: str,
    *,
    times: int = 1,
    status: int | None = 503,
    after: bool = False,
    delay: float = 0.0,
    on_hit: Callable[[], None] = lambda: None,
  ) -> None:
    """Makes the next `times` requests fail whose line matches `pattern`.

    Args:
      pattern: a regular expression, searched in 'METHOD /path?query'.
      times: how many requests.
      status: the HTTP status to answer; None: only the delay.
      after: the request takes effect, and only its answer is lost.
      delay: seconds before the request is looked at.
      on_hit: called with each request that it meets.
    """
    self.faults.append(Fault(pattern, times, status, after, delay, on_hit))

  def fault_nothing(self) -> None:
    """From now on no request fails."""
    self.faults = []

  def put(self, name: str, data: bytes) -> Object:
    """Writes an object as another client would."""
    with self.lock:
      now = datetime.datetime.now(datetime.UTC).isoformat()
      now = now.replace('+00:00', 'Z')
      old = self.objects.get(name)
      since = old.since if old else time.monotonic()
      made = Object(data, next(self._generations), now, since)
      self.objects[name] = made
      return made

  def delete(self, name: str) -> None:
    """Deletes an object as another client would."""
    with self.lock:
      self._deleted[name] = self.objects.pop(name), time.monotonic()

  def listed(self) -> list[tuple[str, Object]]:
    """What a listing shows now, by name."""
    then = time.monotonic() - self.stale_seconds
    shown = {
      name: found
      for name, (found, when) in self._deleted.items()
      if when > then and found.since <= then
    }
    for name, found in self.objects.items():
      if found.since <= then:
        shown[name] = found
    return sorted(shown.items())

  def next_fault(self, method: str, path: str) -> Fault | None:
    with self.lock:
      for fault in self.faults:
        if fault.times > 0 and re.search(fault.pattern, f'{method} {path}'):
          fault.times -= 1
          fault.on_hit()
          return fault
    return None

  def check(self, name: str, query: dict[str, str]) -> int | None:
    """The status to answer where a precondition does not hold, or None."""
    found = self.objects.get(name)
    generation = found.generation if found else 0
    wanted = query.get('ifGenerationMatch')
    if wanted is not None and int(wanted) != generation:
      return 412
    pinned = query.get('generation')
    if pinned is not None and int(pinned) != generation:
      return 404
    return None


@contextlib.contextmanager
def serve() -> Iterator[tuple[ObjectStore, str]]:
  """Yields the store and the server's address while the block runs."""
  store = ObjectStore()
  handler = type('Handler', (_Handler,), {'store': store})
  server = _Server(('127.0.0.1', 0), handler)
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    yield store, f'http://127.0.0.1:{server.server_port}'
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True

  def handle_error(self, *address):
    if not isinstance(sys.exception(), ConnectionError):  # a killed client
      super().handle_error(*address)


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  store: ObjectStore

  def setup(self):
    super().setup()
    # Answers are small packets; without this each waits for an acknowledgement.
    self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

  def log_message(self, *_):
    pass

  def do_GET(self):
    self._handle()

  do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

  def _handle(self):
    body = self._body()
    url = urllib.parse.urlsplit(self.path)
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    shown = urllib.parse.unquote(self.path)
    if 'uploadType=multipart' in shown:  # the name is in the body
      found = re.search(rb'"name": ?"([^"]+)"', body[:2000])
      shown += f'&name={found[1].decode()}' if found else ''
    store = self.store
    with store.lock:
      store.log.append(f'{self.command} {shown}')
      store.bytes_in += len(body)
    fault = store.next_fault(self.command, shown)
    if fault is not None:
      time.sleep(fault.delay)
      if fault.status is not None and not fault.after:
        return self._answer(fault.status, _error(fault.status))
    with store.lock:
      status, headers, data = self._route(url.path, query, body)
    if fault is not None and fault.status is not None:
      return self._answer(fault.status, _error(fault.status))
    with store.lock:
      store.bytes_out += len(data)
    self._answer(status, data, headers)

  def _body(self) -> bytes:
    if self.headers.get('Transfer-Encoding', '').lower() == 'chunked':
      found = b''
      while size := int(self.rfile.readline().split(b';')[0], 16):
        found += self.rfile.read(size)
        self.rfile.readline()
      self.rfile.readline()
      return found
    return self.rfile.read(int(self.headers.get('Content-Length') or 0))

  def _answer(self, status: int, data: bytes, headers=None):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
      self.send_response(status)
      for name, value in {
        'Content-Type': 'application/json; charset=UTF-8',
        **(headers or {}),
      }.items():
        self.send_header(name, value)
      if status != 304:
        self.send_header('Content-Length', str(len(data)))
      self.end_headers()
      self.wfile.write(data)

  # ---- the API --------------------------------------------------------------

  def _route(self, path: str, query: dict, body: bytes):
    parts = [urllib.parse.unquote(part) for part in path.strip('/').split('/')]
    upload = parts[0] == 'upload'
    if parts[0] in ('upload', 'download'):
      parts = parts[1:]
    if parts[:3] != ['storage', 'v1', 'b'] or len(parts) < 4:
      return 404, {}, _error(404)
    if parts[3] != BUCKET:
      return 404, {}, _error(404)
    if len(parts) == 4:
      return 200, {}, json.dumps({'name': BUCKET, 'id': BUCKET}).encode()
    name = f'{BUCKET}/{parts[5]}' if len(parts) > 5 else ''
    if upload:
      return self._upload(query, body)
    if not name:
      return self._list(query)
    if len(parts) > 6:  # rewriteTo or copyTo b BUCKET o NAME, moveTo o NAME
      target = f'{BUCKET}/{parts[-1]}'
      return self._copy(name, target, query, move=parts[6] == 'moveTo')
    if self.command == 'DELETE':
      return self._delete(name, query)
    return self._get(name, query)

  def _get(self, name: str, query: dict):
    found = self.store.objects.get(name)
    if found is None:
      return 404, {}, _error(404)
    if (status := self.store.check(name, query)) is not None:
      return status, {}, _error(status)
    if query.get('ifGenerationNotMatch') == str(found.generation):
      return 304, {}, b''
    if query.get('alt') != 'media':
      return 200, {}, json.dumps(_describe(name, found)).encode()
    headers = {
      'Content-Type': 'application/octet-stream',
      'X-Goog-Generation': str(found.generation),
      'X-Goog-Metageneration': '1',
      'X-Goog-Stored-Content-Length': str(len(found.data)),
    }
    span = re.fullmatch(r'bytes=(\d*)-(\d*)', self.headers.get('Range') or '')
    if not span:
      return 200, headers, found.data
    size = len(found.data)
    if span[1]:
      start, end = int(span[1]), int(span[2] or size - 1)
    else:
      start, end = max(0, size - int(span[2])), size - 1
    if start >= size:
      return 416, {'Content-Range': f'bytes */{size}'}, b''
    end = min(end, size - 1)
    headers['Content-Range'] = f'bytes {start}-{end}/{size}'
    return 206, headers, found.data[start : end + 1]

  def _delete(self, name: str, query: dict):
    if name not in self.store.objects:
      return 404, {}, _error(404)
    if (status := self.store.check(name, query)) is not None:
      return status, {}, _error(status)
    self.store.delete(name)
    return 204, {}, b''

  def _list(self, query: dict):
    prefix = query.get('prefix', '')
    delimiter, limit = (
      query.get('delimiter'),
      int(query.get('maxResults', 1000)),
    )
    after = query.get('pageToken', '')
    items, prefixes = [], collections.OrderedDict()
    token = None
    for name, found in self.store.listed():
      key = name.removeprefix(f'{BUCKET}/')
      if not key.startswith(prefix):
        continue
      rest = key[len(prefix) :]
      head = None
      if delimiter and delimiter in rest:
        head = prefix + rest.split(delimiter)[0] + delimiter
      if (head or key) <= after or head in prefixes:
        continue
      if len(items) + len(prefixes) == limit:
        break
      if head:
        prefixes[head] = True
      else:
        items.append(_describe(name, found))
      token = head or key
    else:
      token = None
    value = {'kind': 'storage#objects', 'items': items}
    if prefixes:
      value['prefixes'] = list(prefixes)
    if token:
      value['nextPageToken'] = token
    return 200, {}, json.dumps(value).encode()

  def _copy(self, name: str, target: str, query: dict, *, move: bool):
    found = self.store.objects.get(name)
    if found is None:
      return 404, {}, _error(404)
    made = self.store.put(target, found.data)
    if move:
      self.store.delete(name)
    value = _describe(target, made)
    if not move:
      value = {'done': True, 'resource': value}
    return 200, {}, json.dumps(value).encode()

  def _upload(self, query: dict, body: bytes):
    kind = query.get('uploadType')
    if kind == 'resumable':
      return self._resumable(query, body)
    name = query.get('name')
    if kind == 'multipart':
      described, body = _multipart(self.headers['Content-Type'], body)
      name = name or described['name']
    return self._store(f'{BUCKET}/{name}', query, body)

  def _resumable(self, query: dict, body: bytes):
    uploads = self.store._uploads
    if self.command == 'DELETE':
      uploads.pop(query['upload_id'], None)
      return 204, {}, b''
    if 'upload_id' not in query:
      described = json.loads(body or b'{}')
      number = str(len(uploads))
      name = query.get('name') or described['name']
      uploads[number] = (f'{BUCKET}/{name}', query, bytearray())
      host = f'http://{self.headers["Host"]}'
      path = f'/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable'
      return 200, {'Location': f'{host}{path}&upload_id={number}'}, b''
    name, asked, held = uploads[query['upload_id']]
    span = self.headers.get('Content-Range', 'bytes */*')
    total = span.rpartition('/')[2]
    first = re.match(r'bytes (\d+)-', span)
    if first and int(first[1]) == len(held):
      held += body
    if total == '*' or len(held) < int(total):
      headers = {'Range': f'bytes=0-{len(held) - 1}'} if held else {}
      return 308, headers, b''
    return self._store(name, asked, bytes(held))

  def _store(self, name: str, query: dict, data: bytes):
    if (status := self.store.check(name, query)) is not None:
      return status, {}, _error(status)
    made = self.store.put(name, data)
    return 200, {}, json.dumps(_describe(name, made)).encode()


def _multipart(content_type: str, body: bytes) -> tuple[dict, bytes]:
  """The description and the bytes of a multipart/related upload."""
  boundary = re.search(r'boundary="?([^";]+)"?', content_type)[1]
  _, first, second, _ = body.split(b'--' + boundary.encode())
  described = first.partition(b'\r\n\r\n')[2] or first.partition(b'\n\n')[2]
  separator = b'\r\n\r\n' if b'\r\n\r\n' in second else b'\n\n'
  data = second.partition(separator)[2]
  end = b'\r\n' if separator == b'\r\n\r\n' else b'\n'
  return json.loads(described), data.removesuffix(end)


def _describe(name: str, found: Object) -> dict:
  digest = base64.b64encode(hashlib.md5(found.data).digest()).decode()
  crc = google_crc32c.value(found.data).to_bytes(4, 'big')
  return {
    'kind': 'storage#object',
    'bucket': BUCKET,
    'name': name.removeprefix(f'{BUCKET}/'),
    'id': f'{name}/{found.generation}',
    'size': str(len(found.data)),
    'generation': str(found.generation),
    'metageneration': '1',
    'timeCreated': found.updated,
    'updated': found.updated,
    'md5Hash': digest,
    'crc32c': base64.b64encode(crc).decode(),
    'contentType': 'application/octet-stream',
    'storageClass': 'STANDARD',
  }


def _error(status: int) -> bytes:
  message = f'a test says {status}' if status >= 500 else f'status {status}'
  if status == 404:
    message = f'No such object: {message}'
  return json.dumps({'error': {'code': status, 'message': message}}).encode()
