"""What is made again: because a file changed, or because somebody asks for it.

    RUN_DIR/ledger/redo.json     what of it is still to be done

A changed file (job_files.py) stops a launch with the list of what would be made
again, unless no samples and no training would be lost. --redo=STAGE or
--redo=JOB then sets aside what these jobs have made, one job at a time, just
before it is made again. The jobs behind them follow where their inputs have
changed. An interrupted launch goes on with it, with the flag or without.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from rest_jax.artifacts import manifests, standing_work, storage
from rest_jax.executors import jobs, ledger
from rest_jax.executors.jobs import Job

# Stages that take long: what they have made is not made again unasked.
_COSTLY = ('sample', 'train')
_GRADING = 'score'
_LISTED = 12  # jobs in a message


@dataclasses.dataclass
class Redo:
  """What is to be made again.

  Attributes:
    asked: the words of --redo, as they were given.
    again: names of jobs whose outputs are still to be set aside.
    left: names of these and of all jobs behind them.
  """

  asked: list[str] = dataclasses.field(default_factory=list)
  again: list[str] = dataclasses.field(default_factory=list)
  left: list[str] = dataclasses.field(default_factory=list)


class Changes:
  """Decides what a launch makes again."""

  def __init__(
    self, records: ledger.Ledger, whole: Sequence[Job], planned: Sequence[Job]
  ):
    """Reads what an earlier launch has left to do.

    Args:
      records: of the run.
      whole: all jobs of the plan.
      planned: those of this launch.
    """
    self._ledger, self._whole, self._planned = records, whole, planned
    self._path = storage.path(records.run_dir) / ledger.FOLDER / 'redo.json'
    self._redo = self._read()

  def refusal(self, asked: Sequence[str]) -> str | None:
    """Why the launch must not start: files that have changed; None: it may.

    Args:
      asked: the words of --redo; each is a stage, a job or how jobs' names
        begin.

    Raises:
      ConfigurationError: a word means no job.
    """
    allowed = {*self._redo.left, *self._with_behind(self._named(asked))}
    changed = self._changed(allowed)
    if not changed:
      return None
    lost = [
      job
      for job in self._whole
      if job.name in self._with_behind(changed)
      and job.stage in _COSTLY
      and any(map(standing_work.holds_files, job.outputs))
    ]
    return self._question(changed) if lost else None

  def begin(self, asked: Sequence[str]) -> None:
    """Notes what is made again; to be called while RUN_DIR is held.

    Args:
      asked: as of `refusal`, which has given None.
    """
    named = self._named(asked)
    if named and not (self._redo.left and self._redo.asked == list(asked)):
      self._add(named, list(asked))
    changed = self._changed(set(self._redo.left))
    if changed:
      files = dict.fromkeys(str(file) for f in changed.values() for file in f)
      print(
        f'changed: {", ".join(files)}. Made again: {_listed(changed)}',
        flush=True,
      )
      self._add(list(changed), self._redo.asked)
    self._ledger.again = set(self._redo.again)

  def before(self, job: Job) -> None:
    """Sets aside what a job has made, if it is to make it again."""
    name = job.name
    aside = name in self._redo.again
    if not aside and name in self._redo.left:
      # Sampling and training set their folders aside themselves, where they
      # find that their inputs have changed. The others write in place.
      same = job.stage in _COSTLY or self._ledger.has_same_inputs(job)
      aside = not same or bool(self._ledger.changed(job))
    if aside:
      self._set_aside(job)
    self._ledger.begin(job, anew=aside)
    if name in self._redo.again:
      self._redo.again.remove(name)
      self._ledger.again.discard(name)
      self._write()

  def end(self) -> None:
    """Forgets what has been made again."""
    if not self._path.exists():
      return
    done = {job.name for job in self._whole if self._ledger.is_done(job)}
    # A job behind one that is not done may have to follow it yet.
    open_ = {*self._with_behind(n for n in self._redo.left if n not in done)}
    self._redo.left = [name for name in self._redo.left if name in open_]
    if self._redo.left:
      self._write()
    else:
      self._path.unlink()

  def _changed(self, allowed: set[str]) -> dict[str, list]:
    """Jobs that have made something, and their files that have changed."""
    found = {}
    for job in self._planned:
      if job.name not in allowed and any(map(_is_there, job.outputs)):
        if files := self._ledger.changed(job):
          found[job.name] = files
    return found

  def _named(self, asked: Sequence[str]) -> list[str]:
    found = {}
    for word in asked:
      of_stage = [job.name for job in self._planned if job.stage == word]
      found |= dict.fromkeys(of_stage or jobs.named(self._planned, word))
    return list(found)

  def _with_behind(self, names: Iterable[str]) -> list[str]:
    names = list(names)
    return [*names, *jobs.behind(self._whole, names)]

  def _question(self, changed: dict[str, list]) -> str:
    """The list of what would be made again, and the flag for it."""
    lines = [
      f'  {name}: {", ".join(map(str, files))}'
      for name, files in changed.items()
    ]
    behind = [n for n in self._with_behind(changed) if n not in changed]
    made = {job.name for job in self._whole if any(map(_is_there, job.outputs))}
    behind = [name for name in behind if name in made]
    words = self._words(changed)
    flag = f'--redo={",".join(words)}'
    if words == [_GRADING]:
      flag = (
        f'`rest-jax rescore --gin.RUN_DIR={self._ledger.run_dir}` (or {flag})'
      )
    return (
      f'{self._ledger.run_dir}: files have changed since these jobs used '
      'them:\n'
      + '\n'.join(lines[:_LISTED])
      + (f'\n  … {len(lines) - _LISTED} more' if lines[_LISTED:] else '')
      + f'\nThey would be made again, and what depends on them, where it '
      f'changes: '
      f'{_listed(behind) or "nothing yet"}.\nGive {flag} to set aside what '
      'they made and make it again (nothing is deleted; what comes out the '
      'same stands), restore the files, or use another RUN_DIR.'
    )

  def _words(self, changed: Iterable[str]) -> list[str]:
    """The shortest words of --redo that allow these changes."""
    changed = list(changed)
    covered = set()
    for name in changed:
      covered.update(jobs.behind(self._whole, [name]))
    first = [name for name in changed if name not in covered]
    stages = {job.name: job.stage for job in self._whole}
    if len(first) == 1 and stages[first[0]] != _GRADING:
      return first
    return list(dict.fromkeys(stages[name] for name in first))

  def _add(self, names: list[str], asked: list[str]) -> None:
    left = dict.fromkeys([*self._redo.left, *self._with_behind(names)])
    again = dict.fromkeys([*self._redo.again, *names])
    self._redo = Redo(asked, list(again), list(left))
    self._write()

  def _set_aside(self, job: Job) -> None:
    # The shortest path first: a folder takes those below it along.
    for folder in sorted(job.outputs, key=len):
      if standing_work.holds_files(folder):
        last = (manifests.STARTED, manifests.MANIFEST)
        storage.set_aside(folder, last=last)

  def _read(self) -> Redo:
    if not self._path.exists():
      return Redo()
    return Redo(**storage.read_json(self._path))

  def _write(self) -> None:
    storage.write_json(self._path, dataclasses.asdict(self._redo))


def _listed(names: Iterable[str]) -> str:
  names = list(names)
  more = f' and {len(names) - _LISTED} more' if names[_LISTED:] else ''
  return ', '.join(names[:_LISTED]) + more


def _is_there(folder: str) -> bool:
  return storage.path(folder).exists()
