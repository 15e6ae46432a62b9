"""Paths that jobs on other machines do not see are refused, all at once."""

import pytest

from rest_jax import main
from rest_jax.artifacts import storage
from rest_jax.config import configuration, gin_parser
from rest_jax.executors.gke.settings import GkeConfig
from rest_jax.executors.ledger import Configuration, Ledger
from rest_jax.executors.tpu_vm.settings import TpuVmConfig
from rest_jax.pipeline import remote_paths

GKE = GkeConfig(image='image')
TPU_VM = TpuVmConfig(image='image', zone='us-east5-a')
FILES = ['models/tiny.gin', 'tasks/own_problems.gin']
ON_GS = {
  'RUN_DIR': 'gs://bucket/run',
  'INPUT': 'gs://bucket/problems.jsonl',
  'BASE_CHECKPOINT_PATH': 'gs://bucket/model',
  'VOCABULARY': 'gs://bucket/tokenizer.json',
}


def refused(config, values, gin_files=FILES, search_paths=(), done=()):
  """The lines of the refusal that name a path; [] where there is none."""
  values = {**ON_GS, 'NUM_ITERATIONS': '1', **values}
  plan, bound = gin_parser.parse(
    'rest_em',
    gin_files=gin_files,
    bindings=[f'{name}={value}' for name, value in values.items()],
    search_paths=search_paths,
  )
  ledger = Ledger(
    bound['run_dir'],
    Configuration(bindings=gin_parser.bindings(), others=[]),
  )
  ledger.is_done = lambda job: job.name in done
  try:
    remote_paths.check(
      'x',
      config,
      ledger=ledger,
      planned=plan(**bound),
      gin_files=gin_files,
      search_paths=search_paths,
    )
  except configuration.ConfigurationError as error:
    return [
      line.strip() for line in str(error).splitlines() if line.startswith('  ')
    ]
  return []


def test_a_run_on_a_store_is_taken(bucket):
  for config in (GKE, TPU_VM):
    assert refused(config, {}) == []
    assert refused(config, {'VOCABULARY': 'bytes', 'CHAT': 'auto'}) == []


def test_every_path_of_this_machine_is_named_once(bucket):
  local = {
    'RUN_DIR': 'runs/x',
    'INPUT': 'problems.jsonl',
    'INPUT_TEST': '/data/test.jsonl',
    'CHAT': 'chat.jinja',
    'BASE_CHECKPOINT_PATH': 'model.gguf',
    'VOCABULARY': '/data/tokenizer.json',
  }
  expected = sorted(f'{dial}: {path}' for dial, path in local.items())
  assert sorted(refused(GKE, local)) == expected
  assert refused(GKE, {'VOCABULARY': '%BASE_CHECKPOINT_PATH'}) == []
  model = {'BASE_CHECKPOINT_PATH': 'm', 'VOCABULARY': '%BASE_CHECKPOINT_PATH'}
  assert refused(GKE, model) == ['BASE_CHECKPOINT_PATH: m']


def test_published_files_are_named_too(bucket):
  values = {'MANUAL_DIR': '/data/MATH', 'TFDS_DATA_DIR': '/data/tfds'}
  found = refused(GKE, values, ['models/tiny.gin', 'tasks/math.gin'])
  assert sorted(found) == [
    'MANUAL_DIR: /data/MATH',
    'TFDS_DATA_DIR: /data/tfds',
  ]


def test_on_tpu_vms_what_only_this_machine_reads_may_lie_here(bucket):
  assert refused(TPU_VM, {'INPUT': 'problems.jsonl', 'CHAT': 'c.jinja'}) == []
  # The jobs that sample read the model, and the vocabulary of the problems.
  found = refused(TPU_VM, {'BASE_CHECKPOINT_PATH': 'm', 'VOCABULARY': 'v'})
  assert sorted(found) == ['BASE_CHECKPOINT_PATH: m', 'VOCABULARY: v']


def test_what_is_done_reads_nothing_more(bucket):
  values = {'INPUT': 'problems.jsonl'}
  assert refused(GKE, values) == ['INPUT: problems.jsonl']
  assert refused(GKE, values, done=['prepare']) == []


def test_mounted_folders_are_seen(bucket, tmp_path):
  mounted = GkeConfig(image='i', host_paths=('/mnt/nfs/',), fuse_bucket='b')
  for path in ('/mnt/nfs', '/mnt/nfs/a/b', '/gcs/a', '/mnt/x/../nfs/a'):
    assert mounted.sees(path) and not GKE.sees(path)
  for path in ('/mnt/nfs2/a', '/mnt', 'a', '/gcsx', '/mnt/nfs/../a'):
    assert not mounted.sees(path)
  assert refused(mounted, {'INPUT': '/mnt/nfs/problems.jsonl'}) == []
  with pytest.raises(configuration.ConfigurationError, match='host_paths'):
    GkeConfig(image='i', host_paths=('nfs',))


def test_a_gin_file_of_ones_own_must_be_seen_too(bucket, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'conf').mkdir()
  for name in ('mine.gin', 'conf/other.gin'):
    (tmp_path / name).write_text('NUM_SAMPLES = 3\n')
    storage.write_bytes(f'{bucket}/{name}', b'NUM_SAMPLES = 3\n')
  assert refused(TPU_VM, {}, [*FILES, 'mine.gin']) == ['--gin_file: mine.gin']
  assert refused(GKE, {}, [*FILES, 'other.gin'], ['conf']) == [
    '--gin_file: conf/other.gin'
  ]
  assert refused(GKE, {}, [*FILES, f'{bucket}/mine.gin']) == []
  assert refused(GKE, {}, [*FILES, 'other.gin'], [f'{bucket}/conf']) == []


def test_a_launch_is_refused_before_anything_is_written(tmp_path, capsys):
  flags = [
    'run',
    '--executor=gke',
    '--gin_file=runs/arithmetic.gin',
    f'--gin.RUN_DIR={tmp_path}/run',
    '--gin.IMAGE=image',
    '--gin.TOPOLOGY=v5e:2x4',
    '--until=prepare',
  ]
  for more in ([], ['--detach']):
    with pytest.raises(configuration.ConfigurationError) as error:
      main.run([*flags, *more])
  assert f'  RUN_DIR: {tmp_path}/run\n' in str(error.value)
  assert 'gcloud storage cp' in str(error.value)
  assert 'GKE_HOST_PATHS' in str(error.value)
  assert list(tmp_path.iterdir()) == []
  assert main.run([*flags, '--dry_run']) == 0
  shown = capsys.readouterr().out
  assert str(error.value) in shown and 'kind: Job' in shown
