"""The grader of exams that a person grades: it says only what there is to do.

The points come in by the command `points` (docs/evaluation.md).
"""

from rest_jax.rewards import verdicts
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
    reference: not used; an exam's key is a person's.
    finish_reason: of the sample.

  Returns:
    ungraded, with reward 0; no_answer for an empty text; truncated where the
    sample did not end by itself.
  """
  cut_off = verdicts.unfinished(finish_reason)
  if cut_off is not None:
    return cut_off
  outcome, detail = verdicts.UNGRADED, 'a person grades it'
  if not completion.strip():
    outcome, detail = verdicts.NO_ANSWER, 'empty'
  return Verdict(outcome=outcome, reward=0.0, answer=None, detail=detail)
