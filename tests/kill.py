"""Kills a run again and again, and looks whether that changed anything.

    python tests/kill.py [--kills=20] [--seed=0] [--dir=/tmp/kill] [--keep]
                         [flags of launch/rest_em.py, instead of TINY's]

Runs a tiny ReST^EM undisturbed, twice: the first fills the compilation cache,
the second must give the same and tells how long each job takes. Then run after
run is disturbed, until each stage was hit KILLS times: SIGKILL at a random
moment, to the stage's process or to the launcher (whose stage must die with
it); after that the same command is given again. Parts, manifests, checkpoints
and locks are so interrupted in the middle of being written. In the end of each
run report/results.json, every part (without the column `seconds`) and every
manifest's digest and statistics must equal those of the undisturbed run.
Outside the test suite: about 2 minutes a run, 10 runs for 20 kills.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VICTIMS = ('stage', 'launcher')
RETRIES = 2  # of a job within one launch: after more deaths it gives up
HITS_PER_RUN = 3  # at least, of each stage
TINY = """
  --gin_file=runs/arithmetic.gin --gin.NUM_ITERATIONS=1 --gin.SFT_BASELINE=True
  --gin.CORPUS_DOCUMENTS=800 --gin.NUM_TRAIN=24 --gin.NUM_DVAL=16
  --gin.NUM_TEST=20 --gin.NUM_HARD=10 --gin.STEPS=[1,2]
  --gin.STEP_WEIGHTS=[1.0,1.0] --gin.MAX_START=12 --gin.MAX_OPERAND=6
  --gin.MAX_FACTOR=3 --gin.MAX_VALUE=20 --gin.NUM_SHOTS=1
  --gin.NUM_SAMPLES=16 --gin.TEMPERATURE=1.0 --gin.EVAL_SAMPLES=2
  --gin.DIFFICULTY_SAMPLES=2 --gin.MAX_DECODE_LENGTH=48
  --gin.PROBLEMS_PER_PART=5 --gin.PRETRAIN_STEPS=100 --gin.PRETRAIN_BATCH_ROWS=8
  --gin.MAX_STEPS=6 --gin.DVAL_EVERY=3 --gin.DVAL_PROBLEMS=8 --gin.BATCH_ROWS=4
  --gin.SAVE_EVERY=10 --gin.BOOTSTRAP_RESAMPLES=100 --gin.MICROBATCHES=1
  --gin.PRETRAIN_MICROBATCHES=1
""".split()


class Launch:
  """One process of the launcher, and a view of the job that it runs."""

  def __init__(self, run_dir: pathlib.Path, flags: list[str]):
    command = [
      sys.executable,
      str(ROOT / 'launch' / 'rest_em.py'),
      f'--gin.RUN_DIR={run_dir}',
      *flags,
    ]
    self.log = open(f'{run_dir}.log', 'ab')
    environment = {'JAX_PLATFORMS': 'cpu'} | dict(os.environ)
    # Compiled programs are no part of the question, and most of the time.
    environment['JAX_COMPILATION_CACHE_DIR'] = str(run_dir.parent / 'cache')
    self.process = subprocess.Popen(
      command, stdout=self.log, stderr=subprocess.STDOUT, env=environment
    )

  def running(self) -> tuple[str, int] | None:
    """(name, process id) of the job that runs now."""
    pid = self.process.pid
    try:
      children = pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text()
      for child in children.split():
        variables = pathlib.Path(f'/proc/{child}/environ').read_bytes()
        for variable in variables.split(b'\0'):
          if variable.startswith(b'REST_JAX_JOB='):
            return variable.partition(b'=')[2].decode(), int(child)
    except OSError:
      pass  # it ended while we looked
    return None


def content(run_dir: pathlib.Path) -> dict[str, object]:
  """Everything that must not depend on interruptions."""
  found = {}
  for path in sorted(run_dir.rglob('manifest.json')):
    name = str(path.relative_to(run_dir).parent)
    if '.superseded-' in name:
      found[f'{name}: an output was set aside'] = True
      continue
    if name.startswith('compilation_cache') or 'validation/' in name:
      continue
    value = json.loads(path.read_text())
    if not {'stage', 'digest', 'parts'} <= set(value):
      continue  # Orbax has manifests too
    parts = [(part['name'], part['content']) for part in value['parts']]
    found[name] = [value['digest'], parts, value['statistics']]
  results = run_dir / 'report' / 'results.json'
  found['results.json'] = results.read_text() if results.exists() else None
  return found


def gone(pid: int, seconds: float = 3.0) -> bool:
  deadline = time.monotonic() + seconds
  while time.monotonic() < deadline:
    try:
      stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except OSError:
      return True
    if stat.rpartition(')')[2].split()[0] == 'Z':
      return True
    time.sleep(0.01)
  return False


def aims(stages, table, rng, kills: int) -> collections.Counter:
  """How often each job is to be hit in the next run: some of every stage."""
  chosen = collections.Counter()
  for stage in sorted(set(stages.values())):
    jobs = sorted(job for job in stages if stages[job] == stage)
    done = sum(table[stage][victim] for victim in VICTIMS)
    hits = min(kills - done, max(len(jobs), HITS_PER_RUN))
    chosen.update(rng.choices(jobs, k=max(hits, 0)))
  return chosen


def disturbed(run_dir, flags, seconds, stages, aimed, rng, table) -> list[str]:
  """One run in which jobs are hit; returns what went wrong."""
  wrong = []
  while True:
    launch = Launch(run_dir, flags)
    killed, stages_killed = False, 0
    while launch.process.poll() is None and not killed:
      now = launch.running()
      if now is None or not aimed[now[0]]:
        time.sleep(0.005)
        continue
      job = now[0]
      aimed[job] -= 1
      time.sleep(rng.uniform(0, seconds[job]))
      if launch.running() != now:
        table[stages[job]]['too late'] += 1
        continue
      victim = rng.choice(VICTIMS)
      pid = now[1] if victim == 'stage' else launch.process.pid
      os.kill(pid, signal.SIGKILL)
      table[stages[job]][victim] += 1
      stages_killed += victim == 'stage'
      if victim == 'launcher':
        killed = True
        launch.process.wait()
      if not gone(now[1]):
        wrong.append(f'{job}: outlived the kill of the {victim}')
    launch.process.wait()
    launch.log.close()
    if not killed and stages_killed <= RETRIES:
      code = launch.process.returncode
      return wrong + ([f'the launcher ended with {code}'] if code else [])


def undisturbed(base, flags) -> tuple[dict, dict, dict]:
  """(content, seconds and stage of each job) of a run left alone."""
  contents = []
  for name in ('first', 'second'):
    calm = base / name
    started = time.monotonic()
    if Launch(calm, flags).process.wait() != 0:
      sys.exit(f'the undisturbed run fails: see {calm}.log')
    contents.append(content(calm))
    print(f'undisturbed: {time.monotonic() - started:.0f} s', flush=True)
  for key in contents[0]:
    if contents[0][key] != contents[1].get(key):
      sys.exit(f'two undisturbed runs differ: {key}')
  jobs = [json.loads(p.read_text()) for p in (calm / 'jobs').rglob('*.json')]
  seconds = {job['name']: job['seconds'] for job in jobs}
  return contents[1], seconds, {job['name']: job['stage'] for job in jobs}


def main() -> int:
  """Runs all; returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--kills', type=int, default=20, help='of each stage')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--dir', default='/tmp/kill')
  parser.add_argument('--keep', action='store_true', help='keep good runs too')
  arguments, flags = parser.parse_known_args()
  flags = flags or TINY
  base = pathlib.Path(arguments.dir)
  shutil.rmtree(base, ignore_errors=True)
  base.mkdir(parents=True)
  expected, seconds, stages = undisturbed(base, flags)
  table = collections.defaultdict(collections.Counter)
  failures = number = 0
  while True:
    rng = random.Random(f'{arguments.seed}/{number}')
    aimed = aims(stages, table, rng, arguments.kills)
    if not aimed.total():
      break
    run_dir = base / f'run-{number:02d}'
    started = time.monotonic()
    wrong = disturbed(run_dir, flags, seconds, stages, aimed, rng, table)
    found = content(run_dir)
    wrong += [
      f'{name} differs'
      for name in sorted({*expected, *found})
      if expected.get(name) != found.get(name)
    ]
    failures += bool(wrong)
    state = '; '.join(wrong) if wrong else 'equal'
    elapsed = time.monotonic() - started
    print(f'run {number}: {elapsed:.0f} s, {state}', flush=True)
    if not wrong and not arguments.keep:
      shutil.rmtree(run_dir)
    number += 1
  columns = (*VICTIMS, 'too late')
  print(f'\n{"stage":12}' + ''.join(f'{name:>12}' for name in columns))
  for stage in sorted(table):
    numbers = (table[stage][name] for name in columns)
    print(f'{stage:12}' + ''.join(f'{n:>12}' for n in numbers))
  total = sum(row[victim] for row in table.values() for victim in VICTIMS)
  print(f'\n{total} kills, {failures} of {number} runs differ')
  return 1 if failures else 0


if __name__ == '__main__':
  sys.exit(main())
