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

  def __init__(self, added, fails):
    self.added, self.fails = added, fails

  def package(self, packageables):
    return packageables

  async def add(self, job):
    self.added.append(job)
    failed = job.name in self.fails

    async def wait():
      if failed:
        raise RuntimeError('a work unit failed')

    return _Named(work_unit_id=len(self.added), wait_until_complete=wait)


@pytest.fixture
def xmanager(monkeypatch):
  """The module's functions, what was added, and the names that fail."""
  pytest.importorskip('absl')
  from absl import flags

  added, fails = [], set()

  @contextlib.asynccontextmanager
  async def create_experiment(experiment_title):
    yield _Experiment(added, fails)

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
  yield types.SimpleNamespace(
    module=module, added=added, fails=fails, flags=flags.FLAGS
  )
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


def test_every_job_of_the_plan_is_a_work_unit_of_its_own(xmanager, tmp_path):
  xmanager.flags(_flags(tmp_path / 'run', '--xm_until=iteration_01/train'))
  xmanager.module['main'](['xm_launch'])
  names = [job.args[-1].removeprefix('--until=') for job in xmanager.added]
  assert names[0] == 'prepare' and names[-1] == 'iteration_01/train'
  assert names.index('iteration_01/sample') < names.index('iteration_01/train')
  for job in xmanager.added:
    assert job.executable.path == sys.executable
    assert '--executor=local' in job.args
    assert f'--gin.RUN_DIR={tmp_path}/run' in job.args


def test_a_work_unit_that_fails_ends_the_experiment(xmanager, tmp_path):
  xmanager.fails.add('base_train')
  xmanager.flags(_flags(tmp_path / 'run'))
  with pytest.raises(RuntimeError, match='failed'):
    xmanager.module['main'](['xm_launch'])
  assert xmanager.added[-1].name == 'base_train'


def test_a_plan_that_cannot_be_made_is_said(xmanager, tmp_path):
  wrong = '--xm_gin_bindings=NUM_SAMPLES=four'
  xmanager.flags(_flags(tmp_path / 'run', wrong))
  with pytest.raises(SystemExit, match='NUM_SAMPLES|num_samples'):
    xmanager.module['main'](['xm_launch'])
  assert not xmanager.added


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
  assert '1 jobs are done' in done.stdout, done.stderr
  record = json.loads((run / 'jobs' / 'prepare.json').read_text())
  assert record['exit_code'] == 0
