"""What a run is doing now, as far as its folder tells.

A folder with started.json and without manifest.json is unfinished: its stage
works on it, or was stopped. The newest log shows when a job last said
something. Nothing here asks the launcher, so that it works from any machine
that sees RUN_DIR.
"""

import dataclasses
import json
import re
import time
from collections.abc import Iterator

from rest_jax.artifacts import manifests, run_paths, storage

LAST_LINES = 5  # of the newest log
_LOG_BYTES = 20_000  # read from its end
_PART = re.compile(r'part-\d+-of-(\d+)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unfinished:
  """A folder that a stage has begun and not finished.

  Attributes:
    folder: relative to the run.
    stage: that writes it.
    done: parts that are there, or steps that were logged.
    total: parts or steps in all; 0 where that is not known yet.
    unit: 'parts' or 'steps'.
  """

  folder: str
  stage: str
  done: int
  total: int
  unit: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
  """What a run is doing.

  Attributes:
    finished: jobs that are done.
    failed: (name, exit code) of jobs whose last attempt ended with an error.
    unfinished: folders that are being written, or were left behind.
    log: name of the log that was written last, or ''.
    written: when that was, in the time of this machine; or ''.
    lines: the last lines of that log.
    reported: whether the stage report is done.
  """

  finished: int = 0
  failed: tuple[tuple[str, int], ...] = ()
  unfinished: tuple[Unfinished, ...] = ()
  log: str = ''
  written: str = ''
  lines: tuple[str, ...] = ()
  reported: bool = False


def progress(run_dir: storage.PathLike) -> Progress:
  """Reads what a run is doing; a run that has not begun gives empty values."""
  run_dir = storage.path(run_dir)
  codes = dict(_exit_codes(run_dir / 'jobs'))
  log, written, lines = _newest_log(run_dir / 'logs')
  return Progress(
    finished=sum(code == 0 for code in codes.values()),
    failed=tuple((name, code) for name, code in codes.items() if code),
    unfinished=tuple(_unfinished(run_dir)),
    log=log,
    written=written,
    lines=lines,
    reported=(run_dir / 'report' / manifests.MANIFEST).exists(),
  )


def _exit_codes(jobs: storage.Path) -> Iterator[tuple[str, int]]:
  for source in _files(jobs, '.json'):
    try:
      value = storage.read_json(source)
    except ValueError:
      continue  # being written, or broken: it costs a line of the page
    if isinstance(value, dict) and isinstance(value.get('exit_code'), int):
      yield str(value.get('name', source.stem)), value['exit_code']


def _unfinished(run_dir: storage.Path) -> Iterator[Unfinished]:
  if not run_dir.exists():
    return
  todo = [
    run_dir / name
    for name in sorted(child.name for child in run_dir.iterdir())
    if name in ('problems', run_paths.MODELS) or run_paths.is_loop_model(name)
  ]
  while todo:
    folder = todo.pop(0)
    if not folder.is_dir() or '.superseded-' in folder.name:
      continue
    begun = (folder / manifests.STARTED).exists()
    if begun and not (folder / manifests.MANIFEST).exists():
      yield _described(run_dir, folder)
    if not begun or folder == run_dir / 'problems':
      todo += sorted(folder.iterdir())


def _described(run_dir: storage.Path, folder: storage.Path) -> Unfinished:
  try:
    started = storage.read_json(folder / manifests.STARTED)
  except (OSError, ValueError):
    started = {}
  stage = str(started.get('code', '?')).split('/')[1:2]  # version/stage/number
  done, total, unit = _parts(folder)
  if stage == ['train']:
    config = started.get('semantic', {}).get('config', {})
    steps = [_last_step(source) for source in folder.glob('*/metrics.jsonl')]
    done, total, unit = (
      max(steps, default=0),
      config.get('max_steps', 0),
      'steps',
    )
  return Unfinished(
    folder=str(folder)[len(str(run_dir)) + 1 :],
    stage=stage[0] if stage else '?',
    done=done,
    total=total,
    unit=unit,
  )


def _parts(folder: storage.Path) -> tuple[int, int, str]:
  """(parts that are there, parts in all, 'parts')."""
  found = [_PART.match(path.name) for path in folder.glob('part-*.parquet')]
  totals = [int(one[1]) for one in found if one]
  return len(totals), max(totals, default=0), 'parts'


def _last_step(source: storage.Path) -> int:
  for line in reversed(source.read_text().splitlines()):
    try:
      return int(json.loads(line)['step'])
    except (ValueError, KeyError, TypeError):
      continue  # cut off while it was written
  return 0


def _newest_log(logs: storage.Path) -> tuple[str, str, tuple[str, ...]]:
  """(name, when it was written, its last lines)."""
  times = {source: source.stat().mtime for source in _files(logs, '.log')}
  if not times:
    return '', '', ()
  newest = max(times, key=times.get)
  text = newest.read_bytes()[-_LOG_BYTES:].decode(errors='replace')
  lines = [line for line in text.splitlines() if not line.startswith('$ ')]
  name = str(newest)[len(str(logs)) + 1 :].removesuffix('.log')
  clock = time.localtime(times[newest])
  written = time.strftime('%Y-%m-%d %H:%M:%S', clock)
  return name, written, tuple(lines[-LAST_LINES:])


def _files(folder: storage.Path, suffix: str) -> list[storage.Path]:
  """The files of jobs such as `report` or `base/evaluate`."""
  if not folder.exists():
    return []
  return sorted([*folder.glob(f'*{suffix}'), *folder.glob(f'*/*{suffix}')])
