"""Who holds a lease (leases.py): the record that stands in it.

A job's environment holds the name of the job and a token of the launch, so that
the next attempt of the same job knows the record of the attempt before.
"""

import json
import os
import socket
import time
from typing import Any

from rest_jax.artifacts import processes

JOB, RUN_TOKEN = 'REST_JAX_JOB', 'REST_JAX_RUN_TOKEN'  # set by the executors


def record(purpose: str) -> dict[str, Any]:
  """This process, as a holder.

  Args:
    purpose: shown to whoever else wants the folder.
  """
  return {
    'host': socket.gethostname(),
    'pid': os.getpid(),
    'purpose': purpose,
    'since': time.strftime('%Y-%m-%d %H:%M:%S'),
    'machine': processes.machine(),
    'started': processes.start_time(os.getpid()),
    'job': os.environ.get(JOB, ''),
    'run': os.environ.get(RUN_TOKEN, ''),
  }


def may_replace(holder: dict[str, Any], owner: dict[str, Any]) -> bool:
  """Whether the holder is known to be gone, or is this job's last attempt."""
  if is_of_this_machine(holder):
    return processes.start_time(holder.get('pid')) != holder.get('started')
  same = all(
    owner[name] and owner[name] == holder.get(name) for name in ('run', 'job')
  )
  return same and owner['purpose'] == holder.get('purpose')


def is_of_this_machine(holder: dict[str, Any]) -> bool:
  """Whether the holder is, or was, a process of this machine."""
  machine = processes.machine()
  return machine is not None and holder.get('machine') == machine


def parsed(text: str) -> dict[str, Any]:
  """The record in a lease; {} where there is none."""
  try:
    value = json.loads(text)
  except json.JSONDecodeError:
    value = None
  return value if isinstance(value, dict) else {}


def described(holder: dict[str, Any]) -> str:
  """The holder in words."""
  return (
    f'process {holder.get("pid", "?")} on host {holder.get("host", "?")} '
    f'({holder.get("purpose", "?")}, since {holder.get("since", "?")})'
  )
