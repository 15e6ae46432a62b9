"""The command compare: several runs on one page.

    rest-jax compare runs/x runs/y [--output=compare.html]

Results side by side with 95 % intervals, the differences from the first run on
the problems that are the same, curves one over the other, and the dials of
config.gin that differ. The page is one file that needs nothing else.
"""

import argparse
from collections.abc import Sequence

from rest_jax import report
from rest_jax.artifacts import storage
from rest_jax.commands import view
from rest_jax.config import configuration
from rest_jax.reporting import charts, page, run_comparison, run_reader

SECTIONS = {
  'runs': 'Runs and results',
  'paired': 'Differences from the first run',
  'curves': 'Curves',
  'dials': 'Dials that differ',
}


def parser() -> argparse.ArgumentParser:
  """The flags of the command."""
  result = argparse.ArgumentParser(
    prog='rest-jax compare',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=__doc__,
  )
  result.add_argument('run_dirs', nargs='+', metavar='RUN_DIR')
  result.add_argument('--output', default='compare.html', metavar='FILE.html')
  return result


def run(arguments: Sequence[str]) -> int:
  """Writes the page; returns the exit code.

  Raises:
    ConfigurationError: too few or too many runs, or one that is not there.
  """
  flags = parser().parse_args(arguments)
  paths = list(dict.fromkeys(path.rstrip('/') for path in flags.run_dirs))
  if not 2 <= len(paths) <= charts.NUM_STYLES:
    raise configuration.ConfigurationError(
      f'compare: got {len(paths)} different runs; allowed: 2 to '
      f'{charts.NUM_STYLES}.'
    )
  if storage.path(flags.output).is_dir():
    raise configuration.ConfigurationError(
      f'--output: {flags.output} is a folder; name a file, such as '
      f'{flags.output.rstrip("/")}/compare.html.'
    )
  for path in paths:
    view.check_run(path)
  runs = []
  for name, path in zip(run_comparison.names(paths), paths, strict=True):
    found = run_reader.find(path)
    one = run_comparison.ComparedRun(
      name=name, run=run_reader.read(path, found), found=found
    )
    runs.append(one)
  bootstrap = report.bootstrap_of(runs[0].found)
  text = page.render(
    sections=SECTIONS,
    title=f'{len(runs)} runs compared',
    lead=', '.join(one.name for one in runs),
    **run_comparison.values(runs, bootstrap),
  )
  storage.write_bytes(flags.output, text.encode())
  print(f'compare: {len(runs)} runs, {flags.output}')
  return 0
