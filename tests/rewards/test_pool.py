"""Worker processes against graders that misbehave."""

import dataclasses
import os
import shlex
import subprocess
import sys
import time

import pytest

from rest_jax.config import configuration
from rest_jax.rewards import pool, registry, verdicts

_HOSTILE = """
import os, pathlib, signal, sys, time
from rest_jax.rewards.text import exact

def grade(completion, reference, *, finish_reason=None):
  print('a grader that talks')
  os.write(1, b'{"outcome": "correct"}\\n')
  command, _, rest = completion.partition('|')
  if command == 'hang':
    time.sleep(600)
  if command == 'raise':
    return 1 / 0
  if command == 'none':
    return None
  if command == 'kill':
    os.kill(os.getpid(), signal.SIGKILL)
  if command == 'exit':
    os._exit(0)
  if command == 'read':
    sys.stdin.read()
  if command == 'once' and not os.path.exists(rest):
    pathlib.Path(rest).touch()
    os.kill(os.getpid(), signal.SIGKILL)
  if command == 'note':
    with open(rest, 'a') as file:
      file.write('graded\\n')
  if command == 'pid':
    return exact.Verdict(outcome='wrong', reward=0.0, answer=str(os.getpid()))
  if command == 'jax':
    answer = str('jax' in sys.modules or 'tensorflow' in sys.modules)
    return exact.Verdict(outcome='wrong', reward=0.0, answer=answer)
  return exact.grade_number(completion, reference)
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
  (tmp_path / 'hostile_grader.py').write_text(_HOSTILE)
  monkeypatch.syspath_prepend(tmp_path)
  return registry.Grader(
    name='hostile', version=1, path='hostile_grader:grade', bounded=False
  )


def items(*texts):
  return [pool.Item(completion=text, reference='1') for text in texts]


def outcomes(graded):
  return [one.verdict.outcome for one in graded]


@pytest.mark.parametrize('num_workers', [1, 3])
def test_results_keep_the_order_whatever_becomes_of_the_workers(
  hostile, num_workers, tmp_path
):
  texts = [f'#### {i}' for i in range(150)]
  texts[20] = 'kill|'
  texts[70] = 'hang|'
  texts[71] = 'exit|'
  texts[149] = f'once|{tmp_path / "died"}'
  with pool.Pool(hostile, num_workers=num_workers, item_seconds=1.0) as workers:
    graded = workers.grade(items(*texts))
  found = outcomes(graded)
  assert found[20] == verdicts.HARNESS_ERROR
  assert 'signal 9' in graded[20].verdict.detail
  assert found[70] == verdicts.TIMEOUT
  assert found[71] == verdicts.HARNESS_ERROR
  assert 'exit code 0' in graded[71].verdict.detail
  # Died of no fault of its own: its second attempt counts.
  assert found[149] == verdicts.NO_ANSWER
  for i in set(range(149)) - {20, 70, 71}:
    assert graded[i].verdict.answer == str(i)
    assert (found[i] == verdicts.CORRECT) == (i == 1)


def test_equal_completions_are_graded_once_and_share_the_verdict(
  hostile, tmp_path
):
  notes = tmp_path / 'notes'
  texts = [f'note|{notes}', '#### 1', f'note|{notes}', '#### 1', '#### 2']
  other = pool.Item(completion=texts[0], reference='2')
  with pool.Pool(hostile, num_workers=2) as workers:
    graded = workers.grade([*items(*texts), other])
  assert notes.read_text() == 2 * 'graded\n'  # once for each problem
  assert graded[0].verdict == graded[2].verdict
  assert outcomes(graded)[1] == outcomes(graded)[3] == verdicts.CORRECT
  assert graded[0].seconds > 0 == graded[2].seconds == graded[3].seconds


def test_a_grader_that_is_not_bounded_never_runs_in_this_process(hostile):
  with pool.Pool(hostile, num_workers=1) as workers:
    graded = workers.grade(items('pid|', 'pid|', 'jax|', 'read|'))
  pids = {graded[0].verdict.answer, graded[1].verdict.answer}
  assert len(pids) == 1 and str(os.getpid()) not in pids
  assert graded[2].verdict.answer == 'False'  # workers import neither
  assert graded[3].verdict.outcome == verdicts.NO_ANSWER  # stdin is empty


def test_workers_stay_between_lists_and_end_with_the_pool(hostile):
  with pool.Pool(hostile, num_workers=1) as workers:
    [first] = workers.grade(items('pid|'))
    [second] = workers.grade(items('pid|'))
    pid = int(first.verdict.answer)
    assert second.verdict.answer == str(pid)
    os.kill(pid, 0)
  with pytest.raises(ProcessLookupError):
    os.kill(pid, 0)


def test_a_bounded_grader_gives_the_same_with_any_number_of_workers():
  texts = items(*(f'#### {i % 3}' for i in range(100)))
  number = registry.get('number')
  alone = pool.Pool(number, num_workers=1).grade(texts)
  many = pool.Pool(number, num_workers=0).grade(texts)
  assert [one.verdict for one in alone] == [one.verdict for one in many]
  assert outcomes(alone).count(verdicts.CORRECT) == 33


def test_workers_that_cannot_start_are_an_error_not_a_verdict(monkeypatch):
  missing = registry.Grader(
    name='missing', version=1, path='no_such_module:grade', bounded=False
  )
  start = time.monotonic()
  with pool.Pool(missing, num_workers=2) as workers:
    with pytest.raises(RuntimeError, match='no_such_module'):
      workers.grade(items('a', 'b', 'c'))
  assert time.monotonic() - start < 60


def test_a_negative_number_of_workers_is_refused():
  with pytest.raises(configuration.ConfigurationError, match='num_workers'):
    pool.Pool(registry.get('number'), num_workers=-1)


@pytest.mark.skipif(sys.platform != 'linux', reason='PR_SET_PDEATHSIG')
def test_a_hanging_worker_dies_with_its_parent(hostile, tmp_path):
  program = tmp_path / 'parent.py'
  program.write_text(
    'import os, sys\n'
    'from rest_jax.rewards import pool, registry\n'
    'grader = registry.Grader(name="h", version=1, bounded=False,\n'
    '  path="hostile_grader:grade")\n'
    'workers = pool.Pool(grader, num_workers=1)\n'
    'item = lambda text: pool.Item(completion=text, reference="1")\n'
    'print(workers.grade([item("pid|")])[0].verdict.answer, flush=True)\n'
    'workers.grade([item("hang|")])\n'
  )
  environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
  parent = subprocess.Popen(
    [sys.executable, program], stdout=subprocess.PIPE, env=environment
  )
  pid = int(parent.stdout.readline())
  time.sleep(0.2)
  parent.kill()
  parent.wait()
  parent.stdout.close()
  deadline = time.monotonic() + 20
  while os.path.exists(f'/proc/{pid}'):
    with open(f'/proc/{pid}/stat') as file:
      if file.read().rpartition(')')[2].split()[0] == 'Z':
        break  # dead, and nobody has asked for its exit code
    assert time.monotonic() < deadline, 'the worker outlived its parent'
    time.sleep(0.05)


@pytest.mark.parametrize('text', ['raise|', 'none|'])
def test_a_grader_of_ones_own_that_raises_stops_with_its_traceback(
  hostile, text
):
  given = [*items('#### 1'), *items(text), *items('#### 1')]
  given[1] = dataclasses.replace(given[1], name='sample 3 of t/train/a')
  with pool.Pool(hostile, num_workers=2) as workers:
    with pytest.raises(registry.GraderError) as caught:
      workers.grade(given)
    said = str(caught.value)
    # A pool that has stopped can be used again.
    assert outcomes(workers.grade(items('#### 1'))) == [verdicts.CORRECT]
  assert 'sample 3 of t/train/a' in said
  if text == 'raise|':
    assert 'hostile_grader.py", line' in said and 'ZeroDivisionError' in said
  else:
    assert 'no Verdict' in said
  # The command that the error names shows the same error.
  command = shlex.split(said.rpartition('Reproduce it: ')[2])
  done = subprocess.run(
    [sys.executable, *command[1:]],
    capture_output=True,
    text=True,
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
  )
  assert 'ZeroDivisionError' in done.stderr or 'None' in done.stdout


def test_the_watch_counts_what_is_graded(hostile):
  seen = []
  with pool.Pool(hostile, num_workers=2) as workers:
    workers.grade(items(*(f'#### {i}' for i in range(70))), seen.append)
  assert seen == sorted(seen) and seen[-1] == 70
  pool.Pool(registry.get('number')).grade(items(*'ab' * 40), seen.append)
  assert seen[-1] == 64
