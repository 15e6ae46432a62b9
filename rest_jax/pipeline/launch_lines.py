"""What a launch prints: the plan, what was derived, what can be done next."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from rest_jax.artifacts import manifests, storage
from rest_jax.executors import jobs
from rest_jax.executors.ledger import Ledger
from rest_jax.executors.machine import Machine
from rest_jax.pipeline.sizes import Dial


def print_derived(derived: Mapping[str, Dial], pending: Sequence[str]) -> None:
  """What was derived, a dial a line, each with its reason."""
  width = max(map(len, derived), default=0)
  for name, dial in derived.items():
    value = dial.value
    if dataclasses.is_dataclass(value):
      value = f'@{type(value).__name__}()'
    print(f'auto  {name:{width}} = {value}  ({dial.reason})')
  if pending:
    print(f'auto  after prepare: {", ".join(pending)}')


def plan(
  planned: Sequence[jobs.Job], ledger: Ledger, machine: Machine
) -> list[str]:
  """The jobs of a plan, one a line, and whether each is still to do.

  Args:
    planned: the jobs, each behind those that it needs.
    ledger: knows which are done.
    machine: what they run on where they name no topology.
  """
  width = max(len(job.name) for job in planned)
  to_do = {job.name for job in planned if not ledger.is_done(job)}
  # What comes before them is run again and may come out differently.
  unsure = set(jobs.behind(planned, to_do)) - to_do
  lines = []
  for job in planned:
    state = 'done?' if job.name in unsure else 'done'
    state = 'to do' if job.name in to_do else state
    where = str(machine.kind if job.accelerator == 'tpu' else 'cpu')
    if job.topology:
      where = f'{job.slices} x {job.topology}'
    needs = ', '.join(
      f'beside {name}' if job.serves and name in job.follows else name
      for name in job.needs
    )
    needs = needs if job.stage != 'report' else 'all of these'
    lines.append(f'{state:6} {job.name:{width}}  {where:5}  {needs}'.rstrip())
  if unsure:
    lines.append('done?  stays where what comes before it comes out the same')
  return lines


def of_report(run_dir: str) -> list[str]:
  """What a finished run is good for."""
  return [
    f'report: {run_dir}/report/index.html',
    f'in a browser: {_command()} view {run_dir}',
    *export(run_dir),
  ]


def export(run_dir: storage.PathLike) -> list[str]:
  """How the run's last policy becomes a model that other programs load.

  Args:
    run_dir: of the run.

  Returns:
    No line where no iteration has trained a policy.
  """
  folder = storage.path(run_dir)
  if not any(folder.glob(f'iteration_*/checkpoints/{manifests.MANIFEST}')):
    return []
  command = f'{_command()} export --from={os.fspath(run_dir)} --to='
  return [
    f'for transformers and vLLM: {command}FOLDER',
    f'for llama.cpp: {command}FILE.gguf',
  ]


def _command() -> str:
  """How this environment's rest-jax is called from the user's shell."""
  found = os.path.join(sys.prefix, 'bin', 'rest-jax')
  if shutil.which('rest-jax') or not os.path.exists(found):
    return 'rest-jax'
  return os.path.relpath(found)
