"""The command line: stages, flags, exit codes, and how fast it answers."""

import json
import os
import subprocess
import sys

import pytest

from rest_jax import command_line, main


def run(*arguments, cwd=None, environment=None):
  done = subprocess.run(
    [sys.executable, '-m', 'rest_jax.main', *arguments],
    capture_output=True,
    text=True,
    cwd=cwd,
    env=os.environ
    | {'PYTHONPATH': os.pathsep.join(p for p in sys.path if p)}
    | (environment or {}),
  )
  return done.returncode, done.stdout, done.stderr


def test_help_answers_at_once_and_names_every_stage():
  script = (
    'import atexit, sys; sys.argv = ["rest-jax", "--help"]\n'
    'def check():\n'
    '  heavy = {"jax", "gin", "pyarrow", "orbax"} & set(sys.modules)\n'
    '  if heavy: print("slow to import:", heavy)\n'
    'atexit.register(check)\n'
    'from rest_jax import main; main.main()'
  )
  text = subprocess.check_output([sys.executable, '-c', script], text=True)
  assert 'slow to import' not in text
  assert all(f'\n  {stage} ' in text for stage in command_line.STAGES)


def test_importing_the_package_is_free():
  script = (
    'import sys; before = set(sys.modules); import rest_jax; '
    'print(*sorted({name.partition(".")[0] for name in sys.modules} - before))'
  )
  text = subprocess.check_output([sys.executable, '-c', script], text=True)
  assert text.split() == ['rest_jax']


def test_the_three_ways_to_name_a_stage_agree():
  for flags in (['score'], ['--run_mode=score'], ['score', '--run_mode=score']):
    code, text, _ = run(*flags, '--dry_run', '--gin.NUM_WORKERS=3')
    assert code == 0 and 'num_workers = 3' in text
  code, _, text = run('score', '--run_mode=train')
  assert code == 2 and 'two stages' in text
  code, _, text = run('scroe')
  assert code == 2 and 'score' in text
  code, _, text = run()
  assert code == 2 and 'name a stage' in text


def test_a_worker_is_named_by_flags_of_sample_alone(tmp_path):
  flags = ['--worker_index=1', '--num_workers=4', '--dry_run']
  model = '--gin_file=models/tiny.gin'
  sizes = [f'--gin.{n}=4' for n in ('GROUPS', 'LANES', 'GREEDY_GROUPS')]
  sizes += [f'--gin.{n}=16' for n in ('PROMPT_BUCKET', 'PROBLEMS_PER_PART')]
  sizes += ['--gin.DECODE_CHUNK=4']
  sizes += ['--gin.SAMPLE_MESH_TENSOR=1']
  code, text, error = run('sample', model, *sizes, *flags, cwd=tmp_path)
  assert code == 0, error
  assert '#   worker_index = 1' in text and '#   num_workers = 4' in text
  code, _, error = run('train', *flags, cwd=tmp_path)
  assert code == 2 and '--worker_index belongs to sample and score' in error


def test_a_dry_run_prints_what_is_bound_and_does_nothing(tmp_path):
  code, text, _ = run(
    'score',
    '--gin.RUN_DIR=runs/x',
    "--gin_bindings=PROBLEMS_DIRS = ['a']",
    '--gin.SAMPLES_DIRS=[b]',
    '--gin.VERDICTS_DIRS',
    '[c]',
    '--dry_run',
    cwd=tmp_path,
  )
  assert code == 0
  assert "RUN_DIR = 'runs/x'" in text
  assert "#   problems_dirs = ('a',)" in text
  assert "#   verdicts_dirs = ('c',)" in text
  assert os.listdir(tmp_path) == []


def test_a_wrong_binding_ends_with_2_one_line_and_no_work(tmp_path):
  code, text, error = run('score', '--gin.NUM_SMAPLES=3', cwd=tmp_path)
  assert (code, text) == (2, '')
  assert error.startswith('rest-jax: error: --gin.NUM_SMAPLES')
  assert 'Traceback' not in error and error.count('\n') == 1
  assert os.listdir(tmp_path) == []


def test_input_is_the_prepare_stages():
  code, _, text = run('score', '--input=x.jsonl')
  assert code == 2 and '--input belongs to prepare' in text


def test_input_alone_prepares_your_own_problems(tmp_path):
  rows = [{'id': i, 'question': f'{i}+1?', 'answer': i + 1} for i in range(60)]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  (tmp_path / 'p.jsonl').write_text(text)
  code, told, error = run(
    'prepare',
    '--input=p.jsonl',
    '--gin.RUN_DIR=run',
    '--gin.VOCABULARY=bytes',
    cwd=tmp_path,
  )
  assert (code, error) == (0, '')
  assert 'own/train' in told


@pytest.mark.parametrize(
  ('error', 'code'),
  [
    ("configuration.ConfigurationError('x')", 2),
    ("records.CorruptPartError('x')", 2),
    ("OSError(28, 'disk full')", 2),
    ("preemption.Preempted('x')", 42),
    ("held_folders.HeldError('x')", 75),
    ("held_folders.LostError('x')", 75),
    ("OSError(5, 'input/output error')", 1),
    ("ValueError('a bug')", 1),
  ],
)
def test_errors_become_exit_codes(error, code):
  script = (
    'from rest_jax import main\n'
    'from rest_jax.artifacts import held_folders, records\n'
    'from rest_jax.config import configuration\n'
    'from rest_jax.distributed import preemption\n'
    f'def fail(arguments): raise {error}\n'
    'main.run = fail\n'
    'main.main([])\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True
  )
  assert done.returncode == code
  assert ('Traceback' in done.stderr) == (code == 1)


def test_seqio_and_tfds_folders_reach_the_environment(monkeypatch):
  from rest_jax.config import gin_parser

  monkeypatch.setenv('TFDS_DATA_DIR', '')
  monkeypatch.setenv('SEQIO_ADDITIONAL_CACHE_DIRS', '')
  seen = {}

  def parse(stage, **arguments):
    return seen.update, {'stage': stage} | arguments

  monkeypatch.setattr(gin_parser, 'parse', parse)
  code = main.run(
    [
      'prepare',
      '--tfds_data_dir=/data',
      '--seqio_additional_cache_dirs=/a,/b',
      '--input=p.jsonl',
      '--gin_file=f.gin',
      '--gin_file=g.gin',
      '--gin_search_paths=/s,/t',
      '--gin.X=1',
    ]
  )
  assert code == 0
  assert seen == {
    'stage': 'prepare',
    'gin_files': ['f.gin', 'g.gin'],
    'bindings': ['INPUT=p.jsonl', 'X=1'],
    'search_paths': ['/s', '/t'],
  }
  assert os.environ['TFDS_DATA_DIR'] == '/data'
  assert os.environ['SEQIO_ADDITIONAL_CACHE_DIRS'] == '/a,/b'


@pytest.mark.parametrize('stage', ['sample', 'score', 'select', 'train'])
def test_a_stage_alone_says_how_a_run_calls_it(stage):
  code, _, error = run(stage, '--gin_file=runs/arithmetic.gin')
  assert code == 2 and 'Traceback' not in error
  assert f'--until=iteration_01/{stage}' in error
  assert error.startswith(f'rest-jax: error: {stage}: one stage of a run')


def test_without_a_gin_file_the_run_files_are_listed():
  code, _, error = run('prepare', '--gin.RUN_DIR=x')
  assert code == 2
  assert 'runs/own_problems.gin   ReST^EM on your own problems, from' in error
  assert 'runs/math.gin ' in error and '--input=FILE.jsonl' in error


def test_a_file_at_the_place_of_a_folder_is_named_in_one_line(tmp_path):
  (tmp_path / 'file').write_text('mine')
  flags = ('--gin_file=runs/arithmetic.gin', '--gin.CORPUS_DOCUMENTS=2')
  for run_dir in ('file', 'file/below'):
    code, _, error = run(
      'prepare', *flags, f'--gin.RUN_DIR={run_dir}', cwd=tmp_path
    )
    assert code == 2 and error.count('\n') == 1
    assert 'a file stands where a folder is needed; set RUN_DIR' in error
  assert (tmp_path / 'file').read_text() == 'mine'


def test_a_stage_that_runs_out_of_memory_names_its_dials(
  tmp_path, monkeypatch, capsys
):
  from rest_jax.config import gin_parser

  def fails(**_):
    raise MemoryError('nothing is left')

  monkeypatch.setattr(gin_parser, 'parse', lambda *_, **__: (fails, {}))
  monkeypatch.setattr(
    gin_parser, 'macros', lambda *_, **__: {'EXAMPLES_DIR': 'x'}
  )
  monkeypatch.setattr(gin_parser, 'bindings', lambda: {'MICROBATCHES': '4'})
  assert main.exit_code(lambda: main.run(['train']), 'rest-jax') == 2
  said = capsys.readouterr().err
  assert said.startswith('rest-jax: error: out of memory in train: try ')
  assert 'MICROBATCHES=8 (now 4)' in said and said.count('\n') == 1
