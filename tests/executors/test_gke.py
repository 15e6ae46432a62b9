"""Jobs on a cluster: the real client, a fake cluster, and its faults."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import fake_cluster
import fake_stage
import pytest
from fake_stage import starts
from processes import until

from rest_jax.artifacts import storage
from rest_jax.commands import status
from rest_jax.config import configuration
from rest_jax.executors import exit_codes, launch_record
from rest_jax.executors.console import Console
from rest_jax.executors.gke import cluster as gke_cluster
from rest_jax.executors.gke import gke, objects
from rest_jax.executors.gke.gke import GkeExecutor
from rest_jax.executors.gke.settings import GkeConfig
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.orders import Orders
from rest_jax.executors.retry_policy import RetryPolicy
from rest_jax.executors.scheduler import Scheduler

pytest.importorskip('kubernetes')

FAKE = str(fake_stage.PATH)
COMMAND = (sys.executable, FAKE)
CONFIG = GkeConfig(image='image')


@pytest.fixture
def cluster(tmp_path, monkeypatch):
  monkeypatch.setattr(gke, 'POLL_SECONDS', 0.1)
  monkeypatch.setattr(gke, '_RECONNECT_SECONDS', 0.1)
  folder = tmp_path / 'cluster'
  folder.mkdir()
  paths = os.pathsep.join(p for p in sys.path if p)
  with fake_cluster.FakeCluster(folder, {'PYTHONPATH': paths}) as fake:
    monkeypatch.setenv('KUBECONFIG', str(fake.kubeconfig))
    yield fake


def job(run_dir, name, *, needs=(), retries=2, topology=None, **fields):
  flags = {'OUT': f'{run_dir}/{name}', 'VALUE': 'v'}
  flags |= {k: v for k, v in fields.items() if k.isupper()}
  return Job(
    name=name,
    stage='score',
    arguments=tuple(f'--gin.{k}={v}' for k, v in flags.items()),
    needs=tuple(needs),
    outputs=(f'{run_dir}/{name}',),
    accelerator='tpu' if topology else 'cpu',
    topology=topology,
    retry=RetryPolicy(retries=retries, preemptions=3, backoff_seconds=0.01),
    **{k: v for k, v in fields.items() if not k.isupper()},
  )


def launch(run_dir, jobs, command=COMMAND):
  """(exit code, what was printed) of one launch."""
  out = io.StringIO()
  ledger = Ledger(str(run_dir), Configuration(bindings={}, others=[]))
  console = Console([one.name for one in jobs], out)
  executor = GkeExecutor(CONFIG, str(run_dir), console.say, command)
  work = Scheduler(str(run_dir), [], ledger, console, executor)
  return work.run(jobs), out.getvalue()


@contextlib.contextmanager
def launched(run_dir, jobs):
  """A launch beside the block; yields where its (code, text) will be."""
  result = []
  thread = threading.Thread(
    target=lambda: result.append(launch(run_dir, jobs)), daemon=True
  )
  # Signals belong to the main thread.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(signal, 'signal', lambda *_: None)
    thread.start()
    yield result
    thread.join(timeout=60)
  assert result


def test_jobs_run_beside_each_other_and_their_output_is_kept(tmp_path, cluster):
  run = tmp_path / 'run'
  jobs = [
    job(run, 'a', ON_START='wait', topology='v5e:2x4'),
    job(run, 'b', ON_START='warn'),
    job(run, 'c', needs=['a', 'b']),
  ]
  with launched(run, jobs) as result:
    until(lambda: (run / 'b' / 'manifest.json').exists())
    assert len(cluster.jobsets) == 1 and not (run / 'c').exists()
    (run / 'a.go').touch()
  code, text = result[0]
  assert code == 0 and 'warning: two were left out' in text
  assert f'fake: wrote {run}/a' in (run / 'logs' / 'a.log').read_text()
  assert launch(run, jobs)[1].count('kept') == 3
  assert len(cluster.jobsets) + len(cluster.jobs) == 4  # a's Job is one of them


@pytest.mark.parametrize('topology', [None, 'v5e:2x4'])
@pytest.mark.parametrize('how', ['preempt', 'crash'])
def test_the_cluster_itself_starts_what_was_preempted_or_killed_again(
  tmp_path, cluster, how, topology
):
  run = tmp_path / 'run'
  one = job(run, 'a', ON_START=f'{how},{how},ok', topology=topology, retries=0)
  code, text = launch(run, [one])
  assert code == 0, text
  assert starts(run, 'a') == 3
  assert 'started again by the cluster' in text
  posts = [path for method, path in cluster.requests if method == 'POST']
  assert len(posts) == 1


def test_what_is_wrong_fails_at_once_and_shows_its_error(tmp_path, cluster):
  run = tmp_path / 'run'
  for topology in (None, 'v5e:2x4'):
    one = job(run, 'a', ON_START='refuse', topology=topology)
    code, text = launch(run, [one])
    assert code == exit_codes.CONFIGURATION
    assert 'VALUE: not to my taste' in text
  assert starts(run, 'a') == 2


def test_an_unknown_error_is_tried_again_as_often_as_the_job_says(
  tmp_path, cluster
):
  run = tmp_path / 'run'
  code, text = launch(run, [job(run, 'a', ON_START='exit 7,exit 7,ok')])
  assert code == 0 and starts(run, 'a') == 3 and 'exit code 7' in text
  code, _ = launch(run, [job(run, 'b', ON_START='exit 7', topology='v5e:2x4')])
  assert code == 1 and starts(run, 'b') == 3


def test_all_hosts_of_all_slices_start_and_start_again_together(
  tmp_path, cluster
):
  run = tmp_path / 'run'
  script = (
    'import os, pathlib, sys, time\n'
    f'folder = pathlib.Path({str(tmp_path)!r}) / "seen"\n'
    'folder.mkdir(exist_ok=True)\n'
    'names = ("TPU_WORKER_ID", "JAX_PROCESS_ID", "JAX_NUM_PROCESSES",'
    ' "JAX_COORDINATOR_ADDRESS")\n'
    'print(*(os.environ[n] for n in names), file=open(folder / '
    'f"{os.getpid()}", "w"), flush=True)\n'
    'first = len(list(folder.iterdir())) <= 4\n'
    'time.sleep(60 if first else 0)\n'
  )
  one = dataclasses.replace(
    job(run, 'a', topology='v5p:2x2x2'), slices=2, outputs=()
  )
  result = []
  thread = threading.Thread(
    target=lambda: result.append(
      launch(run, [one], (sys.executable, '-c', script))
    )
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(signal, 'signal', lambda *_: None)
    thread.start()
    seen = tmp_path / 'seen'
    until(lambda: seen.exists() and len(list(seen.iterdir())) == 4)
    until(lambda: len(cluster.running()) == 4)
    cluster.kill(cluster.running()[2])
    thread.join(timeout=60)
  assert result[0][0] == 0, result
  rows = [path.read_text().split() for path in seen.iterdir()]
  assert len(rows) == 8
  addresses = {row[3] for row in rows}
  assert len(addresses) == 2  # all four came back, to another coordinator
  for address in addresses:
    one = sorted(row[:3] for row in rows if row[3] == address)
    assert one == [
      ['0', '0', '4'],
      ['0', '2', '4'],
      ['1', '1', '4'],
      ['1', '3', '4'],
    ]


LAUNCHER = f"""
import sys
sys.path[:0] = {[p for p in sys.path if p]!r}
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import pathlib, test_gke
from rest_jax.executors.gke import gke
gke.POLL_SECONDS = 0.1
run = pathlib.Path(sys.argv[1])
jobs = [
  test_gke.job(run, 'a', ON_START='wait', topology='v5e:2x4'),
  test_gke.job(run, 'b', needs=['a']),
]
code, text = test_gke.launch(run, jobs)
print(text)
sys.exit(code)
"""


def test_a_launcher_that_dies_is_followed_by_one_that_goes_on(
  tmp_path, cluster
):
  run = tmp_path / 'run'
  command = [sys.executable, '-c', LAUNCHER, str(run)]
  first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  until(lambda: (run / 'a.starts').exists())
  first.kill()
  first.wait()
  before = len(cluster.requests)
  second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  until(lambda: len(cluster.requests) > before + 6)  # it has looked twice
  (run / 'a.go').touch()
  text, _ = second.communicate(timeout=60)
  assert second.returncode == 0 and 'runs already' in text
  assert starts(run, 'a') == starts(run, 'b') == 1
  assert 'fake: wrote' in (run / 'logs' / 'a.log').read_text()


def test_what_a_dead_launcher_has_left_has_a_state(tmp_path, cluster):
  run = tmp_path / 'run'
  jobs = [
    job(run, 'a', topology='v5e:2x4', workers=2),
    job(run, 'b', needs=['a']),
  ]
  command = [sys.executable, '-c', LAUNCHER, str(run)]
  launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  until(lambda: (run / 'a.starts').exists())
  launcher.kill()
  launcher.wait()
  settings = dataclasses.asdict(CONFIG)

  def states(planned=jobs):
    launch_record.write(str(run), planned, 'gke', settings)
    return [line.split()[0] for line in list(status.lines(str(run)))[:2]]

  storage.write_json(run / 'jobs' / 'a.json', {'exit_code': None})
  alone = [dataclasses.replace(jobs[0], workers=1), jobs[1]]
  assert states(alone) == ['running', 'to']
  assert states() == ['stopped', 'to']  # other jobs, by their names
  cluster.silence()
  assert states(alone) == ['unknown', 'to']
  assert 'does not answer' in '\n'.join(status.lines(str(run)))
  cluster.silence(False)
  (run / 'a.go').touch()
  until(lambda: states(alone) == ['ended', 'to'])
  storage.write_json(run / 'jobs' / 'a.json', {'exit_code': 0, 'seconds': 1})
  assert states(alone) == ['done', 'to']
  for worker in range(2):
    order = Orders(str(run), [], token='t', digests='d').make(jobs[0], worker)
    gke_cluster.Cluster(CONFIG, str(run)).create(
      objects.of_order(order, str(run), COMMAND, CONFIG)
    )
  storage.write_json(run / 'jobs' / 'a.json', {'exit_code': 42})
  assert states()[0] in ('waiting', 'running')


def test_another_configuration_replaces_what_still_runs(tmp_path, cluster):
  run = tmp_path / 'run'
  command = [sys.executable, '-c', LAUNCHER, str(run)]
  first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  until(lambda: (run / 'a.starts').exists())
  first.kill()
  first.wait()
  code, text = launch(run, [job(run, 'a', VALUE='w', topology='v5e:2x4')])
  assert code == 0, text
  assert starts(run, 'a') == 2 and 'runs already' not in text
  until(lambda: len(cluster.jobsets) == 1)


def test_while_the_api_server_is_away_the_jobs_go_on(
  tmp_path, cluster, monkeypatch
):
  monkeypatch.setattr(gke, '_SAY_SECONDS', 0.5)
  run = tmp_path / 'run'
  jobs = [job(run, 'a', ON_START='wait'), job(run, 'b', needs=['a'])]
  with launched(run, jobs) as result:
    until(lambda: (run / 'a.starts').exists())
    cluster.silence()
    (run / 'a.go').touch()
    until(lambda: (run / 'a' / 'manifest.json').exists())
    time.sleep(1)
    cluster.silence(False)
  assert result[0][0] == 0, result
  assert starts(run, 'a') == 1
  assert 'fake: wrote' in (run / 'logs' / 'a.log').read_text()


def test_an_image_that_is_not_there_is_said_and_not_tried_again(
  tmp_path, cluster, monkeypatch
):
  monkeypatch.setattr(gke, 'HOPELESS_SECONDS', 0.5)
  cluster.refuse_images()
  run = tmp_path / 'run'
  code, text = launch(run, [job(run, 'a', topology='v5e:2x4')])
  assert code == exit_codes.CONFIGURATION
  assert 'ImagePullBackOff: no such image. Set IMAGE' in text
  until(lambda: not cluster.jobsets)


def test_a_node_that_is_taken_away_costs_a_restart(tmp_path, cluster):
  run = tmp_path / 'run'
  for name, topology in (('a', None), ('b', 'v5e:2x4')):
    one = job(run, name, ON_START='wait', topology=topology)
    with launched(run, [one]) as result:
      until(lambda name=name: (run / f'{name}.starts').exists())
      until(lambda name=name: cluster.running(name))
      time.sleep(0.5)  # until it listens
      cluster.evict(cluster.running(name)[0])
      until(lambda name=name: starts(run, name) == 2)
      (run / f'{name}.go').touch()
    assert result[0][0] == 0, result


def test_a_signal_stops_the_jobs_which_save_their_state(tmp_path, cluster):
  run = tmp_path / 'run'
  command = [sys.executable, '-c', LAUNCHER, str(run)]
  launcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  until(lambda: (run / 'a.starts').exists())
  time.sleep(1)
  launcher.terminate()
  text, _ = launcher.communicate(timeout=60)
  assert launcher.returncode == exit_codes.PREEMPTED, text
  assert not cluster.jobsets and not cluster.pods
  assert json.loads((run / 'jobs' / 'a.json').read_text())['exit_code'] == 42


def test_what_somebody_deletes_is_started_again(tmp_path, cluster):
  run = tmp_path / 'run'
  one = job(run, 'a', ON_START='wait,ok')
  with launched(run, [one]) as result:
    until(lambda: (run / 'a.starts').exists())
    time.sleep(0.5)
    cluster.answer(
      'DELETE',
      '/apis/batch/v1/namespaces/default/jobs/' + next(iter(cluster.jobs)),
      {},
      None,
    )
  code, text = result[0]
  assert code == 0 and starts(run, 'a') == 2
  assert 'was deleted from the cluster' in (run / 'logs/a.log').read_text()


def test_without_an_image_or_a_cluster_or_a_topology_it_is_said_at_once(
  tmp_path, cluster, monkeypatch
):
  with pytest.raises(configuration.ConfigurationError, match='IMAGE'):
    GkeConfig()
  run = tmp_path / 'run'
  one = dataclasses.replace(job(run, 'a'), accelerator='tpu')
  with pytest.raises(configuration.ConfigurationError, match='TOPOLOGY'):
    launch(run, [one])
  monkeypatch.setenv('KUBECONFIG', str(tmp_path / 'nothing'))
  with pytest.raises(configuration.ConfigurationError, match='get-credentials'):
    GkeExecutor(CONFIG, str(run))
