"""Batch evaluation: checkpoints' names, its plan, and real jobs that grow."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys

import pytest
import tiny_run
import xla_flags

from rest_jax import main
from rest_jax.artifacts import stage_work
from rest_jax.config import configuration, gin_parser
from rest_jax.distributed import preemption
from rest_jax.executors import jobs
from rest_jax.pipeline import checkpoint_evaluation, launcher
from rest_jax.tokenizers import vocabulary_files

GREEDY = ['eval/greedy']


def plan(checkpoints, tasks=('t', 'u/dval'), streams=GREEDY, **fields):
  made = checkpoint_evaluation.plan(
    run_dir='R',
    checkpoints=checkpoints,
    tasks=list(tasks),
    eval_streams=list(streams),
    **fields,
  )
  return {job.name: job for job in made}


@pytest.mark.parametrize(
  ('path', 'name'),
  [
    ('runs/x/iteration_01/checkpoints', 'x-iteration_01'),
    ('runs/x/iteration_01/checkpoints/', 'x-iteration_01'),
    ('gs://bucket/x/base/checkpoints', 'x-base'),
    ('a/checkpoints', 'a'),
    ('models/Llama-3.1-8B', 'Llama-3.1-8B'),
    ('../b.gguf', 'b'),
    ('checkpoints', 'checkpoints'),
    ('base/checkpoints', 'model-base'),
    ('iteration_07/checkpoints', 'model-iteration_07'),
    ('a b/ü.gguf', 'model'),
  ],
)
def test_a_checkpoint_is_called_by_the_end_of_its_path(path, name):
  assert checkpoint_evaluation.name_of(path) == name
  assert list(checkpoint_evaluation.names([path])) == [name]


def test_checkpoints_are_named_alone_or_by_a_dict_in_either_form():
  expected = {'a': 'a/checkpoints', 'two': 'b.gguf', 'three': 'c'}
  mixed = ['a/checkpoints', {'two': 'b.gguf', 'three': 'c/'}]
  assert (
    checkpoint_evaluation.names(mixed)
    == checkpoint_evaluation.names(expected)
    == expected
  )


@pytest.mark.parametrize(
  ('checkpoints', 'message'),
  [
    ([], 'got none'),
    (['x/m.gguf', 'y/m.gguf'], "both called 'm'.*'another': 'y/m.gguf'"),
    ({'base': 'x'}, "'base' of x means a model"),
    ({'iteration_12': 'x'}, 'iteration_12'),
    ({'a/b': 'x'}, 'allowed: letters'),
    ({'..': 'x'}, 'allowed: letters'),
    ({'a': ''}, 'no path'),
    ([3], 'checkpoints'),
  ],
)
def test_a_name_that_cannot_be_is_refused(checkpoints, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    plan(checkpoints)


def test_every_input_is_written_before_or_is_a_checkpoint():
  made, seen = {}, set()
  policies = {'a/checkpoints', 'b.gguf'}
  for job in plan(['a/checkpoints', 'b.gguf'], streams=['eval/x']).values():
    assert set(job.needs) <= seen
    for folder in job.inputs:
      if folder not in policies:
        assert made[folder] in job.needs, (job.name, folder)
    for folder in job.outputs:
      assert folder not in made and folder.startswith('R/')
      made[folder] = job.name
    seen.add(job.name)
  assert job.name == 'report'
  assert {name.split('/')[0] for name in seen} == {
    *('prepare', 'a', 'b', 'report')
  }


def test_more_checkpoints_change_no_job_that_was_there_but_the_report():
  few, many = plan(['a']), plan([{'z': 'q'}, 'a', 'b/x/checkpoints'])
  few.pop('report')
  assert few.items() <= many.items()


def test_more_tasks_keep_the_folders_of_those_that_were_there():
  few, many = plan(['a'], tasks=['t']), plan(['a'], tasks=['u', 't'])
  for name, job in few.items():
    assert set(job.outputs) <= set(many[name].outputs)


def test_only_sampling_asks_for_the_accelerator():
  resources = jobs.Resources(topology='v5litepod-16', slices=2)
  for job in plan(['a'], resources=resources).values():
    wanted = 'v5e:4x4' if job.stage == 'sample' else None
    assert job.topology == wanted


def test_the_evaluate_jobs_are_no_batches_themselves():
  [job] = [job for job in plan(['a']).values() if job.stage == 'evaluate']
  assert '--gin.CHECKPOINTS=[]' in job.arguments


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'tasks': []}, 'TASKS'),
    ({'tasks': ['t', 't/test']}, 'TASKS'),
    ({'streams': ['greedy']}, 'EVAL_STREAMS'),
  ],
)
def test_an_impossible_plan_is_refused(fields, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    plan(['a'], **fields)


@pytest.mark.parametrize(
  ('flags', 'bound'),
  [([], 'b.gguf'), (['--gin.BASE_CHECKPOINT_PATH=x.gguf'], 'x.gguf')],
)
def test_the_vocabulary_is_that_of_the_first_checkpoint_that_has_one(
  monkeypatch, flags, bound
):
  asked = []
  monkeypatch.setattr(
    launcher,
    'launch',
    lambda program, flags, bindings, _: asked.append(bindings),
  )
  main.run(
    [
      *('evaluate', '--dry_run', '--gin_file=models/smollm2_135m.gin', *flags),
      '--gin.TASKS=[gsm8k]',
      '--gin.CHECKPOINTS=[a/checkpoints, b.gguf, c.gguf]',
      '--gin.RUN_DIR=x',
    ]
  )
  _, prepared = gin_parser.parse(
    'prepare',
    gin_files=['tasks/gsm8k.gin'],
    bindings=[b for b in asked[0] if not b.startswith(('RUN', 'CHECK'))]
    + ['RUN_DIR=x'],
  )
  assert prepared['tasks'][0].vocabulary == bound


def test_a_checkpoint_in_its_run_brings_the_runs_vocabulary(tmp_path):
  policy = tmp_path / 'run/iteration_01/checkpoints'
  assert vocabulary_files.lying_with(policy) is None
  problems = tmp_path / 'run/problems'
  for folder, recorded in ((problems, {'spec': 'models/x.gguf'}), (policy, {})):
    with stage_work.work_on(
      folder, stage='prepare', kind=None, semantic={}, inputs={}, version=1
    ) as work:
      work.finish(recorded=recorded)
  assert vocabulary_files.lying_with(policy) == 'models/x.gguf'
  trained = problems / 'vocabulary.model'
  trained.write_bytes(b'trained')
  assert vocabulary_files.lying_with(policy) == str(trained)


# ---- with real jobs ---------------------------------------------------------

MODEL = dataclasses.replace(tiny_run.MODEL, max_length=256)
FLAGS = """
  --gin.VOCABULARY=bytes --gin.NUM_SHOTS=0 --gin.CORPUS_DOCUMENTS=20
  --gin.NUM_TRAIN=4 --gin.NUM_DVAL=4 --gin.NUM_TEST=6 --gin.NUM_HARD=4
  --gin.MAX_DECODE_LENGTH=8 --gin.PROMPT_BUCKET=192 --gin.GREEDY_GROUPS=4
  --gin.EVAL_STREAMS=[eval/greedy] --gin.BOOTSTRAP_RESAMPLES=50
  --gin.NUM_WORKERS=1
""".split()
OWN = ['--gin_file=tasks/own_problems.gin', '--gin.INPUT=own.jsonl']


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A folder with a model's gin file, two checkpoints and a JSONL task."""
  import jax

  from rest_jax import train
  from rest_jax.distributed import partitioning
  from rest_jax.sampling.streams import Stream
  from rest_jax.training import hyperparameters

  folder = tmp_path_factory.mktemp('batch')
  lines = [
    f'  {field.name} = {getattr(MODEL, field.name)!r}'
    for field in dataclasses.fields(MODEL)
  ]
  (folder / 'model.gin').write_text(
    'from __gin__ import dynamic_registration\n'
    'from rest_jax.models import architecture\n'
    'MODEL = @architecture.DecoderConfig()\narchitecture.DecoderConfig:\n'
    + '\n'.join(lines)
    + '\n'
  )
  rows = [
    {'id': i, 'question': f'{i} + 1', 'answer': i + 1, 'type': f'kind {i % 2}'}
    for i in range(30)
  ]
  (folder / 'own.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  make = functools.partial(partitioning.make_mesh, devices=jax.devices()[:1])
  before = signal.getsignal(signal.SIGTERM)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(partitioning, 'make_mesh', make)
    for seed, name in enumerate(['a', 'b']):
      train.train(
        examples_dir=tiny_run.examples(folder / 'examples', [('1+1', '2')] * 4),
        checkpoints_dir=os.fspath(folder / name / 'checkpoints'),
        init_path=None,
        iteration=1,
        model=MODEL,
        optimizer=hyperparameters.OptimizerConfig(learning_rate=1.0),
        learning_rates=[0.01],
        config=hyperparameters.TrainConfig(
          max_steps=2, batch_rows=4, row_length=32, seed=seed
        ),
        mesh=partitioning.MeshConfig(),
        dval_dirs=[],
        validation=hyperparameters.ValidationConfig(every=5),
        dval_stream=Stream(name='dval', num_samples=1, temperature=0.0),
        engine=tiny_run.ENGINE,
      )
  signal.signal(signal.SIGTERM, before)
  preemption._asked.clear()
  return folder


def evaluate(place, tasks, checkpoints, *flags, run_dir='run'):
  return subprocess.run(
    [
      *(sys.executable, '-m', 'rest_jax.main', 'evaluate'),
      *('--gin_file=model.gin', *FLAGS, *flags),
      *(f'--gin.TASKS={tasks}', f'--gin.CHECKPOINTS={checkpoints}'),
      f'--gin.RUN_DIR={run_dir}',
    ],
    capture_output=True,
    text=True,
    cwd=place,
    env=os.environ
    | {'PYTHONPATH': os.pathsep.join(p for p in sys.path if p)}
    | {'XLA_FLAGS': xla_flags.simulated(1), 'JAX_PLATFORMS': 'cpu'},
  )


def states(text):
  lines = (line.split() for line in text.splitlines())
  return {
    line[1]: line[0] for line in lines if line and line[0] in ('done', 'kept')
  }


def parts(folder):
  """Every part of samples and verdicts with the time of its making."""
  return {
    os.fspath(path.relative_to(folder)): path.stat().st_mtime_ns
    for path in folder.rglob('*.parquet')
  }


def test_tasks_and_checkpoints_grow_and_only_what_is_missing_is_made(place):
  first = evaluate(place, ['arithmetic'], ['a/checkpoints'], *OWN)
  assert first.returncode == 0, first.stdout + first.stderr
  assert set(states(first.stdout).values()) == {'done'}
  run = place / 'run'
  config = (run / 'config.gin').read_text()
  assert config.startswith('# rest-jax evaluate --gin_file=model.gin')
  before = parts(run)

  more = ['a/checkpoints', {'second': 'b/checkpoints'}]
  both = evaluate(place, ['arithmetic'], more, *OWN)
  found = states(both.stdout)
  assert {name for name, state in found.items() if state == 'kept'} == {
    *('prepare', 'a/sample_eval', 'a/score_eval', 'a/evaluate')
  }, both.stdout + both.stderr
  assert {'second/sample_eval', 'second/evaluate', 'report'} < set(found)
  between = parts(run)
  assert before.items() <= between.items()

  grown = evaluate(place, ['own', 'arithmetic'], more, *OWN)
  assert grown.returncode == 0, grown.stdout + grown.stderr
  after = parts(run)
  assert between.items() <= after.items()
  new = {path for path in set(after) - set(between) if 'models' in path}
  assert new and all('/own/' in path for path in new)

  again = evaluate(place, ['own', 'arithmetic'], more, *OWN)
  assert set(states(again.stdout).values()) == {'kept'}

  rows = json.loads((run / 'report' / 'results.json').read_text())['rows']
  keys = [(r['model'], r['task'], r['iteration']) for r in rows]
  assert keys == [
    ('a', 'arithmetic', None),
    ('a', 'own', None),
    ('second', 'arithmetic', None),
    ('second', 'own', None),
  ]
  table = [line.split()[:2] for line in again.stdout.splitlines()]
  assert ['second', 'own'] in table and ['a', 'arithmetic'] in table
  page = (run / 'report' / 'index.html').read_text()
  assert 'Evaluation of 2 checkpoints: a, second.' in page
  assert 'own/test by type' in page and 'macro average' in page
  assert 'SFT baseline' not in page and 'M-steps' not in page


def planned(done):
  """The jobs of a dry run, in words."""
  lines = done.stdout.splitlines()
  return [line.split() for line in lines if line.startswith('to do ')]


def test_a_dry_run_writes_nothing_and_until_stops_there(place):
  done = evaluate(
    place, ['arithmetic'], ['a/checkpoints'], '--dry_run', run_dir='dry'
  )
  assert planned(done)[0] == ['to', 'do', 'prepare', 'cpu']
  assert not (place / 'dry').exists()
  flags = ['--dry_run', '--until=a/score_eval']
  done = evaluate(place, ['arithmetic'], ['a/checkpoints'], *flags)
  names = [job[2] for job in planned(done)]
  assert names == ['prepare', 'a/sample_eval', 'a/score_eval'], done.stdout


@pytest.mark.parametrize(
  ('tasks', 'checkpoints', 'flags', 'message'),
  [
    (['arithmetc'], ['a/checkpoints'], [], 'Nearest: arithmetic. Known:'),
    (['arithmetic/trian'], ['a/checkpoints'], [], 'no arithmetic/trian'),
    (
      ['arithmetic', 'own_problems'],
      ['a/checkpoints'],
      OWN,
      'no own_problems/test. It writes:',
    ),
    (['arithmetic'], ['c/checkpoints'], [], 'nothing is at c/checkpoints'),
    (['arithmetic'], ['a/checkpoints'], ['--gin.NUM_TSET=1'], 'NUM_TEST'),
    ([], ['a/checkpoints'], [], 'TASKS'),
  ],
)
def test_a_mistake_fails_before_any_work(
  place, tasks, checkpoints, flags, message
):
  done = evaluate(place, tasks, checkpoints, *flags, run_dir='refused')
  assert done.returncode == 2 and message in done.stderr, done.stderr
  assert 'Traceback' not in done.stderr
  assert not (place / 'refused').exists()


def test_a_folder_of_the_loop_is_refused(place):
  (place / 'loop').mkdir(exist_ok=True)
  (place / 'loop' / 'config.gin').write_text('# launch/rest_em.py --x\n')
  done = evaluate(place, ['arithmetic'], ['a/checkpoints'], run_dir='loop')
  assert done.returncode == 2
  assert 'is a run of launch/rest_em.py' in done.stderr
