"""launch/xm_launch.py beside an XManager that only takes down what it is told.

With an environment that has XManager (launch/xm-requirements.txt), whose Python
REST_JAX_XM_PYTHON names, it is run for real as well.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import runpy
import subprocess
import sys
import types

import fake_cluster
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'launch' / 'xm_launch.py'
REAL = os.environ.get('REST_JAX_XM_PYTHON')
SMALL = {
  'NUM_TRAIN': 8,
  'NUM_DVAL': 4,
  'NUM_TEST': 4,
  'CORPUS_DOCUMENTS': 50,
}


class _Named(types.SimpleNamespace):
  """Anything that is built of keywords."""


class _Experiment:
  experiment_id = 1

  def __init__(self, added):
    self.added, self.processes = added, []

  def package(self, packageables):
    return packageables

  async def add(self, job):
    self.added.append(job)
    self.processes.append(
      await asyncio.create_subprocess_exec(job.executable.path, *job.args)
    )
    return _Named(work_unit_id=len(self.added))

  async def end(self):
    for process in self.processes:
      if await process.wait():
        raise RuntimeError('a work unit failed')


@pytest.fixture
def xmanager(monkeypatch):
  """The module's functions, and the work units that were added."""
  pytest.importorskip('absl')
  from absl import flags

  added = []

  @contextlib.asynccontextmanager
  async def create_experiment(experiment_title):
    experiment = _Experiment(added)
    yield experiment
    await experiment.end()

  def local(**fields):
    return _Named(**fields)

  local.Spec = _Named
  xm = types.ModuleType('xm')
  xm.Job = xm.JobRequirements = xm.Topology = xm.binary = _Named
  xm.Topology = lambda name: name
  xm.ResourceType = _Named(TPU_V5E='v5e', TPU_V4='v4')
  xm.run_in_asyncio_loop = lambda f: lambda *a: asyncio.run(f(*a))
  xm_local = types.ModuleType('xm_local')
  xm_local.create_experiment, xm_local.Local = create_experiment, local
  package = types.ModuleType('xmanager')
  package.xm, package.xm_local = xm, xm_local
  monkeypatch.setitem(sys.modules, 'xmanager', package)
  known = set(flags.FLAGS)
  module = runpy.run_path(str(SCRIPT), run_name='xm_launch')
  yield types.SimpleNamespace(module=module, added=added, flags=flags.FLAGS)
  for name in set(flags.FLAGS) - known:
    delattr(flags.FLAGS, name)


def _flags(run_dir, *more):
  return [
    'xm_launch',
    '--xm_gin_file=runs/arithmetic.gin',
    f'--xm_gin_bindings=RUN_DIR={run_dir}',
    f'--xm_python={sys.executable}',
    *(f'--xm_gin_bindings={name}={value}' for name, value in SMALL.items()),
    *more,
  ]


# In place of a Python: as a launcher it asks for two work units; these end once
# both are there.
ASKS = """#!{python}
import json, os, pathlib, sys, time
folder = pathlib.Path({folder!r})
if 'rest_jax.main' not in sys.argv:
  (folder / sys.argv[1]).touch()
  while len(list(folder.glob('unit-*'))) < 2:
    time.sleep(0.02)
  sys.exit({code})
(folder / 'command').write_text(' '.join(sys.argv[1:]))
(folder / 'at a time').write_text(os.environ['REST_JAX_JOBS_AT_A_TIME'])
with open(int(os.environ['REST_JAX_WORK_UNITS']), 'w') as file:
  for name in ('iteration_01/sample', 'sft_human/train'):
    print(json.dumps(dict(name=name, topology=None, slices=1,
      arguments=['unit-' + name.replace('/', '-')])), file=file, flush=True)
while len(list(folder.glob('unit-*'))) < 2:
  time.sleep(0.02)
sys.exit({code})
"""


@pytest.mark.parametrize('code', [0, 7])
def test_units_run_beside_each_other_and_the_launcher_says_how_it_ends(
  xmanager, tmp_path, code
):
  file = tmp_path / 'python'
  file.write_text(
    ASKS.format(python=sys.executable, folder=str(tmp_path), code=code)
  )
  file.chmod(0o755)
  more = [f'--xm_python={file}', '--xm_jobs_at_a_time=3', '--xm_until=a/b']
  xmanager.flags(_flags(tmp_path / 'run', *more))
  with pytest.raises(SystemExit) as ended:
    xmanager.module['main'](['xm_launch'])
  assert ended.value.code == code
  names = [job.name for job in xmanager.added]
  assert names == ['iteration_01_sample', 'sft_human_train']
  command = (tmp_path / 'command').read_text()
  assert command.startswith('-m rest_jax.main run --executor=local')
  assert f'--gin.RUN_DIR={tmp_path}/run' in command
  assert command.endswith('--until=a/b')
  assert (tmp_path / 'at a time').read_text() == '3'


def test_a_plan_that_cannot_be_made_is_said(xmanager, tmp_path, capfd):
  wrong = '--xm_gin_bindings=NUM_SAMPLES=four'
  xmanager.flags(_flags(tmp_path / 'run', wrong))
  with pytest.raises(SystemExit) as ended:
    xmanager.module['main'](['xm_launch'])
  assert ended.value.code == 2 and not xmanager.added
  assert 'num_samples' in capfd.readouterr().err.lower()


def test_topologies_are_named_where_xmanager_knows_them(xmanager):
  requirements = xmanager.module['requirements']
  found = requirements({'topology': 'v5e:4x4', 'slices': 2})
  assert found.resources == {'v5e': '4x4'} and found.replicas == 2
  for topology in (None, 'v6e:4x4'):
    assert not vars(requirements({'topology': topology, 'slices': 1}))


@pytest.mark.skipif(not REAL, reason='REST_JAX_XM_PYTHON is not set')
def test_xmanager_itself_runs_a_job(tmp_path):
  run = tmp_path / 'run'
  done = subprocess.run(
    [
      *(REAL, '-m', 'xmanager.cli.cli', 'launch', str(SCRIPT), '--'),
      *_flags(run, '--xm_until=prepare')[1:],
    ],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert 'exit code 0' in done.stdout, done.stderr
  record = json.loads((run / 'jobs' / 'prepare.json').read_text())
  assert record['exit_code'] == 0


@pytest.mark.skipif(not REAL, reason='REST_JAX_XM_PYTHON is not set')
def test_xmanagers_mocks_are_given_units_whose_jobs_a_cluster_runs(tmp_path):
  pytest.importorskip('kubernetes')
  run, pods = tmp_path / 'run', tmp_path / 'pods'
  pods.mkdir()
  more = {
    'TOPOLOGY': 'v5e:1x1',
    'IMAGE': 'none',
    'GKE_HOST_PATHS': f"['{tmp_path}']",
    'PRETRAIN_STEPS': 2,
    'PRETRAIN_BATCH_ROWS': 8,
    'PRETRAIN_MICROBATCHES': 1,
  }
  with fake_cluster.FakeCluster(pods, {'PYTHONPATH': str(ROOT)}) as cluster:
    done = subprocess.run(
      [
        *(REAL, str(ROOT / 'tests' / 'launch' / 'mocked_xmanager.py')),
        *_flags(
          run,
          '--xm_executor=gke',
          '--xm_until=base/train',
          *(f'--xm_gin_bindings={k}={v}' for k, v in more.items()),
        )[1:],
      ],
      env=os.environ
      | {'PYTHONPATH': str(ROOT), 'KUBECONFIG': str(cluster.kubeconfig)},
      capture_output=True,
      text=True,
    )
    assert 'exit code 0' in done.stdout, done.stdout + done.stderr
    assert len(cluster.jobsets) == 1  # the training; prepare is a plain Job
  units = {one['name']: one for one in json.loads(done.stdout.splitlines()[-1])}
  assert units['prepare']['accelerator'] is None
  assert units['base_train'] == {
    'name': 'base_train',
    'accelerator': 'TPU_V5E',
    'topology': '1x1',
    'replicas': 1,
  }
  for job in ('prepare', 'base/train'):
    record = json.loads((run / 'jobs' / f'{job}.json').read_text())
    assert record['exit_code'] == 0
