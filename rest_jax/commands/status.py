"""What a run is doing, from any machine that sees RUN_DIR.

    rest-jax status RUN_DIR

A line for each job of the plan, with how long it took and what its folder holds
by now:

    done, failed, to do
    running     under a launcher, or on a cluster or TPU VMs without one
    waiting     there, for nodes or capacity
    ending      there, saving its state
    ended       there, and no launcher has recorded how
    stopped     it had begun, and is nowhere now
    unknown     it had begun, and the cluster cannot be asked from here

The last lines say whether a launcher watches over the run, and what its newest
log said.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import get_args

from rest_jax.artifacts import leases, storage
from rest_jax.config import configuration
from rest_jax.executors import launch_record, left_jobs
from rest_jax.executors.console import clock
from rest_jax.executors.launch_record import LaunchRecord
from rest_jax.reporting import run_progress


def run(arguments: Sequence[str]) -> int:
  """Prints the state of a run; returns the exit code.

  Args:
    arguments: the command line behind `status`.
  """
  print(*lines(run_dir_of('status', __doc__, arguments)), sep='\n')
  return 0


def run_dir_of(name: str, about: str, arguments: Sequence[str]) -> str:
  """The RUN_DIR that is a command's one argument.

  Args:
    name: of the command.
    about: it, for --help.
    arguments: the command line behind its name.
  """
  parser = argparse.ArgumentParser(
    prog=f'rest-jax {name}',
    description=about,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('run_dir', metavar='RUN_DIR')
  return parser.parse_args(arguments).run_dir.rstrip('/')


def lines(run_dir: str) -> Iterator[str]:
  """The lines that `rest-jax status` prints.

  Raises:
    ConfigurationError: no run was launched there.
  """
  launched = required(run_dir)
  launcher = watcher(run_dir)
  left, silent = ({}, '') if launcher else _left(run_dir, launched)
  begun = 'running' if launcher else 'unknown' if silent else 'stopped'
  found = run_progress.progress(run_dir)
  folders = {one.folder: one for one in found.unfinished}
  width = max(map(len, launched.jobs), default=0)
  for name in launched.jobs:
    record = _record(run_dir, name)
    state, seconds = _state(record, left.get(name), begun)
    text = ''
    if state not in ('done', 'to do'):
      text = ', '.join(
        f'{one.done}/{one.total or "?"} {one.unit}'
        for folder, one in folders.items()
        if _writes(name, one.stage, folder)
      )
    time = '' if seconds is None else clock(seconds)
    yield f'{state:8}{name:{width}}  {time:>8}  {text}'.rstrip()
  where = f'executor {launched.executor}'
  if launcher:
    yield f'\n{launcher} watches over it; {where}'
  elif found.reported:
    yield f'\nfinished; {where}'
  else:
    yield f'\nno launcher watches over it; {where}'
    yield from [silent] if silent else []
    yield 'the same command again goes on from here'
  if found.log:
    yield f'newest log: {run_dir}/logs/{found.log}.log, {found.written}'
    yield from (f'  {line}' for line in found.lines)


def required(run_dir: str) -> LaunchRecord:
  """The last launch of a run.

  Raises:
    ConfigurationError: there is none.
  """
  found = launch_record.read(run_dir)
  if found is None:
    raise configuration.ConfigurationError(
      f'{run_dir}: no run was launched there'
      + (
        ', or by an earlier version, which left no ledger/launch.json'
        if storage.path(run_dir).exists()
        else '; there is no such folder'
      )
      + '.'
    )
  return found


def watcher(run_dir: str) -> str | None:
  """The launcher that holds a run, in words; None where none does."""
  return leases.holder_of(run_dir)


def _record(run_dir: str, name: str) -> dict | None:
  source = storage.path(run_dir) / 'jobs' / f'{name}.json'
  return storage.read_json(source) if source.exists() else None


def _left(run_dir: str, launched: LaunchRecord) -> tuple[dict[str, str], str]:
  """(job to the state of what is left of it, why that is not known)."""
  try:
    found = left_jobs.find(run_dir, launched)
  except (configuration.ConfigurationError, left_jobs.UnknownError) as error:
    return {}, str(error)
  best = {}
  for one in found:  # of several workers, or attempts, the liveliest
    best[one.job] = min(one.state, best.get(one.job, one.state), key=_LIVELY)
  return best, ''


_LIVELY = get_args(left_jobs.State).index


def _state(
  record: dict | None, left: str | None, begun: str
) -> tuple[str, float | None]:
  """(state, seconds that it took so far) of a job.

  Args:
    record: of the job.
    left: the state of what a launcher that died has left of it, if anything.
    begun: the state of a job that has begun and left nothing.
  """
  if record is None:
    return 'to do', None
  code = record.get('exit_code')
  if code == 0:
    return 'done', record.get('seconds')
  if code is None or left not in (None, 'ended'):
    return left or begun, record.get('seconds')
  return ('stopped' if code == 42 else 'failed'), record.get('seconds')


def _writes(job: str, stage: str, folder: str) -> bool:
  """Whether a folder is one that a job writes, by their names."""
  model, _, name = job.rpartition('/')
  evaluates = '/evaluation/' in f'/{folder}/'
  return (
    name.split('_')[0] == stage
    and folder.startswith(model)
    and name.endswith('_eval') == (evaluates and stage in ('sample', 'score'))
  )
