"""Kills the workers of one folder of samples, again and again, with SIGKILL.

    python tests/kill_workers.py [--kills=50] [--workers=3] [--seed=0]
                                 [--dir=/tmp/kill_workers]

A tiny policy (tiny_run.py) is sampled by one undisturbed process, then by
several workers, one of which is killed at a random moment, and another, and
started again under the same index, until all are done; and that again into
another folder until KILLS were killed. Every file of each folder must be that
of the undisturbed one, byte for byte. Outside the test suite: some 4 s a kill.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

PROBLEMS = 800


def work(folder: pathlib.Path, index: int, number: int) -> None:
  """One worker: samples the tiny policy into a folder."""
  import dataclasses

  import tiny_run

  from rest_jax import sample
  from rest_jax.distributed import partitioning
  from rest_jax.models.checkpoints import policies
  from rest_jax.tokenizers import vocabulary_checks

  # A policy of this program's own, the same in every process.
  params = tiny_run.fresh(tiny_run.MODEL, seed=0)
  policies.digest = lambda source: f'of {source}'
  policies.iteration = lambda source: 1
  policies.load = lambda *_, **__: params
  vocabulary_checks.require_of_checkpoint = lambda *_: None
  sample.sample(
    problems_dirs=[os.fspath(folder.parent / 'problems')],
    samples_dirs=[os.fspath(folder)],
    stream_names=['e_step'],
    policy_dir='base',
    streams=[dataclasses.replace(tiny_run.STREAM, num_samples=16)],
    iteration=1,
    model=tiny_run.MODEL,
    engine=tiny_run.ENGINE,
    mesh=partitioning.MeshConfig(),
    worker_index=index,
    num_workers=number,
  )


def start(folder: pathlib.Path, index: int, number: int) -> subprocess.Popen:
  """Starts a worker; its output goes into a log beside the folder."""
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': os.fspath(folder.parent / 'cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  command = [sys.executable, __file__, f'--dir={folder}']
  command += [f'--index={index}', f'--workers={number}']
  with open(f'{folder}-{index}.log', 'ab') as log:
    return subprocess.Popen(
      command, stdout=log, stderr=subprocess.STDOUT, env=environment
    )


def content(folder: pathlib.Path) -> dict[str, bytes]:
  """The files of a folder, but for the manifest, which holds times."""
  return {
    path.name: path.read_bytes()
    for path in sorted(folder.iterdir())
    if path.name != 'manifest.json'
  }


def disturbed(
  folder: pathlib.Path, number: int, kills: int, chance: random.Random
) -> int:
  """Fills a folder with workers that are killed; returns how many were."""
  running = [start(folder, index, number) for index in range(number)]
  killed = 0
  while not (folder / 'manifest.json').exists():
    # Most moments lie after the start, which takes seconds.
    time.sleep(chance.uniform(0.2, 6.0))
    index = chance.randrange(number)
    if killed < kills and running[index].poll() is None:
      running[index].kill()
      running[index].wait()
      killed += 1
    for i, process in enumerate(running):
      if process.poll() not in (None, 0):
        running[i] = start(folder, i, number)
  codes = [process.wait() for process in running]
  if any(codes):
    sys.exit(f'{folder}: the workers ended with {codes}; see their logs')
  return killed


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--workers', type=int, default=3)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--dir', type=pathlib.Path, default='/tmp/kill_workers')
  parser.add_argument('--index', type=int, help=argparse.SUPPRESS)
  flags = parser.parse_args()
  if flags.index is not None:
    work(flags.dir, flags.index, flags.workers)
    return
  import tiny_run

  shutil.rmtree(flags.dir, ignore_errors=True)
  flags.dir.mkdir(parents=True)
  questions = {str(i): f'Q{i}:' + 'x' * (i % 3) for i in range(PROBLEMS)}
  tiny_run.problems(flags.dir / 'problems', questions)
  if start(flags.dir / 'straight', 0, 1).wait():
    sys.exit('the undisturbed run failed')
  wanted = content(flags.dir / 'straight')
  chance, killed, run = random.Random(flags.seed), 0, 0
  while killed < flags.kills:
    folder = flags.dir / f'run_{run}'
    killed += disturbed(folder, flags.workers, flags.kills - killed, chance)
    same = content(folder) == wanted
    print(
      f'{folder}: {killed} killed so far; '
      f'{len(wanted)} files {"the same" if same else "NOT the same"}',
      flush=True,
    )
    if not same:
      sys.exit(1)
    run += 1


if __name__ == '__main__':
  main()
