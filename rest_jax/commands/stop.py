"""Stops a run from any machine that sees RUN_DIR; nothing is lost.

    rest-jax stop RUN_DIR

The launcher is asked to stop: its jobs save their state and end, as after
Ctrl-C. Where no launcher watches over the run any more, jobs that still run on
a cluster, and TPU VMs that are still there, are found by the run's name and
ended. The command that was launched goes on from there whenever it is given
again.
"""

import time
from collections.abc import Sequence

from rest_jax.commands import status
from rest_jax.executors import exit_codes, launch_record, left_jobs

WAIT_SECONDS = 600.0  # for jobs that save their state
_POLL_SECONDS = 1.0


def run(arguments: Sequence[str]) -> int:
  """Stops a run; returns the exit code.

  Args:
    arguments: the command line behind `stop`.

  Raises:
    ConfigurationError: no run was launched there.
  """
  run_dir = status.run_dir_of('stop', __doc__, arguments)
  launched = status.required(run_dir)
  launcher = status.watcher(run_dir)
  if launcher is None:
    return _end_leftovers(run_dir, launched)
  launch_record.ask_to_stop(run_dir)
  print(f'{launcher} is asked to stop', flush=True)
  end = time.monotonic() + WAIT_SECONDS
  while status.watcher(run_dir) is not None:
    if time.monotonic() > end:
      print(f'it has not ended within {WAIT_SECONDS:.0f} s')
      return exit_codes.UNKNOWN
    time.sleep(_POLL_SECONDS)
  print('stopped; the same command again goes on from here')
  return exit_codes.DONE


def _end_leftovers(run_dir: str, launched: launch_record.LaunchRecord) -> int:
  """Ends what a launcher that died has left on a cluster."""
  if launched.executor == 'local':
    print('no launcher watches over it: nothing runs')
    return exit_codes.DONE
  try:
    left = [one for one in left_jobs.find(run_dir, launched) if one.lasts]
  except left_jobs.UnknownError as error:
    print(f'nothing was ended: {error}')
    return exit_codes.UNKNOWN
  for one in left:
    print(f'ending {one.job} ({one.name}, {one.state})', flush=True)
    one.end()
  print(f'no launcher watches over it; {len(left)} of its jobs were ended')
  return exit_codes.DONE
