"""Grading beside a training: the same verdicts, whoever dies, or a reason."""

import os
import re
import shlex
import signal
import string
import subprocess
import sys
import threading
import time

import finished_stages
import pytest
import sample_folders
import tiny_run

from rest_jax import grade_dval, main, train
from rest_jax.artifacts import (
  held_folders,
  manifests,
  records,
  storage,
)
from rest_jax.config import configuration
from rest_jax.distributed import partitioning, preemption
from rest_jax.rewards import dval_grading, dval_requests, pool
from rest_jax.sampling.streams import Stream
from rest_jax.training import dval_waiting
from rest_jax.training.hyperparameters import (
  OptimizerConfig,
  TrainConfig,
  ValidationConfig,
)

# Rewards that differ between completions and are no whole numbers. What was
# graded is written down; a file 'hold' makes the grader wait.
GRADER = """
import os, time
from rest_jax.rewards.verdicts import Verdict

HERE = os.path.dirname(__file__)

def grade(completion, reference, *, finish_reason=None):
  while os.path.exists(os.path.join(HERE, 'hold')):
    time.sleep(0.05)
  with open(os.path.join(HERE, 'calls'), 'a') as file:
    print(repr(completion), file=file)
  if os.path.exists(os.path.join(HERE, 'broken')):
    raise RuntimeError('no compiler is here')
  reward = sum(completion.encode()) % 7 / 7
  return Verdict(outcome='correct' if reward else 'wrong', reward=reward,
                 answer=None)
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
  monkeypatch.setattr(grade_dval, '_POLL_SECONDS', 0.02)
  monkeypatch.setattr(dval_waiting, '_POLL_SECONDS', 0.02)
  monkeypatch.setattr(dval_requests, 'SIGN_SECONDS', 0.05)


@pytest.fixture
def own(tmp_path, monkeypatch):
  """The folder of the grader own_dval:grade, which every process finds."""
  folder = tmp_path / 'own'
  folder.mkdir()
  (folder / 'own_dval.py').write_text(GRADER)
  paths = [os.fspath(folder), *sys.path]
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join(filter(None, paths)))
  monkeypatch.syspath_prepend(os.fspath(folder))
  yield folder
  sys.modules.pop('own_dval', None)


def calls(own):
  file = own / 'calls'
  return len(file.read_text().splitlines()) if file.exists() else 0


def until(condition, seconds=60):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'it does not come'
    time.sleep(0.02)


# ---- the two sides alone ----------------------------------------------------


class Beside:
  """A training's folder, and the stage in a thread.

  Attributes:
    errors: what the stage has raised.
  """

  def __init__(self, root, dval_dirs, monkeypatch):
    monkeypatch.setattr(preemption, 'watch', lambda: None)  # in a thread
    self.root, self.dval_dirs, self.errors = root, dval_dirs, []
    self.checkpoints = root / 'checkpoints'
    self.place = dval_requests.Place(self.checkpoints)
    self.graders = dval_grading.Graders(
      [manifests.load(folder) for folder in dval_dirs]
    )

  def start(self):
    def run():
      try:
        grade_dval.grade_dval(
          checkpoints_dir=os.fspath(self.checkpoints),
          dval_dirs=self.dval_dirs,
          num_workers=1,
        )
      except BaseException as error:
        self.errors.append(error)

    self._thread = threading.Thread(target=run)
    self._thread.start()

  def join(self):
    self._thread.join(timeout=60)
    assert not self._thread.is_alive()

  def train(self):
    """The training has ended."""
    finished_stages.finish(self.checkpoints, 'train')

  def validate(self, name, *tables, told=None):
    """A validation of a training: (it, its verdicts)."""
    waiting = dval_waiting.Waiting(
      self.checkpoints, self.dval_dirs, (told or []).append
    )
    waiting.begin()
    made = self.graders.write(self.place.folder / name, tables)
    return made, waiting.wait(made)


@pytest.fixture(params=['local', 'remote'])
def beside(request, tmp_path, monkeypatch):
  problems = sample_folders.problems(tmp_path / 'dval', {'a': '7', 'b': '8'})
  root = storage.path(tmp_path / 'run')
  if request.param == 'remote':
    root = storage.path(f'{request.getfixturevalue("bucket")}/run')
  return Beside(root, [problems], monkeypatch)


def samples(*texts):
  return sample_folders.table(
    [('a', index, text) for index, text in enumerate(texts)]
  )


RIGHT, WRONG = 'The answer is 7.', 'The answer is 8.'


def test_verdicts_made_beside_are_those_made_here(beside, tmp_path):
  beside.start()
  told = []
  first = beside.validate('lr_1/step_0', samples(RIGHT, WRONG), told=told)
  second = beside.validate('lr_1/step_5', samples(RIGHT, RIGHT))
  beside.train()
  beside.join()
  assert not beside.errors
  for (made, found), texts in ((first, (RIGHT, WRONG)), (second, 2 * (RIGHT,))):
    here = beside.graders.write(
      storage.path(tmp_path / 'here' / made.folder.name), [samples(*texts)]
    )
    (alone,) = beside.graders.grade(here)
    assert found[0].drop(['seconds']).equals(alone.drop(['seconds']))
    assert dval_grading.reward(made, found) == dval_grading.reward(
      here, [alone]
    )
  assert all(
    words.startswith('D_val: 2 samples wait for verdicts') for words in told
  )
  # What the two told each other is gone, what they made is there.
  names = {path.name for path in beside.place.folder.iterdir()}
  assert names == {'lr_1'}


def test_what_was_graded_before_the_training_died_is_taken(beside, monkeypatch):
  graded = []
  original = pool.Pool.grade
  monkeypatch.setattr(
    pool.Pool,
    'grade',
    lambda self, items, *rest: (
      graded.extend(items) or original(self, items, *rest)
    ),
  )
  waiting = dval_waiting.Waiting(beside.checkpoints, beside.dval_dirs, print)
  waiting.begin()
  made = beside.graders.write(
    beside.place.folder / 'lr_1/step_0', [samples(RIGHT)]
  )
  beside.place.ask(made.folder, made.rows)  # and here it dies
  beside.start()
  until(lambda: dval_grading.standing(made) is not None)
  assert len(graded) == 1
  _, found = beside.validate('lr_1/step_0', samples(RIGHT))
  assert found[0]['reward'].to_pylist() == [1.0] and len(graded) == 1
  # Other samples, as of other devices, are graded anew.
  _, found = beside.validate('lr_1/step_0', samples(WRONG))
  assert found[0]['reward'].to_pylist() == [0.0] and len(graded) == 2
  beside.train()
  beside.join()


def test_the_stage_of_a_finished_training_ends_at_once(beside, capsys):
  beside.train()
  beside.start()
  beside.join()
  assert not beside.errors and 'is done already' in capsys.readouterr().out
  assert beside.place.sign() is None


def test_a_second_stage_is_refused_while_the_first_lives(beside):
  beside.start()
  until(lambda: beside.place.sign() is not None)
  with pytest.raises(held_folders.HeldError, match='grade_dval'):
    grade_dval.grade_dval(
      checkpoints_dir=os.fspath(beside.checkpoints), dval_dirs=beside.dval_dirs
    )
  beside.train()
  beside.join()


def test_samples_that_are_not_what_was_asked_for_are_said(beside):
  made = beside.graders.write(
    beside.place.folder / 'lr_1/step_0', [samples(RIGHT)]
  )
  beside.graders.write(made.folder, [samples(WRONG)])
  beside.place.ask(made.folder, made.rows)
  beside.start()
  beside.join()
  assert isinstance(beside.errors[0], records.CorruptPartError)
  assert beside.place.sign().failed


def test_without_a_grader_the_wait_says_how_to_start_one_and_ends(
  tmp_path, monkeypatch, capsys
):
  problems = sample_folders.problems(tmp_path / "d'val", {'a': '7'})
  beside = Beside(storage.path(tmp_path / 'run'), [problems], monkeypatch)
  monkeypatch.setattr(dval_waiting, 'SILENT_SECONDS', 0.2)
  monkeypatch.setattr(dval_waiting, 'PATIENCE_SECONDS', 1.0)
  with pytest.raises(dval_waiting.NoGraderError, match='never there'):
    beside.validate('lr_1/step_0', samples(RIGHT))
  said = capsys.readouterr().out.splitlines()
  assert len(said) >= 2 and all(line.startswith('warning: ') for line in said)
  command = re.search(r'rest-jax (grade_dval .*) — ', said[0])[1]
  # The command is one that works: it grades what was asked for.
  beside.train()  # so that it ends
  (beside.checkpoints / manifests.MANIFEST).rename(tmp_path / 'kept')
  started = threading.Thread(target=main.run, args=(shlex.split(command),))
  started.start()
  _, found = beside.validate('lr_1/step_0', samples(RIGHT))
  assert found[0]['reward'].to_pylist() == [1.0]
  (tmp_path / 'kept').rename(beside.checkpoints / manifests.MANIFEST)
  started.join(timeout=60)
  assert not started.is_alive()


def test_an_old_sign_of_life_is_none(tmp_path, monkeypatch):
  problems = sample_folders.problems(tmp_path / 'dval', {'a': '7'})
  beside = Beside(storage.path(tmp_path / 'run'), [problems], monkeypatch)
  with pytest.raises(configuration.ConfigurationError):
    with beside.place.signing():
      raise configuration.ConfigurationError('no sandbox holds here')
  monkeypatch.setattr(dval_waiting, 'PATIENCE_SECONDS', 0.2)
  with pytest.raises(
    dval_waiting.NoGraderError, match='has ended: no sandbox holds here'
  ):
    beside.validate('lr_1/step_0', samples(RIGHT))


def test_a_sign_of_life_is_given_while_a_program_runs(
  own, tmp_path, monkeypatch
):
  """By a thread: one completion may take the grader for minutes."""
  folder = tmp_path / 'dval'
  problems = sample_folders.problems(
    folder, {'a': '7'}, grader='own_dval:grade'
  )
  beside = Beside(storage.path(tmp_path / 'run'), [problems], monkeypatch)
  (own / 'hold').touch()
  made = beside.graders.write(
    beside.place.folder / 'lr_1/step_0', [samples(RIGHT, WRONG)]
  )
  beside.place.ask(made.folder, made.rows)
  beside.start()
  until(lambda: (sign := beside.place.sign()) and 'of 2' in sign.does)
  first = beside.place.sign()
  until(lambda: beside.place.sign().token != first.token)
  assert beside.place.sign().does == '0 of 2 graded'
  (own / 'hold').unlink()
  beside.train()
  beside.join()
  assert dval_grading.standing(made) is not None


# ---- a training and a process beside it -------------------------------------


@pytest.fixture
def training(tmp_path, own, monkeypatch):
  """Runs the stage train on tmp_path/NAME; returns its manifest."""
  card = {'grader': 'own_dval:grade'}
  # Completions of a few weights seldom end: here most do, within 8 tokens.
  stop = string.ascii_letters + string.digits
  dvals = [
    tiny_run.problems(tmp_path / name, questions, stop=stop, card=card)
    for name, questions in (
      ('dval', {'a': 'Q1:', 'b': 'Q2:'}),
      ('more', {'c': 'Q3:'}),
    )
  ]

  def run(name, **grading):
    train.train(
      examples_dir=tiny_run.examples(
        tmp_path / 'examples', [(f'Q{i}:', '#### 7') for i in range(12)]
      ),
      checkpoints_dir=os.fspath(tmp_path / name / 'checkpoints'),
      init_path=None,
      iteration=1,
      model=tiny_run.MODEL,
      optimizer=OptimizerConfig(learning_rate=1.0, schedule='cosine'),
      learning_rates=[0.01],
      config=TrainConfig(
        max_steps=6, batch_rows=4, row_length=32, save_every=100, trackers=()
      ),
      mesh=partitioning.MeshConfig(),
      dval_dirs=dvals,
      validation=ValidationConfig(every=3, patience=9, **grading),
      dval_stream=Stream(name='dval', num_samples=3, temperature=1.0),
      engine=tiny_run.ENGINE,
    )
    return manifests.load(tmp_path / name / 'checkpoints', stage='train')

  run.dvals = dvals
  with tiny_run.stage_alone(monkeypatch):
    yield run


@pytest.fixture
def grader(tmp_path, training):
  """Starts `rest-jax grade_dval` beside tmp_path/NAME, until the test ends."""
  started = []

  def start(name):
    log = open(tmp_path / f'{name}-{len(started)}.log', 'wb')
    started.append(
      subprocess.Popen(
        [
          *(sys.executable, '-m', 'rest_jax.main', 'grade_dval'),
          f'--gin.CHECKPOINTS_DIR={tmp_path / name / "checkpoints"}',
          f'--gin.DVAL_DIRS={training.dvals}',
          '--gin.NUM_WORKERS=1',
        ],
        cwd=tmp_path,
        stdout=log,
        stderr=subprocess.STDOUT,
      )
    )
    return started[-1]

  yield start
  for process in started:
    process.kill()
    process.wait()


def made(folder):
  """The parts of a training's validations, without what a clock gives."""
  found = {}
  for path in sorted(folder.rglob('part-*.parquet')):
    kind = records.Sample if 'samples' in path.parts else records.Verdict
    row = records.describe_part(path, kind)
    found[str(path.relative_to(folder))] = (row['content'], row['source'])
  return found


def test_a_training_graded_beside_makes_what_one_graded_here_makes(
  training, grader, own, tmp_path
):
  here = training('here')
  before = calls(own)
  process = grader('beside')
  found = training('beside', grading='beside')
  assert process.wait(timeout=60) == 0
  assert found.digest == here.digest and found.statistics == here.statistics
  rewards = [reward for _, reward in here.statistics['validations']]
  assert len({*rewards}) > 1 and all(0 < reward < 1 for reward in rewards)
  expected = made(tmp_path / 'here' / 'validation')
  assert len(expected) == 3 * 2 * 2  # validations, tasks, kinds
  assert made(tmp_path / 'beside' / 'validation') == expected
  assert calls(own) == 2 * before > 0


def test_the_grader_may_be_killed_and_the_training_stopped(
  training, grader, own, tmp_path, monkeypatch
):
  here = training('here')
  before = calls(own)
  (own / 'calls').unlink()
  first = grader('beside')
  verdicts = tmp_path / 'beside/validation/lr_0.01/step_3/verdicts'
  tell, events = dval_waiting.Waiting.wait, []

  def wait(self, validation):
    # At step 3: the grader is killed in its work, then the training is stopped.
    if validation.folder.name == 'step_3' and not events:
      (own / 'hold').touch()
      events.append('held')
      threading.Thread(target=disturb).start()
    return tell(self, validation)

  def disturb():
    asked = tmp_path / 'beside/validation/asked.json'
    until(asked.exists)
    first.kill()
    events.append('killed')
    os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(dval_waiting.Waiting, 'wait', wait)
    with pytest.raises(preemption.Preempted, match='validation'):
      training('beside', grading='beside')
  preemption._asked.clear()
  assert events == ['held', 'killed'] and not verdicts.exists()
  saved = tmp_path / 'beside/checkpoints/lr_0.01/3'
  assert saved.exists()  # nothing of the steps was lost
  # Another one goes on with what is asked for still, before the training does.
  second = grader('beside')
  (own / 'hold').unlink()
  until(lambda: verdicts.exists() and len(list(verdicts.iterdir())) == 2)
  found = training('beside', grading='beside')
  assert second.wait(timeout=60) == 0
  assert found.digest == here.digest and found.statistics == here.statistics
  assert calls(own) == before  # nothing was graded twice


def test_a_grader_that_fails_ends_the_training_with_its_words_and_a_save(
  training, grader, own, tmp_path
):
  (own / 'broken').touch()
  process = grader('beside')
  with pytest.raises(
    configuration.ConfigurationError, match='no compiler is here'
  ):
    training('beside', grading='beside')
  assert process.wait(timeout=60) == 2
  (own / 'broken').unlink()
  process = grader('beside')
  found = training('beside', grading='beside')  # the same command goes on
  assert process.wait(timeout=60) == 0
  assert found.digest == training('here').digest


def test_nothing_is_graded_on_the_trainings_host(
  training, grader, own, tmp_path, monkeypatch
):
  process = grader('beside')

  def refuse(*_):
    raise AssertionError('it grades here')

  monkeypatch.setattr(pool.Pool, 'grade', refuse)
  training('beside', grading='beside')
  assert process.wait(timeout=60) == 0
  with pytest.raises(AssertionError, match='it grades here'):
    training('here')
