"""The classes that a graded completion falls into."""

import dataclasses

CORRECT = 'correct'
WRONG = 'wrong'
NO_ANSWER = 'no_answer'  # nothing that could be compared
TIMEOUT = 'timeout'
CRASHED = 'crashed'
TRUNCATED = 'truncated'  # stopped by the length limit, not by itself
HARNESS_ERROR = 'harness_error'  # our fault: never trained on, never counted
UNGRADED = 'ungraded'  # waits for a person: never trained on, never counted

OUTCOMES = (
  CORRECT,
  WRONG,
  NO_ANSWER,
  TIMEOUT,
  CRASHED,
  TRUNCATED,
  HARNESS_ERROR,
  UNGRADED,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """What a grader says of one completion.

  Attributes:
    outcome: one of OUTCOMES.
    reward: >= 0; 1 for correct and 0 for the others in every built-in task.
    answer: the answer found, in canonical form; None where there is none.
    detail: one line for a person.

  Half a surrogate pair, which no file in UTF-8 can hold, is kept in both texts
  as its escape, \\ud83d.
  """

  outcome: str
  reward: float
  answer: str | None
  detail: str = ''

  def __post_init__(self):
    if self.outcome not in OUTCOMES:
      raise ValueError(
        f'Verdict.outcome: got {self.outcome!r}; allowed: {OUTCOMES}.'
      )
    if not self.reward >= 0:
      raise ValueError(f'Verdict.reward: got {self.reward!r}; must be >= 0.')
    for name in ('answer', 'detail'):
      text = getattr(self, name)
      if text and not text.isascii():
        object.__setattr__(self, name, _encodable(text))


def _encodable(text: str) -> str:
  return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def unfinished(finish_reason: str | None) -> Verdict | None:
  """The verdict on a completion that did not end by itself, whatever it says.

  A solution that was cut off is never rewarded, even if an answer stands in
  it: trained on, it would teach not to stop (Singh et al. 2023 reward only
  whole solutions).

  Args:
    finish_reason: of the sample: eos, stop, length or prompt; None where it
      is not known, which counts as finished.

  Returns:
    A truncated verdict, or None where the completion is to be graded.
  """
  if finish_reason == 'length':
    detail = 'stopped by the length limit'
  elif finish_reason == 'prompt':
    detail = 'not sampled: the prompt does not fit the context'
  else:
    return None
  return without_answer(TRUNCATED, detail)


def without_answer(outcome: str, detail: str) -> Verdict:
  """A verdict that rewards nothing and gives no answer to vote on.

  Args:
    outcome: one of OUTCOMES, not CORRECT.
    detail: why, in one line for a person.
  """
  return Verdict(outcome=outcome, reward=0.0, answer=None, detail=detail)


def compared(answer: str, expected: str) -> Verdict:
  """Correct where an answer is the expected text, letter for letter."""
  if answer == expected:
    return Verdict(outcome=CORRECT, reward=1.0, answer=answer)
  return Verdict(
    outcome=WRONG,
    reward=0.0,
    answer=answer,
    detail=f'{answer[:60]!r}, expected {expected[:60]!r}',
  )
