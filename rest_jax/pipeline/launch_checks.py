"""What a launch finds out before its first job starts.

A wrong type, a misspelt name or a file that is not there would otherwise show
itself in the job that needs it, after hours of the jobs before. Paths are
looked at here; bindings are resolved and checked by the stages' own
configurations, in one process of its own, since they import jax:

    python -m rest_jax.pipeline.launch_checks < jobs.json
"""

import contextlib
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.artifacts import model_formats, storage
from rest_jax.config import configuration
from rest_jax.executors import exit_codes, job_files
from rest_jax.executors.jobs import Job

BASE = 'BASE_CHECKPOINT_PATH'


def check_paths(values: Mapping[str, Any]) -> None:
  """Raises ConfigurationError for a dial whose file is not there.

  Args:
    values: dial to value; those that are not set are absent or None.
  """
  if values.get(BASE):
    model_formats.of_weights(values[BASE])
  for field in job_files.FIELDS.values():
    value = values.get(field.dial)
    if field.expected and value and not storage.path(value).exists():
      raise configuration.ConfigurationError(
        f'{field.dial}: {value} is not there. Set it to {field.expected}.'
      )


def check_bindings(
  planned: Sequence[Job], flags: Sequence[str], pending: Sequence[str]
) -> None:
  """Raises ConfigurationError where a job would refuse its bindings.

  Args:
    planned: the jobs that will be started.
    flags: the gin flags of all jobs.
    pending: dials that will be derived; each stands for a whole number.
  """
  guesses = [f'--gin_bindings={name}=1' for name in pending]
  kinds = {}
  for job in planned:
    dials = tuple(flag.partition('=')[0] for flag in job.arguments)
    kinds.setdefault((job.stage, dials), job)
  asked = [
    [
      f'--run_mode={job.stage}',
      *flags,
      *guesses,
      *job.arguments,
      '--dry_run',
    ]
    for job in kinds.values()
  ]
  done = subprocess.run(
    [sys.executable, '-m', 'rest_jax.pipeline.launch_checks'],
    input=json.dumps(asked),
    capture_output=True,
    text=True,
  )
  if done.returncode == exit_codes.CONFIGURATION:
    lines = done.stderr.strip().splitlines()
    starts = [i for i, line in enumerate(lines) if 'error: ' in line]
    text = '\n'.join(lines[starts[0] :]) if starts else done.stderr
    raise configuration.ConfigurationError(text.partition('error: ')[2] or text)
  # Anything else is no fault of the configuration: the job will say it better.


def _resolve_all() -> None:
  """Resolves the bindings of each command line on standard input."""
  main = importlib.import_module('rest_jax.main')  # which imports the launcher
  for arguments in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()):
      code = main.exit_code(
        lambda arguments=arguments: main.run(arguments), 'launch'
      )
    if code:
      sys.exit(code)


if __name__ == '__main__':
  _resolve_all()
