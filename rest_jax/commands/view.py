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
import hashlib
import http.server
import json
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax import report
from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.reporting import (
  page,
  run_data,
  run_progress,
  run_reader,
  run_samples,
  sample_browser,
)
from rest_jax.reporting.articles import Article, problem_of

LIMITS = sample_browser.Limits(characters=20_000)
MAX_PROBLEMS = 50  # in one answer
_LOOPBACK = ('localhost', '127.0.0.1', '::1')
_HEADERS = {
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
}


class LiveRun:
  """A run's page, kept until the run changes. Safe for several threads."""

  def __init__(self, run_dir: storage.PathLike):
    """Reads nothing yet.

    Args:
      run_dir: of the run; it need not have begun.
    """
    self.run_dir = storage.path(run_dir)
    # A look at gs:// costs many requests.
    self._pause = 30.0 if storage.is_remote(run_dir) else 1.0
    self._lock = threading.Lock()
    self._looked = 0.0
    self._now = run_progress.Progress()
    self._found: run_data.Manifests = {}
    self._read = ''  # the digest of what _samples and _values were read from
    self._samples: run_samples.Samples | None = None
    self._values: dict[str, Any] = {}

  def state(self) -> dict[str, Any]:
    """{'digest': of all that the page shows}."""
    with self._lock:
      self._look()
      return {'digest': self._digest()}

  def document(self) -> str:
    """The whole page, without any problem."""
    with self._lock:
      samples = self._read_run()
      sections = {'now': 'Now', **self._values['sections']}
      return page.render(
        **self._values | {'sections': sections},
        browser=sample_browser.choices(samples),
        limits=LIMITS,
        now=self._now,
        live=self._digest(),
      )

  def problems(
    self, query: run_samples.Query, start: int, limit: int
  ) -> dict[str, Any]:
    """{'found': number of problems, 'html': of those from `start`}.

    Args:
      query: what is asked for.
      start: the first that is wanted, from 0.
      limit: how many are wanted.
    """
    with self._lock:
      samples = self._read_run()
      found = samples.ids(query)
      articles = []
      for split in samples.members:
        some = [key for s, key in found[start : start + limit] if s == split]
        articles += samples.articles(
          split,
          some,
          completions=LIMITS.completions,
          source=query.source,
          outcome=query.outcome,
        )
    return {'found': len(found), 'html': ''.join(map(_html, articles))}

  def problem(self, anchor: str, whole: bool) -> dict[str, Any] | None:
    """{'html': of one problem}; None where there is none.

    Args:
      anchor: of its article.
      whole: with all of its completions.
    """
    problem_id = problem_of(anchor)
    with self._lock:
      samples = self._read_run()
      split = '/'.join(problem_id.split('/')[:2])
      if split not in samples.members:
        return None
      articles = samples.articles(
        split, [problem_id], completions=None if whole else LIMITS.completions
      )
    articles = [one for one in articles if one.models]
    return {'html': ''.join(map(_html, articles))} if articles else None

  def _look(self) -> None:
    """Finds out what there is, unless that was done a moment ago."""
    if self._looked and time.monotonic() - self._looked < self._pause:
      return
    if self.run_dir.exists():
      self._found = run_reader.find(self.run_dir)
    self._now = run_progress.progress(self.run_dir)
    self._looked = time.monotonic()

  def _digest(self) -> str:
    return _digest_of([self._content(), vars(self._now)])

  def _content(self) -> str:
    """The digest of what the sections below `Now` are made from."""
    steps = [
      (one.folder, one.done)
      for one in self._now.unfinished
      if one.unit == 'steps'
    ]
    digests = {key: one.digest for key, one in self._found.items()}
    return _digest_of([digests, self._now.finished, steps])

  def _read_run(self) -> run_samples.Samples:
    self._look()
    if self._samples is None or self._read != self._content():
      run = run_reader.read(self.run_dir, self._found)
      bootstrap = report.bootstrap_of(self._found)
      bootstrap['resamples'] = min(
        bootstrap['resamples'], report.PAGE_RESAMPLES
      )
      differences = list(report.compare(run, **bootstrap))
      self._values = report.page_values(
        run, self._found, differences, bootstrap
      )
      self._samples = run_samples.Samples(run, self._found)
      self._read = self._content()
    return self._samples


def _html(article: Article) -> str:
  return page.render_macro('article', 'article', article, LIMITS.characters)


def _digest_of(value: Any) -> str:
  text = json.dumps(value, sort_keys=True, default=repr)
  return hashlib.sha256(text.encode()).hexdigest()[:32]


class Handler(http.server.BaseHTTPRequestHandler):
  """Answers GET of the four paths below; no path names a file.

  Attributes:
    live: the run; set by `server`.
    hosts: names by which the server may be called, None for any. Pages of
      other sites could otherwise read the run by a name that they let point
      to this machine (DNS rebinding).
  """

  live: LiveRun
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
    except (ValueError, OSError) as error:  # being written, or damaged
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
    'RunHandler', (Handler,), {'live': LiveRun(run_dir), 'hosts': known}
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
