"""Grading beside sampling: what is graded early, and what becomes of it."""

import os
import shutil
import threading

import pytest
import sample_folders

from rest_jax import score
from rest_jax.artifacts import manifests, records, storage
from rest_jax.distributed import preemption
from rest_jax.rewards import early_verdicts

ANSWERS = {'a': '1', 'b': '2'}
PARTS = [
  [('a', 0, 'The answer is 1.'), ('b', 0, 'The answer is 1.')],
  [('b', 1, 'The answer is 2.'), ('a', 1, 'I do not know')],
  [('a', 2, 'The answer is 1.', 'length')],
]


class Drawing:
  """A folder of samples of which a part is written whenever it is asked."""

  def __init__(self, folder, parts):
    self._context = sample_folders.drawing(folder, parts)
    self._work = self._context.__enter__()
    self._left = list(enumerate(parts))

  def go_on(self):
    """Writes the next part; behind the last one, the manifest."""
    if self._left:
      sample_folders.write_part(self._work, *self._left.pop(0))
    elif self._work.done is None:
      self._work.finish()
      self.abandon()

  def abandon(self):
    """Gives the folder up, done or not."""
    self._context.__exit__(None, None, None)


@pytest.fixture
def folders(tmp_path):
  problems = sample_folders.problems(tmp_path / 'problems', ANSWERS)
  return early_verdicts.Folders(
    os.fspath(tmp_path / 'samples'), problems, os.fspath(tmp_path / 'verdicts')
  )


@pytest.fixture
def graded(monkeypatch):
  return sample_folders.graded(monkeypatch)


def grade(folders, **arguments):
  score.score(
    samples_dirs=[folders.samples],
    problems_dirs=[folders.problems],
    verdicts_dirs=[folders.verdicts],
    num_workers=1,
    **arguments,
  )
  return manifests.load(folders.verdicts, stage='score')


def test_parts_are_graded_as_they_appear_and_give_the_same_folder(
  folders, graded, tmp_path, monkeypatch
):
  drawing = Drawing(folders.samples, PARTS)
  waits = []

  def wait(seconds):
    waits.append(len(graded))
    drawing.go_on()

  monkeypatch.setattr(early_verdicts.time, 'sleep', wait)
  early = grade(folders, await_samples=True)
  # None before there was one, then a part each time; the last wait ended it.
  assert waits == [0, 2, 4, 5]
  assert len(graded) == 5
  late = grade(folders._replace(verdicts=os.fspath(tmp_path / 'late')))
  assert len(graded) == 10
  assert early.digest == late.digest
  assert [row['content'] for row in early.parts] == [
    row['content'] for row in late.parts
  ]
  assert not early_verdicts.beside(folders.verdicts).exists()


def test_samples_that_are_done_are_not_waited_for(folders, graded):
  sample_folders.samples(folders.samples, PARTS)
  assert len(grade(folders, await_samples=True).parts) == 3
  assert not early_verdicts.beside(folders.verdicts).exists()


def test_what_was_graded_early_stands_when_the_stage_starts_again(
  folders, graded, monkeypatch
):
  drawing = Drawing(folders.samples, PARTS)
  drawing.go_on()

  def preempted(seconds):
    raise preemption.Preempted

  monkeypatch.setattr(early_verdicts.time, 'sleep', preempted)
  with pytest.raises(preemption.Preempted):
    grade(folders, await_samples=True)
  assert len(graded) == 2
  monkeypatch.setattr(
    early_verdicts.time, 'sleep', lambda seconds: drawing.go_on()
  )
  grade(folders, await_samples=True)
  assert len(graded) == 5


def test_early_verdicts_on_samples_that_changed_do_not_count(
  folders, graded, monkeypatch
):
  drawing = Drawing(folders.samples, PARTS[:1])
  drawing.go_on()

  def drawn_otherwise(seconds):
    drawing.abandon()
    shutil.rmtree(folders.samples)
    changed = [[('a', 0, 'No.'), ('b', 0, 'The answer is 2.')]]
    sample_folders.samples(folders.samples, changed)

  monkeypatch.setattr(early_verdicts.time, 'sleep', drawn_otherwise)
  found = grade(folders, await_samples=True)
  assert len(graded) == 4
  assert [verdict.reward for verdict in found.records()] == [0, 1]


def test_workers_share_what_there_is_to_grade(folders, graded, monkeypatch):
  drawing = Drawing(folders.samples, PARTS)
  turn = threading.Lock()

  def wait(seconds):
    with turn:
      drawing.go_on()

  monkeypatch.setattr(early_verdicts.time, 'sleep', wait)
  monkeypatch.setattr(preemption, 'watch', lambda: None)  # not in a thread
  errors = []

  def work(index):
    try:
      grade(folders, await_samples=True, worker_index=index, all_workers=2)
    except Exception as error:
      errors.append(error)

  threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not errors
  manifest = manifests.load(folders.verdicts, stage='score')
  assert manifest.statistics['samples'] == 5
  assert sorted(set(graded)) == sorted(graded)


def test_an_unfinished_part_is_left_alone(folders, graded, monkeypatch):
  drawing = Drawing(folders.samples, PARTS[:1])
  half = storage.path(folders.samples) / records.part_name(0, 8)
  half.write_bytes(b'PAR1')
  monkeypatch.setattr(
    early_verdicts.time, 'sleep', lambda seconds: drawing.go_on()
  )
  assert grade(folders, await_samples=True).statistics['samples'] == 2
