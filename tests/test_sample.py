"""The stage sample: growing, resuming, refusing, and what it writes."""

import concurrent.futures
import dataclasses
import functools
import os
import signal
import threading

import jax
import jax.numpy as jnp
import pytest
import tiny_run

from rest_jax import sample
from rest_jax.artifacts import (
  file_leases,
  fingerprints,
  held_folders,
  manifests,
  progress_lines,
  records,
  stage_work,
  workers,
)
from rest_jax.config import configuration
from rest_jax.distributed import partitioning, preemption
from rest_jax.models.checkpoints import policies
from rest_jax.sampling import (
  folder_sampling,
  sample_parts,
  sampling_engine,
  sampling_progress,
)
from rest_jax.sampling.streams import Stream
from rest_jax.tokenizers import vocabulary_checks

QUESTIONS = {str(i): f'Q{i}:' + 'x' * (i % 3) for i in range(5)}


@functools.cache
def weights():
  made = tiny_run.fresh(tiny_run.MODEL, seed=0)
  return jax.tree.map(lambda w: w * 1.5, made)


@pytest.fixture(autouse=True)
def _one_device_and_a_policy(monkeypatch):
  make = functools.partial(partitioning.make_mesh, devices=jax.devices()[:1])
  monkeypatch.setattr(partitioning, 'make_mesh', make)
  monkeypatch.setattr(policies, 'digest', lambda source: f'of {source}')
  monkeypatch.setattr(policies, 'iteration', lambda source: 1)
  monkeypatch.setattr(
    policies, 'load', lambda *_, **__: jax.tree.map(jnp.copy, weights())
  )
  check = vocabulary_checks.require_of_checkpoint
  monkeypatch.setattr(
    vocabulary_checks,
    'require_of_checkpoint',
    lambda own, policy, size: '/' in policy and check(own, policy, size),
  )
  before = signal.getsignal(signal.SIGTERM)
  yield
  signal.signal(signal.SIGTERM, before)
  preemption._asked.clear()


@pytest.fixture
def generated(monkeypatch):
  """Every (problem, sample index) that an engine has drawn."""
  drawn = []
  generate = sampling_engine.Engine.generate

  def noted(self, requests, **fields):
    for completion in generate(self, requests, **fields):
      drawn.append((completion.problem_id, completion.sample_index))
      yield completion

  monkeypatch.setattr(sampling_engine.Engine, 'generate', noted)
  return drawn


@pytest.fixture
def run(tmp_path):
  """Samples into tmp_path/NAME; returns the manifest."""

  def run(name='samples', *, questions=QUESTIONS, stop=(), **fields):
    stream = dataclasses.replace(
      tiny_run.STREAM,
      **{
        k: fields.pop(k)
        for k in ('num_samples', 'temperature', 'few_shot')
        if k in fields
      },
    )
    key = manifests.digest_of([questions, stop])[:8]
    folder = tiny_run.problems(
      tmp_path / f'problems-{key}', questions, stop=stop
    )
    arguments = {
      'problems_dirs': [folder],
      'samples_dirs': [os.fspath(tmp_path / name)],
      'stream_names': ['e_step'],
      'policy_dir': 'base',
      'streams': [stream],
      'iteration': 1,
      'model': tiny_run.MODEL,
      'engine': tiny_run.ENGINE,
      'mesh': partitioning.MeshConfig(),
    }
    sample.sample(**(arguments | fields))
    return manifests.load(tmp_path / name, stage='sample')

  return run


def rows(manifest):
  return {(r.problem_id, r.sample_index): r for r in manifest.records()}


def test_growing_computes_only_the_new_and_equals_asking_at_once(
  run, generated
):
  few = rows(run(num_samples=8))
  del generated[:]
  grown = run(num_samples=32)
  assert sorted(generated) == sorted(
    (f't/train/{key}', index) for key in QUESTIONS for index in range(8, 32)
  )
  assert rows(grown) == rows(run('direct', num_samples=32))
  assert len(rows(grown)) == 5 * 32
  assert rows(grown).items() >= few.items()
  assert grown.statistics['samples'] == 160
  assert grown.statistics['blocks'] == [0, 8, 32]


def test_it_says_whether_what_is_done_will_change(run, tmp_path, monkeypatch):
  """Its folder is read from then on, while the others are made."""
  monkeypatch.setenv('REST_JAX_JOB', 'x')
  settled = []  # each time, what was done then

  def say(line):
    if line == progress_lines.settled():
      names = [p.parent.name for p in tmp_path.glob('*/manifest.json')]
      settled.append([n for n in names if not n.startswith('problems')])

  monkeypatch.setattr(sampling_progress.multihost, 'say', say)
  run('a')
  assert settled == [[]]
  two = {'samples_dirs': [str(tmp_path / name) for name in 'ab']}
  two |= {'stream_names': ['e_step'] * 2}
  folder = os.fspath(next(tmp_path.glob('problems-*')))
  run('a', **two, problems_dirs=[folder] * 2)
  assert settled == [[], ['a']]
  run('b', num_samples=16)  # grows: the manifest of before stands meanwhile
  assert settled == [[], ['a']]


def test_a_finished_stage_runs_again_without_the_policy(
  run, generated, monkeypatch, capsys
):
  first = run()
  del generated[:]
  capsys.readouterr()
  monkeypatch.setattr(policies, 'load', None)  # would raise
  assert run().digest == first.digest
  assert not generated
  assert capsys.readouterr().out.splitlines()[-1].startswith('sample: ')


def test_stopped_in_the_middle_it_goes_on_and_equals_never_stopped(
  run, generated, tmp_path, monkeypatch
):
  straight = run('straight')
  write = stage_work.Work.write
  generated.clear()

  def stopping(self, name, *arguments, **fields):
    write(self, name, *arguments, **fields)
    os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(stage_work.Work, 'write', stopping)
    with pytest.raises(preemption.Preempted, match='e_step of t/train'):
      run('stopped')
  preemption._asked.clear()
  assert len(list((tmp_path / 'stopped').glob('part-*.parquet'))) == 1
  assert 8 < len(generated) < 5 * 8
  resumed = run('stopped')
  assert len(generated) == len(set(generated)) == 5 * 8  # nothing twice
  assert resumed.digest == straight.digest
  assert not (tmp_path / 'stopped' / workers.UNFINISHED).exists()
  for row in straight.parts:
    a, b = (m.folder / row['name'] for m in (straight, resumed))
    assert a.read_bytes() == b.read_bytes()


def bytes_of(manifest):
  return {
    path.name: path.read_bytes() for path in manifest.folder.glob('*.parquet')
  }


def test_workers_together_make_what_one_makes(run, generated, monkeypatch):
  straight = run('straight')
  monkeypatch.setattr(preemption, 'watch', lambda: None)  # for main threads
  monkeypatch.setattr(file_leases, 'GRACE_SECONDS', 30.0)
  monkeypatch.setattr(held_folders, 'POLL_SECONDS', 0.02)
  generated.clear()
  barrier = threading.Barrier(2)

  def work(index):
    barrier.wait()
    return run('shared', worker_index=index, num_workers=2)

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    made = [*pool.map(work, range(2))]
  assert len(generated) == len(set(generated)) == 5 * 8  # nobody's twice
  assert made[0] == made[1] and made[0].digest == straight.digest
  assert bytes_of(made[0]) == bytes_of(straight)
  assert sorted(path.name for path in made[0].folder.glob('.*')) == []


def test_the_parts_of_a_worker_that_is_gone_are_made_by_the_others(
  run, generated, tmp_path, monkeypatch
):
  straight = run('straight')
  generated.clear()
  keep = sample_parts.OpenParts.keep

  def stopping(self, *, now=False):
    os.kill(os.getpid(), signal.SIGTERM)
    return keep(self, now=now)

  with monkeypatch.context() as patch:
    patch.setattr(sample_parts.OpenParts, 'keep', stopping)
    with pytest.raises(preemption.Preempted):
      run('shared', worker_index=1, num_workers=3)
  preemption._asked.clear()
  assert (tmp_path / 'shared' / 'unfinished-1.parquet').exists()
  first, generated[:] = set(generated), []
  # Worker 0 of now two of them does the rest, and worker 1 of three is started
  # again when everything is done.
  made = run('shared', worker_index=0, num_workers=2)
  assert bytes_of(made) == bytes_of(straight)
  assert run('shared', worker_index=1, num_workers=3) == made
  assert first and set(generated) | first == set(rows(straight))


def test_what_a_worker_had_is_not_drawn_again_when_it_is_back(
  run, generated, tmp_path, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(
      sample_parts.OpenParts,
      'add',
      lambda self, row, add=sample_parts.OpenParts.add: (
        add(self, row),
        os.kill(os.getpid(), signal.SIGTERM),
      )[0],
    )
    with pytest.raises(preemption.Preempted):
      run('shared', worker_index=1, num_workers=2)
  preemption._asked.clear()
  run('shared', worker_index=1, num_workers=2)
  assert len(generated) == len(set(generated)) == 5 * 8


def test_a_part_that_another_is_at_for_too_long_is_drawn_here_too(
  run, tmp_path, monkeypatch, capsys
):
  straight = run('straight')
  monkeypatch.setattr(folder_sampling, 'PATIENCE_SECONDS', 0.2)
  monkeypatch.setattr(folder_sampling, 'POLL_SECONDS', 0.05)
  (tmp_path / 'shared').mkdir()
  asleep = workers.Claims(tmp_path / 'shared', purpose='asleep')
  with asleep:
    assert asleep.take(straight.parts[1]['name'])
    made = run('shared', worker_index=0, num_workers=2)
  assert bytes_of(made) == bytes_of(straight)
  out = capsys.readouterr().out
  assert f'{straight.parts[1]["name"]} is drawn here too' in out
  assert '(asleep, since' in out


def test_a_worker_does_not_wait_while_another_folder_has_work(
  run, generated, tmp_path, monkeypatch
):
  monkeypatch.setattr(folder_sampling, 'PATIENCE_SECONDS', 1.0)
  monkeypatch.setattr(folder_sampling, 'POLL_SECONDS', 0.05)
  first = run('first')
  generated.clear()
  (tmp_path / 'shared').mkdir()
  problems = tmp_path / f'problems-{manifests.digest_of([QUESTIONS, ()])[:8]}'
  with workers.Claims(tmp_path / 'shared', purpose='asleep') as asleep:
    for row in first.parts:
      assert asleep.take(row['name'])
    run(
      'shared',
      problems_dirs=[os.fspath(problems)] * 2,
      samples_dirs=[os.fspath(tmp_path / name) for name in ('shared', 'other')],
      stream_names=['e_step', 'e_step'],
      worker_index=0,
      num_workers=2,
    )
  other, shared = (
    os.stat(tmp_path / name / manifests.MANIFEST).st_mtime_ns
    for name in ('other', 'shared')
  )
  assert other < shared
  assert len(generated) == 2 * 5 * 8


@pytest.mark.parametrize(('index', 'number'), [(2, 2), (-1, 2), (0, 0)])
def test_a_worker_that_cannot_be_is_refused(run, index, number):
  with pytest.raises(configuration.ConfigurationError, match='WORKER_INDEX'):
    run(worker_index=index, num_workers=number)


def test_a_lost_part_is_made_again_and_no_other(run, generated):
  first = run()
  del generated[:]
  (first.folder / first.parts[1]['name']).unlink()
  again = run()
  assert {name for name, _ in generated} == {'t/train/2', 't/train/3'}
  assert again.digest == first.digest
  assert sorted(p.name for p in again.folder.glob('*.parquet')) == [
    row['name'] for row in first.parts
  ]


def test_what_a_part_holds_does_not_depend_on_where_parts_are_cut(run):
  one = rows(run('one'))
  engine = dataclasses.replace(tiny_run.ENGINE, problems_per_part=5)
  other = rows(run('other', engine=engine))
  assert one == other


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'temperature': 0.5}, 'stream.temperature: stands as 1.0, asked for 0.5'),
    ({'num_samples': 4}, 'num_samples: stands as 8, asked for 4'),
    ({'iteration': 2}, 'iteration: stands as 1, asked for 2'),
    (
      {'engine': dataclasses.replace(tiny_run.ENGINE, lanes=2)},
      'engine.lanes: stands as 4, asked for 2',
    ),
    (
      {'engine': dataclasses.replace(tiny_run.ENGINE, seed=9)},
      'seed: stands as 3, asked for 9',
    ),
    (
      {'engine': dataclasses.replace(tiny_run.ENGINE, weights='int8')},
      "engine.weights: stands as '.absent.', asked for 'int8'",
    ),
  ],
)
def test_another_stream_or_layout_is_refused_on_resume(run, fields, message):
  run()
  with pytest.raises(fingerprints.FingerprintError, match=message):
    run(**fields)


def test_int8_weights_are_sampled_and_said_in_the_fingerprint(run, monkeypatch):
  given = []
  make = sampling_engine.Engine.__init__

  def noted(self, model, weights, *rest, **fields):
    given.append(weights)
    make(self, model, weights, *rest, **fields)

  monkeypatch.setattr(sampling_engine.Engine, '__init__', noted)
  engine = dataclasses.replace(tiny_run.ENGINE, weights='int8')
  made = run(engine=engine)
  [(outer, layers)] = given
  assert layers[0]['params']['query'].dtype == 'int8'
  assert outer['scales']['embedding'].shape == (tiny_run.MODEL.vocab_size,)
  assert made.fingerprint['semantic']['engine']['weights'] == 'int8'
  assert len(rows(made)) == 40


def test_another_policy_sets_the_old_samples_aside(run, tmp_path):
  first = run()
  second = run(policy_dir='other')
  assert (tmp_path / 'samples.superseded-1/manifest.json').exists()
  assert second.digest != first.digest


def test_an_added_problem_is_sampled_and_no_other(run, generated, tmp_path):
  some = {key: QUESTIONS[key] for key in '134'}
  run(questions=some)
  generated.clear()
  grown = run()
  assert {problem for problem, _ in generated} == {'t/train/0', 't/train/2'}
  assert (tmp_path / 'samples.superseded-1/manifest.json').exists()
  assert rows(grown) == rows(run('undisturbed'))


@pytest.mark.parametrize(
  'changed',
  [{'questions': QUESTIONS | {'3': 'Another:'}}, {'stop': ('x',)}],
)
def test_a_changed_problem_is_sampled_again(run, generated, changed):
  run()
  generated.clear()
  again = run(**changed)
  asked = {problem for problem, _ in generated}
  assert asked == {
    f't/train/{i}' for i in ('3' if 'questions' in changed else QUESTIONS)
  }
  assert rows(again) == rows(run('undisturbed', **changed))


def test_samples_that_redo_set_aside_are_drawn_anew(run, generated, tmp_path):
  first = run()
  generated.clear()
  (tmp_path / 'samples').rename(tmp_path / 'samples.superseded-1')
  assert run().digest == first.digest
  assert len(generated) == 8 * len(QUESTIONS)


def test_a_prompt_too_long_is_counted_and_said(run, capsys):
  questions = QUESTIONS | {'long': 'x' * 60}
  manifest = run(questions=questions)
  assert manifest.statistics['finish_reasons']['prompt'] == 8
  out = capsys.readouterr().out
  assert 'warning: 8 samples were not drawn' in out and 'max_length = 48' in out
  long = rows(manifest)['t/train/long', 0]
  assert (long.finish_reason, long.token_ids, long.text) == ('prompt', [], '')
  assert len(rows(manifest)) == 6 * 8


def test_a_sample_holds_its_prompts_digest_and_ends_where_it_says(run):
  manifest = run()
  reasons = set()
  for (name, _), row in rows(manifest).items():
    question = QUESTIONS[name.removeprefix('t/train/')]
    prompt = list(b'1+6=7;' + question.encode())
    assert row.prompt_digest == records.prompt_digest([prompt])
    assert row.policy_digest == 'of base' and row.stream == 'e_step'
    assert len(row.logprobs) == len(row.sampling_logprobs) == len(row.token_ids)
    assert max(row.token_ids) <= tiny_run.EOS
    reasons.add(row.finish_reason)
    if row.finish_reason == 'eos':
      assert row.token_ids[-1] == tiny_run.EOS
      assert row.target_length == len(row.token_ids) - 1
    else:
      assert row.target_length == len(row.token_ids) == 8
      assert tiny_run.EOS not in row.token_ids
    body = bytes(row.token_ids[: row.target_length])
    assert row.text == body.decode('utf-8', errors='replace')
  counts = manifest.statistics['finish_reasons']
  assert reasons == set(counts) and sum(counts.values()) == 40
  total = sum(len(row.token_ids) for row in rows(manifest).values())
  assert manifest.statistics['tokens'] == total


def test_zero_shot_leaves_the_worked_examples_out(run):
  few, zero = rows(run('few')), rows(run('zero', few_shot=False))
  assert zero['t/train/1', 0].prompt_digest == records.prompt_digest([b'Q1:x'])
  texts = [[row.text for row in found.values()] for found in (few, zero)]
  assert texts[0] != texts[1]


def test_two_folders_are_sampled_with_one_load_of_the_policy(
  tmp_path, monkeypatch
):
  loads = []
  monkeypatch.setattr(
    policies,
    'load',
    lambda *_, **__: loads.append(1) or jax.tree.map(jnp.copy, weights()),
  )
  both = [
    tiny_run.problems(tmp_path / f'{name}-problems', {name: 'Q1:'})
    for name in 'ab'
  ]
  greedy = Stream(name='eval/greedy', num_samples=1, temperature=0.0)
  outputs = [os.fspath(tmp_path / name) for name in 'ab']
  sample.sample(
    problems_dirs=both,
    samples_dirs=outputs,
    stream_names=['e_step', 'eval/greedy'],
    policy_dir='base',
    streams=[tiny_run.STREAM, greedy],
    iteration=1,
    model=tiny_run.MODEL,
    engine=tiny_run.ENGINE,
    mesh=partitioning.MeshConfig(),
  )
  sizes = [manifests.load(o).statistics['samples'] for o in outputs]
  assert sizes == [8, 1]
  assert len(loads) == 1


def test_each_task_has_its_own_number_of_samples(run):
  manifest = run(num_samples={'t': 2, 'u': 9})
  assert {index for _, index in rows(manifest)} == {0, 1}
  same = run('one_number', num_samples=2)
  assert rows(manifest).keys() == rows(same).keys()
  assert manifest.digest == same.digest
  grown = run(num_samples={'t': 3})
  assert {index for _, index in rows(grown)} == {0, 1, 2}
  with pytest.raises(configuration.ConfigurationError, match="the task 't'"):
    run('other', num_samples={'u': 9})


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'policy_dir': None}, 'POLICY_DIR'),
    ({'stream_names': ['dval']}, "'dval'; allowed: e_step"),
    ({'samples_dirs': []}, 'as many folders'),
    ({'problems_dirs': ['nowhere']}, 'nowhere: not there'),
    ({'num_samples': 0}, 'num_samples'),
  ],
)
def test_what_cannot_be_sampled_is_refused_at_the_start(run, fields, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    run(**fields)


def test_a_vocabulary_that_is_not_the_policys_is_refused_before_it_is_loaded(
  run, tmp_path, monkeypatch
):
  (tmp_path / 'model.safetensors').write_bytes(b'')
  large = dataclasses.replace(tiny_run.MODEL, vocab_size=32_000)
  monkeypatch.setattr(policies, 'load', lambda *_, **__: pytest.fail('loaded'))
  with pytest.raises(configuration.ConfigurationError, match='VOCABULARY'):
    run(model=large, policy_dir=os.fspath(tmp_path))


def test_evaluations_of_one_policy_share_their_noise(run, monkeypatch):
  stream = dataclasses.replace(
    tiny_run.STREAM, name='eval/sampled', num_samples=2
  )
  evaluation = {'stream_names': ['eval/sampled'], 'streams': [stream]}

  def texts(name, iteration, made_by, **fields):
    monkeypatch.setattr(policies, 'iteration', lambda source: made_by)
    found = rows(run(name, iteration=iteration, **fields))
    return {key: row.token_ids for key, row in found.items()}

  base = texts('base', 0, 0, **evaluation)
  # An M-step that chose step 0 gave back the policy of iteration 0.
  assert texts('untrained', 1, 0, **evaluation) == base
  assert texts('trained', 1, 1, **evaluation) != base
  # A later E-step from the same policy draws new samples.
  assert texts('e_step_1', 1, 0) != texts('e_step_2', 2, 0)
