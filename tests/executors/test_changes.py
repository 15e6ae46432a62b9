"""A user's file that changes, and what is made again."""

import json
import os

import pytest

from rest_jax.artifacts import file_digests, manifests, stage_work, storage
from rest_jax.config import configuration
from rest_jax.executors import changes, job_files
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Configuration, Ledger


class Run:
  """A plan of small jobs, made in this process: prepare, sample, score, train.

  Each job's result is a function of its inputs and of the files it reads.
  """

  def __init__(self, folder, bindings):
    self.folder, self.bindings = folder, bindings
    self.made, self.kept = [], []

  def jobs(self):
    def job(name, stage, inputs, **flags):
      output = f'{self.folder}/{name}'
      return Job(
        name=name,
        stage=stage,
        arguments=tuple(f'--gin.{k}={v}' for k, v in flags.items()),
        needs=tuple(i.removeprefix(f'{self.folder}/') for i in inputs),
        inputs=(*inputs, *(flags[k] for k in flags if k in POLICIES)),
        outputs=(output,),
      )

    at = f'{self.folder}/'.__add__
    model = self.bindings.get('MODEL', '')
    return [
      job('prepare', 'prepare', [], TASK='%INPUT'),
      job('base/sample', 'sample', [at('prepare')], POLICY_DIR=model),
      job('base/score', 'score', [at('prepare'), at('base/sample')]),
      job('base/train', 'train', [at('base/score')], INIT_PATH=model),
      job('report', 'report', [at('base/score'), at('base/train')]),
    ]

  def launch(self, *redo, fails=None, until=None, killed=False):
    """Whether it ran to its end; the refusal where it must not start.

    Args:
      redo: the words of --redo.
      fails: the job that fails as soon as it has started.
      until: the last job by name.
      killed: whether the launcher dies with the job that fails.
    """
    self.made, self.kept = [], []
    bound = {k: repr(v) for k, v in self.bindings.items()}
    ledger = Ledger(str(self.folder), Configuration(bindings=bound, others=[]))
    whole = self.jobs()
    planned = [j for j in whole if until is None or j.name <= until]
    found = changes.Changes(ledger, whole, planned)
    refusal = found.refusal(redo)
    if refusal:
      return refusal
    found.begin(redo)
    for job in planned:
      if ledger.is_done(job):
        self.kept.append(job.name)
        continue
      found.before(job)
      if job.name == fails:
        break
      standing = ledger.outputs(job)
      self.make(job)
      ledger.write(job, before=standing, seconds=1.0, exit_code=0)
      self.made.append(job.name)
    if not killed:
      found.end()
    return not fails

  def make(self, job):
    texts = [storage.path(i).read_text() for i in job.inputs if is_file(i)]
    if job.stage == 'prepare':
      texts.append(storage.path(self.bindings['INPUT']).read_text().upper())
    with stage_work.work_on(
      job.outputs[0],
      stage=job.stage,
      kind=None,
      semantic={},
      inputs={
        folder: manifests.load(folder)
        for folder in job.inputs
        if not is_file(folder)
      }
      | {'texts': manifests.digest_of(texts)},
      version=1,
      on_new_inputs='set_aside'
      if job.stage in ('sample', 'train')
      else 'remake',
    ) as work:
      if work.done is None:
        work.finish(content=texts)


POLICIES = ('POLICY_DIR', 'INIT_PATH')


def is_file(path):
  return path and not storage.path(path).is_dir()


@pytest.fixture
def run(tmp_path):
  (tmp_path / 'rows.jsonl').write_text('one')
  (tmp_path / 'model.gguf').write_text('weights')
  folder = tmp_path / 'run'
  paths = {'INPUT': 'rows.jsonl', 'MODEL': 'model.gguf'}
  made = Run(folder, {k: str(tmp_path / p) for k, p in paths.items()})
  made.bindings['BASE_CHECKPOINT_PATH'] = made.bindings['MODEL']
  assert made.launch() is True and len(made.made) == 5
  return made


def manifests_of(folder):
  return {
    os.path.relpath(p, folder): p.read_text()
    for p in folder.rglob('manifest.json')
  }


ALL = ['prepare', 'base/sample', 'base/score', 'base/train', 'report']


def test_what_did_not_change_is_kept(run, tmp_path):
  assert run.launch() is True and run.kept == ALL
  (tmp_path / 'rows.jsonl').write_text('one')
  os.utime(tmp_path / 'model.gguf', (1, 1))
  assert run.launch() is True and run.kept == ALL
  (tmp_path / 'moved.jsonl').write_text('one')
  run.bindings['INPUT'] = str(tmp_path / 'moved.jsonl')
  before = manifests_of(tmp_path)
  assert run.launch() is True
  assert manifests_of(tmp_path) == before


@pytest.mark.parametrize(
  'file, told, flag',
  [
    ('rows.jsonl', ['prepare: ', 'INPUT'], '--redo=prepare '),
    ('model.gguf', ['base/sample: ', 'BASE_CHECK'], '--redo=base/sample '),
  ],
)
def test_a_changed_file_is_told_and_nothing_is_touched(
  run, tmp_path, file, told, flag
):
  (tmp_path / file).write_text('garbage')
  before = manifests_of(tmp_path)
  refusal = run.launch()
  for text in [*told, flag, str(tmp_path / file), 'base/train', 'report.']:
    assert text in refusal
  assert manifests_of(tmp_path) == before
  assert run.made == []


def test_a_file_that_was_deleted_or_restored_changes_nothing(run, tmp_path):
  (tmp_path / 'rows.jsonl').write_text('two')
  assert 'rows.jsonl' in run.launch()
  (tmp_path / 'rows.jsonl').write_text('one')
  (tmp_path / 'model.gguf').unlink()
  assert run.launch() is True and run.kept == ALL


def test_another_file_under_the_same_dial_is_a_change(run, tmp_path):
  (tmp_path / 'other.jsonl').write_text('two')
  run.bindings['INPUT'] = str(tmp_path / 'other.jsonl')
  assert 'other.jsonl (INPUT)' in run.launch()


def test_redo_makes_again_what_changed_and_keeps_the_old(run, tmp_path):
  old = manifests_of(run.folder)
  (tmp_path / 'rows.jsonl').write_text('two')
  assert run.launch('prepare') is True
  assert run.made == ALL
  aside = manifests_of(run.folder)
  for name, text in old.items():
    folder, _, file = name.rpartition('/')
    assert aside[f'{folder}.superseded-1/{file}'] == text
    assert aside[name] != text
  assert run.launch() is True and run.kept == ALL


def test_a_result_that_stays_keeps_what_was_made_of_it(run, tmp_path):
  (tmp_path / 'rows.jsonl').write_text('ONE')  # prepare gives the same of it
  assert 'rows.jsonl' in run.launch()
  assert run.launch('prepare') is True
  assert run.made == ['prepare'] and run.kept == ALL[1:]


def test_without_samples_nothing_is_asked(run, tmp_path):
  fresh = Run(tmp_path / 'fresh', run.bindings)
  assert fresh.launch(fails='base/sample') is False
  (tmp_path / 'rows.jsonl').write_text('two')
  (tmp_path / 'model.gguf').write_text('other')
  assert fresh.launch() is True
  assert fresh.made == ALL
  assert (tmp_path / 'fresh' / 'prepare.superseded-1').exists()


@pytest.mark.parametrize('again', [(), ('prepare',)])
@pytest.mark.parametrize('killed', [False, True])
@pytest.mark.parametrize('stop', ALL[1:])
def test_an_interrupted_redo_goes_on_with_the_flag_or_without(
  run, tmp_path, again, stop, killed
):
  (tmp_path / 'rows.jsonl').write_text('two')
  assert run.launch('prepare', fails=stop, killed=killed) is False
  assert run.launch(*again) is True
  assert run.made == ALL[ALL.index(stop) :]
  assert not (run.folder / 'prepare.superseded-2').exists()
  assert not (run.folder / 'ledger' / 'redo.json').exists()
  assert (run.folder / 'base' / 'score.superseded-1').exists()


@pytest.mark.parametrize('killed', [False, True])
def test_a_second_edit_during_a_redo_is_made_again_too(run, tmp_path, killed):
  (tmp_path / 'rows.jsonl').write_text('two')
  run.launch('prepare', fails='base/sample', killed=killed)
  (tmp_path / 'rows.jsonl').write_text('three')
  assert run.launch('prepare') is True
  assert run.made == ALL
  assert (run.folder / 'prepare.superseded-2').exists()


def test_what_a_killed_redo_has_half_made_is_gone_on_with(run, tmp_path):
  (tmp_path / 'model.gguf').write_text('other')
  run.launch('sample', fails='base/sample', killed=True)
  half = run.folder / 'base' / 'sample' / 'part'
  storage.write_bytes(half, b'half of the samples')
  assert run.launch() is True
  assert half.exists()
  assert not (run.folder / 'base' / 'sample.superseded-2').exists()


def test_redo_covers_the_jobs_behind_and_no_others(run, tmp_path):
  (tmp_path / 'rows.jsonl').write_text('two')
  refusal = run.launch('base/score')
  assert 'prepare: ' in refusal
  (tmp_path / 'rows.jsonl').write_text('one')
  assert run.launch('base/score') is True
  assert run.made == ['base/score']  # the same verdicts: the rest is kept


def test_a_word_that_means_no_job_is_refused(run):
  with pytest.raises(configuration.ConfigurationError, match='base/score'):
    run.launch('scores')


def test_a_stage_that_was_killed_is_not_continued_with_other_files(
  run, tmp_path
):
  fresh = Run(tmp_path / 'fresh', run.bindings)
  fresh.launch(fails='base/sample')
  part = tmp_path / 'fresh' / 'base' / 'sample' / 'part'
  part.parent.mkdir(parents=True)
  part.write_text('half of the samples')
  (tmp_path / 'model.gguf').write_text('other')
  assert 'model.gguf' in fresh.launch()


def test_a_model_is_read_once_for_all_jobs(run, tmp_path, monkeypatch):
  model = tmp_path / 'model.gguf'
  os.utime(model, (1, 1))
  read = []
  content = file_digests.content
  monkeypatch.setattr(file_digests, '_SETTLED_SECONDS', 0.0)
  monkeypatch.setattr(
    file_digests, 'content', lambda f: read.append(str(f)) or content(f)
  )
  fresh = Run(tmp_path / 'fresh', run.bindings)
  fresh.launch()
  fresh.launch()
  assert read.count(str(model)) == 1


GRADER = """
from beside import RIGHT

def grade(completion, reference, *, finish_reason=None):
  raise AssertionError('it is not imported')
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
  """A job score of problems with a grader of the user's own."""
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'lengths_test.py').write_text(GRADER)
  (tmp_path / 'beside.py').write_text('RIGHT = 1\n')
  card = {'task': 't', 'split': 'train', 'grader': 'lengths_test:grade'}
  card |= {'vocabulary': 'bytes', 'eos_id': 1}
  folder = tmp_path / 'run' / 'problems'
  from rest_jax.artifacts import records

  with stage_work.work_on(
    folder,
    stage='prepare',
    kind=records.Problem,
    semantic={},
    inputs={},
    version=1,
  ) as work:
    work.finish(statistics={'task': card})
  return Job(name='score', stage='score', inputs=(str(folder),))


def digests(job, tmp_path):
  found = job_files.of(job, {}, {}, f'{tmp_path}/run')
  cache = file_digests.Cache()
  return {file.key: file.digest(cache) for file in found}


def test_scoring_depends_on_the_graders_file_and_those_beside_it(own, tmp_path):
  first = digests(own, tmp_path)
  assert list(first) == ['GRADER lengths_test:grade']
  for name in ('lengths_test.py', 'beside.py'):
    (tmp_path / name).write_text((tmp_path / name).read_text() + '# edited\n')
    second = digests(own, tmp_path)
    assert second != first
    first = second


def test_a_changed_grader_names_rescore(own, tmp_path):
  made = Job(name='train', stage='train', needs=('score',), outputs=(
    f'{tmp_path}/run/checkpoints',
  ))  # fmt: skip
  (tmp_path / 'run' / 'checkpoints').mkdir()
  (tmp_path / 'run' / 'checkpoints' / 'weights').write_text('w')
  score = Job(
    name='score', stage='score', inputs=own.inputs, outputs=own.inputs
  )
  ledger = Ledger(f'{tmp_path}/run', Configuration(bindings={}, others=[]))
  ledger.begin(score)
  ledger.write(score, before={}, seconds=1.0, exit_code=0)
  (tmp_path / 'lengths_test.py').write_text('# another\n')
  found = changes.Changes(ledger, [score, made], [score, made])
  refusal = found.refusal([])
  assert f'rest-jax rescore --gin.RUN_DIR={tmp_path}/run' in refusal
  assert 'lengths_test:grade (GRADER)' in refusal
  assert found.refusal(['score']) is None


@pytest.mark.parametrize(
  'stage, semantic, inputs, dial',
  [
    ('sample', {}, {'policy': '{}'}, 'POLICY_DIR'),
    ('train', {}, {'init': '{}'}, 'INIT_PATH'),
    ('prepare', {'input_sha256': '{}' + 32 * '0'}, {}, 'TASK'),
  ],
)
def test_runs_of_an_earlier_version_are_compared_with_their_manifests(
  tmp_path, stage, semantic, inputs, dial
):
  path = tmp_path / 'm.gguf'
  path.write_text('weights')
  digest = file_digests.content(path)
  out = f'{tmp_path}/run/out'
  with stage_work.work_on(
    out,
    stage=stage,
    kind=None,
    semantic={key: value.format(digest) for key, value in semantic.items()},
    inputs={key: value.format(digest) for key, value in inputs.items()},
    version=1,
  ) as work:
    work.finish()
  value = '%INPUT' if dial == 'TASK' else path
  job = Job(
    name='a',
    stage=stage,
    arguments=(f'--gin.{dial}={value}',),
    inputs=(str(path),),
    outputs=(out,),
  )
  bindings = {'INPUT': repr(str(path))}
  ledger = Ledger(
    f'{tmp_path}/run', Configuration(bindings=bindings, others=[])
  )
  assert ledger.changed(job) == []
  path.write_text('garbage')
  assert [file.path for file in ledger.changed(job)] == [str(path)]


def test_a_vocabulary_is_its_file_and_the_files_beside_it(tmp_path):
  folder = tmp_path / 'model'
  folder.mkdir()
  (folder / 'tokenizer.json').write_text('{}')
  (folder / 'README.md').write_text('about')
  job = Job(name='prepare', stage='prepare')

  def digest(path):
    reached = {'t/m.JsonlConfig.vocabulary': '%VOCABULARY'}
    bound = reached | {'VOCABULARY': repr(str(path))}
    [file] = job_files.of(job, reached, bound, 'run')
    assert file.key == 'VOCABULARY'
    return file.digest(file_digests.Cache())

  for path in (folder, folder / 'tokenizer.json'):
    before = digest(path)
    (folder / 'README.md').write_text('about it')
    assert digest(path) == before
    (folder / 'generation_config.json').write_text(json.dumps({'x': [1]}))
    assert digest(path) != before
    (folder / 'generation_config.json').unlink()
    assert digest(path) == before


def test_names_that_are_no_paths_are_no_files():
  job = Job(name='prepare', stage='prepare')
  reached = {'VOCABULARY': "'bytes'", 'CHAT': "'auto'", 'INPUT': 'None'}
  found = job_files.of(job, reached, reached, 'run')
  cache = file_digests.Cache()
  assert {file.digest(cache) for file in found} == {None}
