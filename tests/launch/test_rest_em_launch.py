"""The launch script with real stages: its flags, refusals and resumption."""

import json
import os
import subprocess
import sys

import pytest

PREPARE = [
  '--gin_file=runs/arithmetic.gin',
  '--gin.CORPUS_DOCUMENTS=200',
  '--gin.NUM_TRAIN=12',
  '--gin.NUM_DVAL=10',
  '--gin.NUM_TEST=10',
  '--gin.NUM_HARD=5',
]


@pytest.fixture
def launch(root, tmp_path):
  def run(*flags, run_dir=tmp_path / 'run'):
    return subprocess.run(
      [
        sys.executable,
        str(root / 'launch' / 'rest_em.py'),
        '--executor=local',
        *PREPARE,
        f'--gin.RUN_DIR={run_dir}',
        *flags,
      ],
      capture_output=True,
      text=True,
      cwd=tmp_path,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    )

  return run


def test_a_dry_run_prints_the_plan_and_writes_nothing(launch, tmp_path):
  done = launch('--dry_run', '--gin.NUM_ITERATIONS=2')
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  jobs = [line.split() for line in lines if line.startswith('to do ')]
  assert jobs[0] == ['to', 'do', 'prepare', 'cpu']
  # What it would run on here, and not what the plan calls an accelerator.
  assert any(job[2:4] == ['iteration_02/sample', 'cpu'] for job in jobs)
  assert jobs[-1][2] == 'report'
  assert 'NUM_ITERATIONS = 2' in lines  # what everything resolves to
  assert not list(tmp_path.iterdir())


def test_a_misspelt_macro_fails_before_any_work(launch, tmp_path):
  done = launch('--gin.NUM_SMAPLES=3')
  assert done.returncode == 2
  assert 'Nearest: NUM_SAMPLES' in done.stderr
  assert 'Traceback' not in done.stderr
  assert not list(tmp_path.iterdir())


def test_adapters_of_no_matrix_fail_before_any_work(launch, tmp_path):
  done = launch('--gin.LORA_RANK=4', '--gin.LORA_TARGETS=q_proj')
  assert done.returncode == 2
  assert "LORA_TARGETS: got 'q_proj', which matches no matrix" in done.stderr
  assert 'blocks/query' in done.stderr
  assert not (tmp_path / 'run' / 'problems').exists()


def test_until_runs_that_job_and_again_does_nothing(launch, tmp_path):
  run_dir = tmp_path / 'run'
  first = launch('--until=prepare')
  assert first.returncode == 0, first.stdout + first.stderr
  assert '\ndone    prepare ' in first.stdout
  record = json.loads((run_dir / 'jobs' / 'prepare.json').read_text())
  assert record['exit_code'] == 0 and record['seconds'] > 0
  assert '--gin.NUM_TRAIN=12' in (run_dir / 'config.gin').read_text()
  assert 'NUM_TRAIN = 12' in (run_dir / 'config.gin').read_text()
  log = (run_dir / 'logs' / 'prepare.log').read_text()
  assert '--run_mode=prepare' in log
  again = launch('--until=prepare', '--gin.NUM_ITERATIONS=5')
  assert again.stdout.split()[:2] == ['kept', 'prepare']
  plan = [
    line.split()[:2]
    for line in launch('--dry_run').stdout.splitlines()
    if line.startswith(('done ', 'to do '))
  ]
  assert plan[0] == ['done', 'prepare'] and plan[1] == ['to', 'do']


def test_another_configuration_on_the_same_folder_is_refused(launch, tmp_path):
  launch('--until=prepare')
  before = (tmp_path / 'run' / 'config.gin').read_text()
  done = launch('--until=prepare', '--gin.MAX_FACTOR=4', '--gin.SEED=3')
  assert done.returncode == 2
  assert 'seed: stands as 0, asked for 3' in done.stdout
  assert 'RUN_DIR' in done.stdout
  assert (tmp_path / 'run' / 'config.gin').read_text() == before
  assert launch('--until=prepare').stdout.startswith('kept')


def test_a_lost_part_is_made_again_and_it_alone(launch, tmp_path):
  launch('--until=prepare')
  lost, *kept = sorted((tmp_path / 'run' / 'base').rglob('*.parquet'))
  before = lost.read_bytes(), [path.stat().st_mtime_ns for path in kept]
  lost.unlink()
  done = launch('--until=prepare')
  assert '\ndone    prepare ' in done.stdout, done.stderr
  after = lost.read_bytes(), [path.stat().st_mtime_ns for path in kept]
  assert before == after
  assert launch('--until=prepare').stdout.startswith('kept')


def test_a_folder_with_anothers_config_is_refused(launch, tmp_path):
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.gin').write_text('mine')
  done = launch('--until=prepare')
  assert done.returncode == 2
  assert 'config.gin: not written by rest_jax' in done.stderr
  assert [p.name for p in (tmp_path / 'run').iterdir()] == ['config.gin']
  assert (tmp_path / 'run' / 'config.gin').read_text() == 'mine'


def test_two_launchers_do_not_share_a_folder(launch, tmp_path):
  from rest_jax.artifacts import leases

  with leases.hold(tmp_path / 'run', purpose='another launcher'):
    done = launch('--until=prepare')
  assert done.returncode == 75  # it may succeed later
  assert f'{tmp_path}/run: held by process {os.getpid()}' in done.stderr
  assert launch('--until=prepare').returncode == 0


def test_a_folder_that_cannot_be_written_is_said(root, tmp_path):
  locked = tmp_path / 'locked'
  locked.mkdir()
  locked.chmod(0o555)
  script = (
    'import os, runpy, sys\n'
    'sys.path.insert(0, sys.argv[1] + "/launch")\n'
    'import rest_em as launcher\n'
    'from rest_jax import rest_em\n'
    'os.chdir(sys.argv[2])\n'
    'with open(sys.argv[1] + "/gin/defaults.gin"): pass\n'
    'if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n'
    'from rest_jax.artifacts import leases\n'
    'try:\n'
    '  with leases.hold("run", purpose="x"): pass\n'
    'except OSError as error: print(error)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, str(root), str(locked)],
    capture_output=True,
    text=True,
  )
  assert 'cannot be written; check its owner' in done.stdout, done.stderr


def test_the_users_flags_reach_the_stages_in_their_order(launch, tmp_path):
  done = launch(
    '--gin_bindings=NUM_TEST = 11',
    '--gin.NUM_TEST=12',
    '--gin.train.train.learning_rates=[0.5]',
    '--until=prepare',
  )
  assert done.returncode == 0, done.stdout + done.stderr
  manifest = json.loads(
    (tmp_path / 'run/problems/arithmetic/test/manifest.json').read_text()
  )
  assert manifest['statistics']['task']['num_problems'] == 12


def test_quickstart_explains_itself_and_refuses_what_it_does_not_know(root):
  script = str(root / 'launch' / 'quickstart.sh')
  done = subprocess.run(
    ['bash', script, '--help'], capture_output=True, text=True
  )
  assert done.returncode == 0 and '[RUN_DIR] [--task=' in done.stdout
  for wrong, message in (('a b', 'two folders'), ('--task=x', 'allowed')):
    done = subprocess.run(
      ['bash', script, *wrong.split()], capture_output=True, text=True
    )
    assert done.returncode == 2 and message in done.stderr
