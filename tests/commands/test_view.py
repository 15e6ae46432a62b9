"""The served page: every problem is reached, and nothing but the run is."""

import contextlib
import http.client
import json
import pathlib
import re
import threading
import urllib.parse

import pytest
from test_report import Reader, write_run

from rest_jax.artifacts import records, storage
from rest_jax.commands import live_run, view
from rest_jax.config import configuration
from rest_jax.reporting import run_samples


@contextlib.contextmanager
def served(folder, host='localhost'):
  """Yields get(path, **headers) of a server of the run: (status, text)."""
  with view.server(str(folder), host=host, port=0) as server:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    host, port = server.server_address[:2]

    def get(path, method='GET', **headers):
      connection = http.client.HTTPConnection(host, port, timeout=60)
      connection.request(method, path, headers=headers)
      answer = connection.getresponse()
      text = answer.read().decode()
      get.headers = answer.headers
      connection.close()
      return answer.status, text

    try:
      yield get
    finally:
      server.shutdown()
      thread.join()


def articles(get, **query):
  """The articles of all pages: {problem id: its HTML}."""
  found, start = {}, 0
  while True:
    values = urllib.parse.urlencode(query | {'start': start, 'limit': 7})
    status, text = get(f'/problems?{values}')
    assert status == 200
    page = json.loads(text)
    for html in page['html'].split('<article')[1:]:
      name = html.partition('data-id="')[2].partition('"')[0]
      assert name not in found
      found[name] = html
    start += 7
    if start >= page['found']:
      assert len(found) == page['found']
      return found


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  made = storage.path(tmp_path_factory.mktemp('view') / 'run')
  write_run(made, iterations=1, size=9)
  return made


def test_every_problem_and_every_completion_of_the_run_is_reached(folder):
  samples = {}
  for part in pathlib.Path(str(folder)).rglob('samples/*.parquet'):
    for row in records.read_part(part, records.Sample).to_pylist():
      if row['stream'] != 'difficulty':
        key = row['problem_id']
        samples[key] = samples.get(key, 0) + 1
  with served(folder) as get:
    found = articles(get)
    assert found.keys() == samples.keys()
    for key, html in found.items():
      anchor = html.partition('id="')[2].partition('"')[0]
      _, text = get(f'/problem?all=1&anchor={urllib.parse.quote(anchor)}')
      whole = json.loads(text)['html']
      assert whole.count('class="completion"') == samples[key]
    wrong = articles(get, outcome='wrong', source='base, greedy')
    assert 0 < len(wrong) < len(found)
    for html in wrong.values():
      assert set(re.findall('data-outcome="(.*?)"', html)) == {'wrong'}


def test_the_page_is_whole_and_may_speak_to_its_server_alone(folder):
  with served(folder) as get:
    status, text = get('/')
    assert get.headers['X-Frame-Options'] == 'DENY'
  assert status == 200
  seen = Reader(text)
  assert not seen.depth
  [policy] = [v for t, k, v in seen.attributes if v.startswith('default-src')]
  assert "default-src 'none'" in policy and "connect-src 'self'" in policy
  assert '<article' not in text  # they are loaded as they are asked for
  assert 'id="now"' in text


@pytest.mark.parametrize(
  'path',
  [
    '/config.gin',
    '/../run/config.gin',
    '/report/index.html',
    '//etc/passwd',
    '/%2e%2e/%2e%2e/etc/passwd',
    '/problem?anchor=p/../../etc/passwd',
    '/problem?anchor=',
    '/problem?anchor=p/arithmetic/test/none',
  ],
)
def test_no_path_names_a_file(folder, path):
  with served(folder) as get:
    status, text = get(path)
  assert status == 404 and 'RUN_DIR' not in text and 'root' not in text


def test_another_site_cannot_read_the_run_through_its_own_name(folder):
  """DNS rebinding: the browser is led to this machine by a foreign name."""
  with served(folder) as get:
    for name in ('evil.example', 'localhost.evil.example:80', '', '[::1'):
      status, text = get('/problems', Host=name)
      assert status == 403 and 'html' not in text
    assert get('/state', Host='127.0.0.1:1')[0] == 200
    assert get('/state', method='POST')[0] == 501


@pytest.mark.parametrize('query', ['start=x', 'limit=1e9', 'start=9' * 99])
def test_a_query_that_makes_no_sense_is_an_answer(folder, query):
  with served(folder) as get:
    assert get(f'/problems?{query}')[0] in (200, 500)
    assert get('/state')[0] == 200


def test_hostile_completions_stay_text(tmp_path):
  write_run(tmp_path / 'run', iterations=1, size=3, hostile=True)
  with served(tmp_path / 'run') as get:
    found = articles(get)
    page = get('/')[1]
  for html in [*found.values(), page]:
    tags = set(Reader(html if html is page else f'<article{html}').tags)
    assert tags.isdisjoint({'img', 'iframe'}) and '\u202e' not in html
    assert ('script' in tags) == (html is page)
  assert any('onerror' in html for html in found.values())


def test_the_page_follows_a_run(tmp_path):
  """Before the first job, in an M-step, and when the M-step is done."""
  folder = storage.path(tmp_path / 'run')
  (folder / 'jobs').mkdir(parents=True)
  live = live_run.LiveRun(folder)
  live._pause = 0.0
  first = live.state()
  assert 'No model of this run has been evaluated yet' in live.document()
  write_run(folder, iterations=1, size=3)
  checkpoints = folder / 'iteration_01' / 'checkpoints'
  done = (checkpoints / 'manifest.json').read_text()
  (checkpoints / 'manifest.json').unlink()
  started = json.loads((checkpoints / 'started.json').read_text())
  started['semantic'] = {'config': {'max_steps': 400}}
  (checkpoints / 'started.json').write_text(json.dumps(started))
  log = folder / 'logs' / 'iteration_01' / 'train.log'
  log.parent.mkdir(parents=True)
  log.write_text('$ command\n<b>step 150</b>\n')
  storage.write_json(
    folder / 'jobs/iteration_01/train.json',
    {'name': 'iteration_01/train', 'exit_code': 42, 'seconds': 1.0},
  )
  second, text = live.state(), live.document()
  assert second != first
  row = '<th scope="row">iteration_01/checkpoints</th>'
  assert f'{row}<td>train</td><td>150</td><td>400</td><td>steps</td>' in text
  assert '&lt;b&gt;step 150&lt;/b&gt;' in text
  assert 'iteration_01/train: its last attempt ended with exit code 42' in text
  # The curve of the M-step is there before it has ended.
  assert '<td>under way</td>' in text and 'reward on D_val' in text
  (checkpoints / 'manifest.json').write_text(done)
  third = live.state()
  assert third != second
  assert row not in live.document()
  assert live.state() == third  # nothing new: the page is not loaded again
  # Results that were made again are news, although no job is under way.
  (checkpoints / 'manifest.json').write_text(
    json.dumps(json.loads(done) | {'digest': 'another'})
  )
  assert live.state() != third


def test_a_run_in_a_bucket_is_followed_too(bucket):
  write_run(f'{bucket}/run', iterations=1, size=2)
  storage.write_bytes(f'{bucket}/run/logs/iteration_01/x.log', b'a line\n')
  view.check_run(f'{bucket}/run')
  live = live_run.LiveRun(f'{bucket}/run')
  text = live.document()
  assert 'a line' in text and 'the report is not written yet' in text
  assert live.problems(run_samples.Query(), 0, 3)['found'] == 6


def test_a_port_that_is_taken_is_one_line(folder):
  with view.server(str(folder), host='localhost', port=0) as one:
    port = one.server_address[1]
    with pytest.raises(configuration.ConfigurationError, match=f'port={port}'):
      view.server(str(folder), host='localhost', port=port)


@pytest.mark.parametrize('name', ['none', 'empty', 'file'])
def test_what_is_no_run_is_refused(tmp_path, name):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'file').write_text('x')
  with pytest.raises(configuration.ConfigurationError, match='no run'):
    view.run([str(tmp_path / name)])
