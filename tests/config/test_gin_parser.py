"""Every mistake on the command line fails before any work and names the fix."""

import os
import pathlib
import subprocess
import sys

import pytest

from rest_jax.config import (
  configuration,
  gin_names,
  gin_parser,
  packaged_gin,
)

DIRS = ['PROBLEMS_DIRS=[p]', 'SAMPLES_DIRS=[s]', 'VERDICTS_DIRS=[v]']
MODEL = """
from __gin__ import dynamic_registration
from rest_jax.models import architecture
MODEL = @architecture.DecoderConfig()
MY_LAYERS = 2
architecture.DecoderConfig:
  vocab_size = 300
  num_layers = %MY_LAYERS
  embed_dim = 16
  num_heads = 2
  num_kv_heads = 1
  head_dim = 8
  mlp_dim = 32
  max_length = 64
"""


@pytest.fixture
def model_file(tmp_path):
  path = tmp_path / 'small.gin'
  path.write_text(MODEL)
  return str(path)


def parse(stage, *bindings, gin_files=(), search_paths=()):
  return gin_parser.parse(
    stage, gin_files=gin_files, bindings=bindings, search_paths=search_paths
  )[1]


@pytest.mark.parametrize(
  ('given', 'parsed'),
  [
    ('RUN_DIR=runs/x', "RUN_DIR = 'runs/x'"),
    ('RUN_DIR="runs/x"', 'RUN_DIR = "runs/x"'),
    ('RUN_DIR=gs://bucket/run-1', "RUN_DIR = 'gs://bucket/run-1'"),
    ('RUN_DIR=/tmp/a b=c', "RUN_DIR = '/tmp/a b=c'"),
    ('NUM_SAMPLES = 8', 'NUM_SAMPLES = 8'),
    ('X=1e-3', 'X = 1e-3'),
    ('X=None', 'X = None'),
    ('X=True', 'X = True'),
    ('X=-1', 'X = -1'),
    ('X=', "X = ''"),
    ('X=%NUM_SAMPLES', 'X = %NUM_SAMPLES'),
    ('X=100%', "X = '100%'"),
    ('X=@architecture.DecoderConfig()', 'X = @architecture.DecoderConfig()'),
    ('X=[1, 2]', 'X = [1, 2]'),
    ('TASKS=[math,apps]', "TASKS = ['math', 'apps']"),
    ('X=[eval/greedy, 3, %Y]', "X = ['eval/greedy', 3, %Y]"),
    ("X=it's", 'X = "it\'s"'),
    ('e_step/streams.Stream.top_p=0.5', 'e_step/streams.Stream.top_p = 0.5'),
  ],
)
def test_bare_strings_are_quoted_and_values_stay(given, parsed):
  assert gin_names.as_binding(given) == parsed


@pytest.mark.parametrize('given', ['RUN_DIR', '=3', ''])
def test_a_binding_without_name_or_value_is_refused(given):
  with pytest.raises(configuration.ConfigurationError, match='NAME=VALUE'):
    gin_names.as_binding(given)


@pytest.mark.parametrize(
  ('binding', 'message'),
  [
    (
      'NUM_SMAPLES=3',
      r'NUM_SMAPLES: no gin file defines.*Nearest: NUM_SAMPLES',
    ),
    ('score.score.num_wrkers=3', 'num_wrkers.*Nearest: num_workers'),
    ('score.scor.num_workers=3', "no attribute 'scor'|attribute scor"),
    # Of a stage that is not imported: seen in its source all the same.
    ('train.train.confg=3', "no parameter 'confg'. Nearest: config"),
    ('train.trian.config=3', "has no 'trian'. Nearest: train"),
    ('trian.train.config=3', 'trian is not a module.*Nearest: train'),
    (
      'architecture.DecoderConfig.num_layrs=3',
      'num_layrs.*Nearest: num_layers',
    ),
    ('hyperparameters.TrainConfig.max_step=3', 'max_step.*Nearest: max_steps'),
    ('e_step/streams.Stream.topp=1.0', 'topp.*Nearest: top_p'),
    ('NUM_WORKERS=two', "num_workers: got 'two' .str.; expected int"),
    ('NUM_WORKERS=2.5', 'num_workers: got 2.5 .float.; expected int'),
    ('SAMPLES_DIRS=s', "samples_dirs: got 's' .str."),
    ('NUM_WORKERS=%NUM_WORKRES', 'NUM_WORKRES.*no gin file.*NUM_WORKERS'),
  ],
)
def test_a_mistake_names_the_nearest_valid_name(binding, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    parse('score', *DIRS, binding)


@pytest.mark.parametrize('task', ['arithmetic', 'programs'])
def test_inherited_fields_of_other_stages_are_known(task):
  name = f'{task}.{task.title()}Config'
  for good in ('num_shots=1', 'vocab_size=700', 'difficulty=%SEED'):
    assert parse('score', *DIRS, f'{name}.{good}')
  for bad, why in (('num_trian=5', 'Nearest: num_train'), ('NAME=x', '')):
    message = f'has no parameter .{bad.partition("=")[0]}.*{why}'
    with pytest.raises(configuration.ConfigurationError, match=message):
      parse('score', *DIRS, f'{name}.{bad}')


def test_the_same_field_of_a_model_file_is_checked_by_gin_itself(model_file):
  with pytest.raises(configuration.ConfigurationError, match='num_layers'):
    parse(
      'score',
      *DIRS,
      'architecture.DecoderConfig.num_layrs=3',
      gin_files=[model_file],
    )


def test_bindings_of_other_stages_are_let_through_if_they_are_valid():
  bound = parse(
    'score',
    *DIRS,
    'train.train.learning_rates=[0.1]',
    'hyperparameters.OptimizerConfig.clip_norm=0.9',
    'e_step/streams.Stream.top_p=0.5',
  )
  assert bound['samples_dirs'] == ('s',)


def test_a_required_macro_is_missed_only_by_the_stages_that_use_it():
  with pytest.raises(configuration.ConfigurationError, match='report: RUN_DIR'):
    parse('report')
  assert parse('report', 'RUN_DIR=x') == {'run_dir': 'x'}  # without a MODEL
  with pytest.raises(configuration.ConfigurationError, match='EVAL_TASKS'):
    parse('rest_em', 'RUN_DIR=x', 'TASKS=[t]')


def test_a_misspelt_macro_in_a_file_is_found(tmp_path):
  path = tmp_path / 'run.gin'
  path.write_text('NUM_SMAPLES = 4\n')
  with pytest.raises(configuration.ConfigurationError, match='NUM_SAMPLES'):
    parse('score', *DIRS, gin_files=[str(path)])


def test_a_file_may_define_and_use_its_own_macros(model_file):
  bound = parse(
    'train',
    'MY_LAYERS=3',
    'EXAMPLES_DIR=e',
    'CHECKPOINTS_DIR=c',
    *sizes_of([model_file]),
    'hyperparameters.OptimizerConfig.clip_norm=0.5',
    'dval/streams.Stream.top_k=7',
    gin_files=[model_file],
  )
  assert bound['model'].num_layers == 3
  assert bound['optimizer'].clip_norm == 0.5
  assert bound['dval_stream'].top_k == 7


def test_a_wrong_type_of_a_field_names_the_field(model_file):
  with pytest.raises(
    configuration.ConfigurationError,
    match=r"DecoderConfig.embed_dim: got 'wide' \(str\); expected int",
  ):
    parse(
      'train',
      'EXAMPLES_DIR=e',
      'CHECKPOINTS_DIR=c',
      'architecture.DecoderConfig.embed_dim=wide',
      gin_files=[model_file],
    )


def test_later_files_and_the_command_line_win(tmp_path):
  for number in (1, 2):
    (tmp_path / f'{number}.gin').write_text(f'NUM_WORKERS = {number}\n')
  files = ['1.gin', '2.gin']
  found = parse('score', *DIRS, gin_files=files, search_paths=[str(tmp_path)])
  assert found['num_workers'] == 2
  found = parse(
    'score',
    *DIRS,
    'NUM_WORKERS=3',
    gin_files=files,
    search_paths=[str(tmp_path)],
  )
  assert found['num_workers'] == 3


def test_a_file_on_a_store_is_read_as_a_local_one(store, bucket, tmp_path):
  """A run on gs:// has its automatic.gin there."""
  text = "include 'runs/arithmetic.gin'\nNUM_ITERATIONS = 7\n"
  (tmp_path / 'mine.gin').write_text(text)
  store.put('bucket/run/mine.gin', text.encode())
  read = [
    gin_parser.parse(
      'rest_em', gin_files=[file], bindings=['RUN_DIR=gs://bucket/run']
    )[1]
    for file in (f'{tmp_path}/mine.gin', f'{bucket}/run/mine.gin')
  ]
  assert read[0] == read[1] and read[1]['num_iterations'] == 7
  with pytest.raises(configuration.ConfigurationError, match='not found'):
    gin_parser.read('rest_em', gin_files=[f'{bucket}/run/other.gin'])


def test_a_file_that_is_not_there_names_the_nearest_one():
  with pytest.raises(
    configuration.ConfigurationError, match='Nearest: stages/score.gin'
  ):
    parse('score', gin_files=['stages/scores.gin'])


def test_nothing_of_one_parse_is_left_in_the_next():
  assert parse('score', *DIRS, 'NUM_WORKERS=7')['num_workers'] == 7
  assert parse('score', *DIRS)['num_workers'] == 0


def gin_files():
  base = pathlib.Path(packaged_gin.directory())
  return [
    os.path.relpath(path, base)
    for folder in ('models', 'tasks', 'runs')
    for path in sorted((base / folder).glob('*.gin'))
  ]


def sizes_of(files):
  """A value for each dial that the launcher would derive."""
  gin_parser.read('rest_em', gin_files=files)
  kept = {
    'CHAT': None,
    'GRADER': 'number',
    'ATTENTION': 'auto',
    'DVAL_GRADING': 'auto',
  }
  return [
    f'{name}={kept.get(name, 1)}'
    for name, value in gin_parser.bindings().items()
    if value == "'auto'" and name != 'MODEL'
  ]


@pytest.mark.parametrize('name', gin_files())
def test_every_gin_file_is_parsed_and_built(name, model_file):
  """Files of models and tasks set a macro; files of runs all that is needed."""
  describes = name.startswith('models/') or name == 'runs/arithmetic.gin'
  files = [name] if describes else [model_file, name]
  bindings = ['RUN_DIR=x', 'INPUT=problems.jsonl', *sizes_of(files)]
  if name not in ('runs/arithmetic.gin', 'runs/programs.gin'):  # pretrain
    bindings.append('BASE_CHECKPOINT_PATH=base.gguf')
  if name.startswith(('models/', 'runs/')):
    bound = parse(
      'train',
      'EXAMPLES_DIR=e',
      'CHECKPOINTS_DIR=c',
      *bindings,
      gin_files=files,
    )
    assert bound['model'].num_parameters > 0
  if name.startswith(('tasks/', 'runs/')):
    assert parse('prepare', *bindings, gin_files=files)['tasks']
  if name.startswith('runs/'):
    plan, bound = gin_parser.parse(
      'rest_em', gin_files=files, bindings=bindings
    )
    assert plan(**bound)[-1].stage == 'report'


def test_the_plan_binds_only_what_the_stages_take(model_file):
  """Each job's arguments resolve to the arguments of its stage's function."""
  task = packaged_gin.directory() + '/tasks/arithmetic.gin'
  files = [model_file, task]
  shared = ['RUN_DIR=x', *sizes_of(files)]
  plan, bound = gin_parser.parse(
    'rest_em',
    gin_files=files,
    bindings=[*shared, 'SFT_BASELINE=True', 'DIFFICULTY_SAMPLES=2'],
  )
  for job in plan(**bound):
    arguments = [a.removeprefix('--gin.') for a in job.arguments]
    _, resolved = gin_parser.parse(
      job.stage, gin_files=files, bindings=[*shared, *arguments]
    )
    if job.stage == 'train' and job.name == 'base/train':
      assert resolved['config'].max_steps == 2000
      assert resolved['learning_rates'] == (3e-3,)
      assert resolved['init_path'] is None and resolved['dval_dirs'] == ()


def test_gin_itself_is_gin_config_and_not_our_folder(root):
  script = 'import gin; assert gin.__file__, gin; print(gin.__file__)'
  done = subprocess.run(
    [sys.executable, '-c', script],
    cwd=root,
    capture_output=True,
    text=True,
    check=True,
  )
  assert 'site-packages' in done.stdout
