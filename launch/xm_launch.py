"""Runs the plan of ReST^EM as an experiment of XManager.

    python3 -m venv .xm && .xm/bin/pip install -r launch/xm-requirements.txt
    .xm/bin/xmanager launch launch/xm_launch.py -- \
      --xm_gin_file=runs/arithmetic.gin --xm_gin_bindings=RUN_DIR=runs/xm

Each job of the plan, E-step and M-step among them, is a work unit, which starts
when the one before it is complete. XManager runs on this machine (xm_local) and
starts the command `rest-jax run … --until=JOB` of another environment
(--xm_python), since XManager's pins and JAX's do not agree. That command does
what it always does: it resumes, retries, writes RUN_DIR. With
--xm_executor=gke or tpu_vm the job itself runs there, as our JobSet or queued
resource: XManager's own executors know TPUs up to v3.

--xm_until=JOB ends the experiment with a job. A work unit that fails ends it
too; the same command goes on from there.
"""

import json
import pathlib
import re
import subprocess
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
_UNTIL = flags.DEFINE_string('xm_until', None, 'the last job')
_TITLE = flags.DEFINE_string('xm_title', 'rest_em', 'of the experiment')


def launcher() -> list[str]:
  """The arguments of Python that launch the run."""
  return [
    *('-m', 'rest_jax.main', 'run', f'--executor={_EXECUTOR.value}'),
    *(f'--gin_file={name}' for name in _FILES.value),
    *(f'--gin.{binding}' for binding in _BINDINGS.value),
  ]


def plan(arguments: Sequence[str]) -> list[dict[str, Any]]:
  """The jobs of the run, each behind those that it needs."""
  command = [_PYTHON.value, *arguments, '--print_plan']
  if _UNTIL.value:
    command.append(f'--until={_UNTIL.value}')
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode != 0:
    sys.exit(done.stderr.strip() or done.stdout)
  return json.loads(done.stdout)


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


async def run() -> None:
  """Runs the experiment to its end."""
  arguments = launcher()
  jobs = plan(arguments)
  async with xm_local.create_experiment(
    experiment_title=_TITLE.value
  ) as experiment:
    [python] = experiment.package(
      [xm.binary(executor_spec=xm_local.Local.Spec(), path=_PYTHON.value)]
    )
    for job in jobs:
      if job['done']:
        continue
      # One launcher at a time holds RUN_DIR: one unit after the other.
      unit = await experiment.add(
        xm.Job(
          executable=python,
          executor=xm_local.Local(requirements=requirements(job)),
          name=re.sub(r'\W+', '_', job['name']),
          args=[*arguments, f'--until={job["name"]}'],
        )
      )
      print(f'work unit {unit.work_unit_id}: {job["name"]}', flush=True)
      await unit.wait_until_complete()
  print(f'experiment {experiment.experiment_id}: {len(jobs)} jobs are done')


def main(argv: Sequence[str]) -> None:
  """Called by xmanager launch."""
  if argv[1:]:
    raise app.UsageError(f'unknown: {" ".join(argv[1:])}')
  xm.run_in_asyncio_loop(run)()


if __name__ == '__main__':
  app.run(main)
