"""The stage grade_dval: D_val's verdicts, beside the training that waits.

    samples of a validation ─▶ verdicts

Runs with the stage train of DVAL_GRADING='beside', on a host of its own, so
that no program that a model wrote runs on the training's. It grades each
validation when its samples are there and asked for, with the graders that the
training would use itself, and ends when the training's checkpoints are done.
Killed and started again, it grades what has no verdicts yet.
"""

import time
from collections.abc import Sequence

from rest_jax.artifacts import (
  held_folders,
  leases,
  manifests,
  records,
  storage,
)
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.rewards import dval_grading, dval_requests, pool

_POLL_SECONDS = 1.0  # between two looks at what is asked for
_READS = 5  # of samples that are not what was asked for, before that is said


@configuration.checked
def grade_dval(
  *,
  checkpoints_dir: str,
  dval_dirs: Sequence[str],
  num_workers: int = 0,
  item_seconds: float = pool.ITEM_SECONDS,
) -> None:
  """Grades the validations of a training until it is done.

  Args:
    checkpoints_dir: of the training.
    dval_dirs: finished folders of D_val problems, in the training's order.
    num_workers: grading processes; 0 for one per core.
    item_seconds: wall clock for one completion, for graders that are not
      bounded by construction.

  Raises:
    ConfigurationError: this machine lacks what a grader needs, or a grader of
      the user's own raised.
    HeldError: another process grades the same validations.
    Preempted: SIGTERM has come; verdicts that were written stay.
  """
  preemption.watch()
  if not dval_dirs:
    raise configuration.ConfigurationError(
      'DVAL_DIRS: got []; name the folders of D_val, as the training does.'
    )
  place = dval_requests.Place(checkpoints_dir)
  problem_sets = [manifests.load(one, stage='prepare') for one in dval_dirs]
  if manifests.load_if_done(checkpoints_dir) is not None:
    print(f'grade_dval: {checkpoints_dir} is done already')
    return
  with (
    dval_grading.Graders(
      problem_sets, num_workers=num_workers, item_seconds=item_seconds
    ) as graders,
    leases.hold(place.folder, purpose='grade_dval'),
    place.signing() as signs,
  ):
    graders.require()
    _serve(checkpoints_dir, place, graders, signs)


def _serve(
  checkpoints_dir: str,
  place: dval_requests.Place,
  graders: dval_grading.Graders,
  signs: dval_requests.Signs,
) -> None:
  """Answers requests until the training is done."""
  answered, tries = '', 0
  while True:
    preemption.check('grade_dval')
    asked = place.asked()
    if asked is not None and asked.token != answered:
      try:
        _answer(place.folder / asked.folder, asked, graders, signs)
        answered, tries = asked.token, 0
        continue
      except records.CorruptPartError:
        # A training that was started again writes its samples again. It has
        # then withdrawn this request.
        tries += 1
        if tries >= _READS and place.asked() == asked:
          raise
    # Looked at after the requests: none comes after the end.
    elif manifests.load_if_done(checkpoints_dir) is not None:
      return
    time.sleep(_POLL_SECONDS)


def _answer(
  folder: storage.Path,
  asked: dval_requests.Asked,
  graders: dval_grading.Graders,
  signs: dval_requests.Signs,
) -> None:
  """Grades a validation, unless it has its verdicts."""
  total = sum(row['rows'] for row in asked.parts)

  def tell(done: int) -> None:
    held_folders.check_all()
    preemption.check(f'grade_dval: {asked.folder}')
    signs.does = f'{done} of {total} graded'

  began, before = time.monotonic(), signs.does
  tell(0)
  try:
    graders.grade(graders.read(folder, asked.parts), tell)
  finally:
    signs.does = before
  print(
    f'grade_dval: {asked.folder}: {total} samples, '
    f'{time.monotonic() - began:.1f} s',
    flush=True,
  )
