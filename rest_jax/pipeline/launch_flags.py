"""The flags of a launch, which every command that makes a plan takes."""

import argparse


def add(target: argparse.ArgumentParser, *, of: str = '') -> None:
  """Adds the flags that launcher.launch reads, less those of gin_flags.

  Args:
    target: of the command.
    of: what they belong to, before each help, where the command has others.
  """
  target.add_argument(
    '--executor',
    default='local',
    metavar='NAME',
    help=f'{of}what runs the jobs: local, gke or tpu_vm',
  )
  target.add_argument('--until', metavar='JOB', help=f'{of}the last job to run')
  target.add_argument(
    '--dry_run', action='store_true', help='print what would be done and stop'
  )
  target.add_argument(
    '--print_plan',
    action='store_true',
    help=f'{of}print the jobs as JSON and stop',
  )
  target.add_argument(
    '--manifests_dir',
    metavar='FOLDER',
    help=f"{of}--executor=gke --dry_run: write the cluster's objects there",
  )
  target.add_argument(
    '--detach',
    action='store_true',
    help=f'{of}launch in the background: rest-jax status and stop reach it',
  )
  target.add_argument(
    '--redo',
    metavar='STAGE|JOB',
    action='append',
    default=[],
    help=f'{of}set aside what these have made, and make it again; '
    'comma-separated',
  )
