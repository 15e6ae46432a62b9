"""Paths of this machine that jobs on other machines do not see.

They are refused before anything starts: a job would look for them in vain
minutes later, once for each path.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from rest_jax.config import configuration, gin_names
from rest_jax.executors import job_files
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Ledger


def check(
  executor: str,
  config: Any,
  *,
  ledger: Ledger,
  planned: Sequence[Job],
  gin_files: Sequence[str],
  search_paths: Sequence[str],
) -> None:
  """Raises ConfigurationError with all paths that the jobs do not see.

  Args:
    executor: its name.
    config: of the executor, which says what runs elsewhere (`runs`), what can
      be seen there (`sees`), and what else can be done (`advice`).
    ledger: of the run.
    planned: the jobs of the launch.
    gin_files: of the user.
    search_paths: in which they are looked for.
  """
  places = {('RUN_DIR', ledger.run_dir): None}
  for name in gin_files:
    if file := gin_names.users_file(name, search_paths):
      places['--gin_file', file] = None
  for job in planned:
    if not ledger.is_done(job):
      elsewhere = config.runs(job)
      places |= dict.fromkeys(_read(ledger.paths(job), elsewhere))
  lost = [f'{dial}: {path}' for dial, path in places if not config.sees(path)]
  if not lost:
    return
  lines = [
    f'--executor={executor}: its jobs run on other machines, which do not see '
    'what this one has at',
    *(f'  {line}' for line in lost),
    'Copy each into a bucket (gcloud storage cp --recursive PATH '
    'gs://BUCKET/NAME; a model by rest-jax import --from=PATH '
    '--to=gs://BUCKET/NAME) and give that path.',
    *([config.advice] if config.advice else []),
  ]
  raise configuration.ConfigurationError('\n'.join(lines))


def _read(
  named: Sequence[job_files.Named], elsewhere: bool
) -> Iterator[tuple[str, str]]:
  """(dial, path) of what is read on other machines, of one job's paths."""
  for one in named:
    # The problems name their vocabulary to all jobs that read them.
    later = one.field is job_files.FIELDS['vocabulary']
    if (elsewhere or later) and one.path not in one.field.words:
      yield one.shown or one.dial, one.path
