"""The command view: the page of a run, served while the run goes and after.

    rest-jax view runs/x [--port=8000] [--host=localhost]

Shows what report/index.html shows, made anew whenever the run has changed, and
beside it what the run is doing now. Every problem and every completion can be
reached: they are read from RUN_DIR as they are asked for. Ctrl-C ends it; the
run itself is not touched.

Only this machine can connect. On a machine far away, forward the port:
`ssh -L 8000:localhost:8000 HOST`. Another --host opens the page, with all
problems and completions, to everybody who can reach that address.
"""

import argparse
import contextlib
import http.server
import json
import socket
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import storage, store_patience
from rest_jax.commands import live_run
from rest_jax.config import configuration
from rest_jax.reporting import run_samples

MAX_PROBLEMS = 50  # in one answer
_LOOPBACK = ('localhost', '127.0.0.1', '::1')
_HEADERS = {
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
}


class Handler(http.server.BaseHTTPRequestHandler):
  """Answers GET of the four paths below; no path names a file.

  Attributes:
    live: the run; set by `server`.
    hosts: names by which the server may be called, None for any. Pages of
      other sites could otherwise read the run by a name that they let point
      to this machine (DNS rebinding).
  """

  live: live_run.LiveRun
  hosts: tuple[str, ...] | None
  server_version, sys_version = 'rest_jax', ''

  def do_GET(self) -> None:
    """Sends the page, its state, some problems or one."""
    path, _, query = self.path.partition('?')
    values = dict(urllib.parse.parse_qsl(query))
    if not self._is_called_by_its_name():
      self._send(403, 'text/plain', 'not a name of this server')
      return
    try:
      if path == '/':
        self._send(200, 'text/html', self.live.document())
        return
      answer = self._answer(path, values)
    except (ValueError, OSError, store_patience.UnavailableError) as error:
      # Being written, or damaged, or the store is away.
      self._send(500, 'text/plain', str(error))
      return
    if answer is None:
      self._send(404, 'text/plain', 'there is no such page')
    else:
      self._send(200, 'application/json', json.dumps(answer))

  def _answer(self, path: str, values: Mapping[str, str]) -> Any:
    if path == '/state':
      return self.live.state()
    if path == '/problem':
      return self.live.problem(values.get('anchor', ''), 'all' in values)
    if path == '/problems':
      names = ('split', 'source', 'outcome', 'change', 'words')
      query = run_samples.Query(**{n: values.get(n, '') for n in names})
      start = max(0, int(values.get('start', 0)))
      limit = min(MAX_PROBLEMS, max(1, int(values.get('limit', 10))))
      return self.live.problems(query, start, limit)
    return None

  def _is_called_by_its_name(self) -> bool:
    try:
      name = urllib.parse.urlsplit(f'//{self.headers.get("Host", "")}').hostname
    except ValueError:
      return False
    return self.hosts is None or name in self.hosts

  def _send(self, code: int, kind: str, text: str) -> None:
    data = text.encode()
    self.send_response(code)
    self.send_header('Content-Type', f'{kind}; charset=utf-8')
    self.send_header('Content-Length', str(len(data)))
    for name, value in _HEADERS.items():
      self.send_header(name, value)
    with contextlib.suppress(ConnectionError):  # the reader went away
      self.end_headers()
      self.wfile.write(data)

  def log_message(self, format: str, *values: Any) -> None:
    """Prints nothing: a request every few seconds is no news."""


def server(
  run_dir: storage.PathLike, *, host: str, port: int
) -> http.server.ThreadingHTTPServer:
  """A server that is bound, for `serve_forever`.

  Args:
    run_dir: of the run.
    host: name or address to listen at.
    port: 0 for any that is free.

  Raises:
    ConfigurationError: the address cannot be listened at.
  """
  known = (*_LOOPBACK, host) if host in _LOOPBACK else None
  handler = type(
    'RunHandler',
    (Handler,),
    {'live': live_run.LiveRun(run_dir), 'hosts': known},
  )
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  kind = type(
    'Server', (http.server.ThreadingHTTPServer,), {'address_family': family}
  )
  try:
    return kind((host, port), handler)
  except (OSError, OverflowError) as error:
    raise configuration.ConfigurationError(
      f'--host={host} --port={port}: cannot listen there ({error}). Name '
      'another port; 0 takes any that is free.'
    ) from error


def parser() -> argparse.ArgumentParser:
  """The flags of the command."""
  result = argparse.ArgumentParser(
    prog='rest-jax view',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__,
  )
  result.add_argument('run_dir', metavar='RUN_DIR')
  result.add_argument('--port', type=int, default=8000, help='0: any free one')
  result.add_argument('--host', default='localhost', help='to listen at')
  return result


def run(arguments: Sequence[str]) -> int:
  """Serves until Ctrl-C; returns the exit code.

  Raises:
    ConfigurationError: there is no such run, or the port is taken.
  """
  flags = parser().parse_args(arguments)
  check_run(flags.run_dir)
  with server(flags.run_dir, host=flags.host, port=flags.port) as served:
    port = served.server_address[1]
    shown = f'[{flags.host}]' if ':' in flags.host else flags.host
    print(f'view: {flags.run_dir} at http://{shown}:{port}/ (Ctrl-C ends it)')
    sys.stdout.flush()
    try:
      served.serve_forever()
    except KeyboardInterrupt:
      print()
  return 0


def check_run(run_dir: str) -> None:
  """Raises ConfigurationError unless the folder is that of a run."""
  folder = storage.path(run_dir)
  marks = ('config.gin', 'problems', 'jobs', 'report', 'base', 'models')
  if not folder.is_dir() or not any((folder / name).exists() for name in marks):
    raise configuration.ConfigurationError(
      f'{run_dir}: there is no run. Name the RUN_DIR of one, such as '
      'runs/arithmetic.'
    )
