"""Two processes wait for D_val: process 0 looks, the other is told."""

import os
import signal
import threading
import time

import finished_stages
import pytest
import sample_folders
from processes import start

from rest_jax import grade_dval
from rest_jax.distributed import preemption
from rest_jax.rewards import dval_requests

LIMIT = 8  # seconds that a process is waited for
SCRIPT = """
import pathlib, sys
what, folder = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path[:0] = sys.argv[3:]
from rest_jax import main
from rest_jax.artifacts import manifests, storage
from rest_jax.distributed import multihost, preemption
from rest_jax.rewards import dval_grading
from rest_jax.training import dval_waiting
import sample_folders

def run():
  if what == 'nobody':
    dval_waiting.PATIENCE_SECONDS = 1.0
  multihost.initialize()
  preemption.watch()
  problems = str(folder / 'dval')
  waiting = dval_waiting.Waiting(folder / 'checkpoints', [problems],
                                 lambda words: None)
  validation = None
  if multihost.is_writer():
    validation = dval_grading.Graders([manifests.load(problems)]).write(
      storage.path(folder / 'validation/lr_1/step_0'),
      [sample_folders.table([('a', 0, 'The answer is 7.')])])
  multihost.from_writer(lambda: None)
  print('started', flush=True)
  tables = waiting.wait(validation)
  print(multihost.from_writer(
    lambda: dval_grading.reward(validation, tables)), flush=True)

main.run = lambda arguments: run() or 0
main.main([])
"""


def started(root, folder, what):
  sample_folders.problems(folder / 'dval', {'a': '7'})
  limit = {'REST_JAX_PROCESS_TIMEOUT_SECONDS': str(LIMIT)}
  found = start(root, SCRIPT, folder, what, count=2, **limit)
  for process in found:
    for line in process.stdout:
      if line == 'started\n':
        break
  return found


def ends(found):
  """(exit code, the last line of what it said) of each."""
  said = [process.communicate(timeout=120) for process in found]
  return [
    (process.returncode, (out + error).strip().splitlines()[-1])
    for process, (out, error) in zip(found, said, strict=True)
  ]


def test_both_wait_longer_than_for_each_other_and_get_the_reward(
  root, tmp_path, monkeypatch
):
  folder = tmp_path / 'run'
  found = started(root, folder, 'graded')
  time.sleep(1.5 * LIMIT)
  assert all(process.poll() is None for process in found)
  monkeypatch.setattr(preemption, 'watch', lambda: None)  # in a thread
  stage = threading.Thread(
    target=grade_dval.grade_dval,
    kwargs={
      'checkpoints_dir': os.fspath(folder / 'checkpoints'),
      'dval_dirs': [os.fspath(folder / 'dval')],
    },
  )
  stage.start()
  assert [end[:2] for end in ends(found)] == [(0, '1.0')] * 2
  finished_stages.finish(folder / 'checkpoints', 'train')
  stage.join(timeout=60)
  assert not stage.is_alive()
  assert dval_requests.Place(folder / 'checkpoints').asked() is None


@pytest.mark.parametrize(
  ('what', 'code', 'says'),
  [('SIGTERM', 42, 'stopped by SIGTERM'), ('nobody', 2, 'no sign of life')],
)
def test_both_end_as_one_of_them_does(root, tmp_path, what, code, says):
  found = started(root, tmp_path / 'run', what)
  if what == 'SIGTERM':
    found[1].send_signal(signal.SIGTERM)
  for end in ends(found):
    assert end[0] == code and says in end[1], end
