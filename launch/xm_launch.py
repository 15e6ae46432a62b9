"""Runs the plan of ReST^EM as an experiment of XManager.

    python3 -m venv .xm && .xm/bin/pip install -r launch/xm-requirements.txt
    .xm/bin/xmanager launch launch/xm_launch.py -- \
      --xm_gin_file=runs/arithmetic.gin --xm_gin_bindings=RUN_DIR=runs/xm

Each job of the plan, E-step and M-step among them, is a work unit; those whose
needs are met run beside each other. XManager runs on this machine (xm_local).
The command `rest-jax run` of another environment (--xm_python), since
XManager's pins and JAX's do not agree, decides what runs when and how often, as
always; it asks for a work unit by a line on a pipe, and tells the unit's
process what to run. With --xm_executor=gke or tpu_vm that is our JobSet or
queued resource: XManager's own executors know TPUs up to v3.

--xm_jobs_at_a_time=N  with --xm_executor=local: jobs that share this machine's
                       cores, memory and accelerators; 1 if not set
--xm_until=JOB         ends the experiment with a job

A job that fails ends the experiment; the same command goes on from there.
"""

import asyncio
import json
import os
import pathlib
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags
from xmanager import xm, xm_local

ROOT = pathlib.Path(__file__).resolve().parent.parent
_FILES = flags.DEFINE_multi_string('xm_gin_file', [], 'gin files of the run')
_BINDINGS = flags.DEFINE_multi_string(
  'xm_gin_bindings', [], 'NAME=VALUE, for each dial'
)
_PYTHON = flags.DEFINE_string(
  'xm_python',
  str(ROOT / '.venv' / 'bin' / 'python'),
  'the Python of an environment with rest_jax',
)
_EXECUTOR = flags.DEFINE_enum(
  'xm_executor', 'local', ['local', 'gke', 'tpu_vm'], 'what runs each job'
)
_AT_A_TIME = flags.DEFINE_integer(
  'xm_jobs_at_a_time',
  None,
  'jobs beside each other; not set: as many as the executor takes',
  lower_bound=1,
)
_UNTIL = flags.DEFINE_string('xm_until', None, 'the last job')
_TITLE = flags.DEFINE_string('xm_title', 'rest_em', 'of the experiment')


def launcher() -> list[str]:
  """The command that launches the run."""
  return [
    *(_PYTHON.value, '-m', 'rest_jax.main', 'run'),
    f'--executor={_EXECUTOR.value}',
    *(f'--gin_file={name}' for name in _FILES.value),
    *(f'--gin.{binding}' for binding in _BINDINGS.value),
    *([f'--until={_UNTIL.value}'] if _UNTIL.value else []),
  ]


def requirements(job: dict[str, Any]) -> xm.JobRequirements:
  """What a job runs on, as far as XManager has a name for it."""
  if not job['topology']:
    return xm.JobRequirements()
  generation, _, shape = job['topology'].partition(':')
  known = getattr(xm.ResourceType, f'TPU_{generation.upper()}', None)
  if known is None:
    return xm.JobRequirements()
  return xm.JobRequirements(
    resources={known: xm.Topology(shape)}, replicas=job['slices']
  )


async def start() -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
  """The launcher, and what it asks for: a JSON object a line."""
  ours, theirs = os.pipe()
  # See rest_jax/executors/work_units/work_units.py.
  variables = {'REST_JAX_WORK_UNITS': str(theirs)}
  if _AT_A_TIME.value:
    variables['REST_JAX_JOBS_AT_A_TIME'] = str(_AT_A_TIME.value)
  process = await asyncio.create_subprocess_exec(
    *launcher(), pass_fds=[theirs], env=os.environ | variables
  )
  os.close(theirs)
  reader = asyncio.StreamReader()
  await asyncio.get_running_loop().connect_read_pipe(
    lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours)
  )
  return process, reader


async def run() -> int:
  """Runs the experiment to its end; returns the launcher's exit code."""
  process, asked = await start()
  code = None
  try:
    async with xm_local.create_experiment(
      experiment_title=_TITLE.value
    ) as experiment:
      [python] = experiment.package(
        [xm.binary(executor_spec=xm_local.Local.Spec(), path=_PYTHON.value)]
      )
      async for line in asked:
        job = json.loads(line)
        unit = await experiment.add(
          xm.Job(
            executable=python,
            executor=xm_local.Local(requirements=requirements(job)),
            name=re.sub(r'\W+', '_', job['name']),
            args=job['arguments'],
          )
        )
        print(f'work unit {unit.work_unit_id}: {job["name"]}', flush=True)
      code = await process.wait()
  except RuntimeError:  # XManager's, of a work unit that has failed
    if not code:
      raise
  finally:
    if code is None:
      process.terminate()
      await process.wait()
  print(f'experiment {experiment.experiment_id}: exit code {code}', flush=True)
  return code


def main(argv: Sequence[str]) -> None:
  """Called by xmanager launch."""
  if argv[1:]:
    raise app.UsageError(f'unknown: {" ".join(argv[1:])}')
  # The launcher has it too, and ends its jobs, or leaves them, as it is told.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  sys.exit(xm.run_in_asyncio_loop(run)())


if __name__ == '__main__':
  app.run(main)
