"""Processes that tests start, several of one job, and waiting for them."""

import os
import socket
import subprocess
import sys
import time

import xla_flags


def start(root, script, folder, what, *, count=1, devices=2, **variables):
  """Starts processes that join each other.

  Args:
    root: the repository.
    script: of Python; it is called with `what`, the folder, the repository and
      its tests.
    folder: theirs.
    what: the script's first argument.
    count: of processes.
    devices: in all; each process has one at least.
    **variables: of their environment.
  """
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  folder.mkdir(exist_ok=True)
  started = []
  for index in range(count):
    environment = (
      os.environ
      | variables
      | {
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': xla_flags.simulated(max(1, devices // count)),
      }
    )
    if count > 1:
      environment |= {
        'JAX_COORDINATOR_ADDRESS': f'localhost:{port}',
        'JAX_NUM_PROCESSES': str(count),
        'JAX_PROCESS_ID': str(index),
      }
    started.append(
      subprocess.Popen(
        [
          *(sys.executable, '-c', script, what, os.fspath(folder)),
          *(os.fspath(root), os.fspath(root / 'tests')),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  return started


def wait(started, code=0):
  """(standard output, errors) of each; all must end with this exit code."""
  try:
    outputs = [process.communicate(timeout=500) for process in started]
  finally:
    for process in started:
      process.kill()
  codes = [process.returncode for process in started]
  assert codes == [code] * len(codes), '\n'.join(o[1][-3000:] for o in outputs)
  return outputs


def until(test):
  """Waits until something is so; fails after a minute."""
  deadline = time.monotonic() + 60
  while not test():
    assert time.monotonic() < deadline
    time.sleep(0.02)
