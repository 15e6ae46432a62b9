"""The grader of exams that a person grades: it only says that one has to.

The points come in by the command `grading-sheet` (docs/evaluation.md).
"""

from rest_jax.rewards import end_marks, reasoning, verdicts
from rest_jax.rewards.verdicts import Verdict


def grade(
  completion: str,
  reference: str | None = None,
  *,
  finish_reason: str | None = None,
) -> Verdict:
  """`ungraded`, unless there is nothing that a person could grade.

  Args:
    completion: the sampled text, cut before its stop string.
    reference: not used; the person has the key.
    finish_reason: of the sample.

  Returns:
    ungraded, with reward 0; no_answer for a text that is empty but for its
    reasoning and end marks; truncated where the sample did not end by itself.
  """
  cut_off = verdicts.unfinished(finish_reason)
  if cut_off is not None:
    return cut_off
  outcome, detail = verdicts.UNGRADED, 'a person grades it'
  if not reasoning.removed(end_marks.cut(completion)).strip():
    outcome, detail = verdicts.NO_ANSWER, 'empty'
  return verdicts.without_answer(outcome, detail)
