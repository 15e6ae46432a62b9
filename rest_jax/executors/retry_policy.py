"""When a job that ended is started again; the same for every executor."""

import dataclasses
import signal

from rest_jax.config import configuration
from rest_jax.executors import exit_codes

LONGEST_PAUSE_SECONDS = 300.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy(configuration.Configuration):
  """How often, and how soon, a job is started again within one launch.

  Attributes:
    retries: after it died for an unknown reason, or could not have its folder.
    preemptions: after it was preempted and had saved its state, or had waited
      in vain for its store.
    backoff_seconds: the pause before the first retry; each further one takes
      twice as long, five minutes at most. A preemption has no pause.
  """

  retries: int = 2
  preemptions: int = 100
  backoff_seconds: float = 2.0

  def check(self) -> None:
    self.require(self.retries >= 0, 'retries', '>= 0')
    self.require(self.preemptions >= 0, 'preemptions', '>= 0')
    self.require(self.backoff_seconds >= 0, 'backoff_seconds', '>= 0')


@dataclasses.dataclass(frozen=True)
class Decision:
  """What becomes of a job that ended.

  Attributes:
    again: whether it is started again.
    reason: why it ended, and which retry this is; for the person who watches.
    pause_seconds: before it is started again.
  """

  again: bool
  reason: str
  pause_seconds: float = 0.0


class Attempts:
  """The attempts of one job in one launch."""

  def __init__(self, policy: RetryPolicy):
    """Starts with none.

    Args:
      policy: of the job.
    """
    self._policy = policy
    self._failures = self._preemptions = 0

  def ended(self, exit_code: int, out_of_memory: str = '') -> Decision:
    """Decides after an attempt that was not successful.

    Args:
      exit_code: of the process, as in exit_codes.py; negative: the number of
        the signal that killed it.
      out_of_memory: what to do about it, where the process was killed for its
        memory: the next attempt would be, too.
    """
    policy = self._policy
    if out_of_memory:
      return Decision(False, out_of_memory)
    if exit_code == exit_codes.CONFIGURATION:
      return Decision(False, why(exit_code))
    if exit_code == exit_codes.PREEMPTED:
      if self._preemptions == policy.preemptions:
        return Decision(
          False,
          f'preempted more than {policy.preemptions} times (MAX_PREEMPTIONS); '
          'its state is saved',
        )
      self._preemptions += 1
      return Decision(True, why(exit_code))
    if self._failures == policy.retries:
      return Decision(False, why(exit_code))
    self._failures += 1
    pause = policy.backoff_seconds * 2 ** (self._failures - 1)
    return Decision(
      True,
      f'{why(exit_code)}; retry {self._failures} of {policy.retries}',
      min(pause, LONGEST_PAUSE_SECONDS),
    )


def why(exit_code: int) -> str:
  """What an exit code says, in words."""
  if exit_code == exit_codes.CONFIGURATION:
    return 'wrong configuration or data (exit code 2): not tried again'
  if exit_code == exit_codes.PREEMPTED:
    return 'preempted, or its store was away; what it had done is saved'
  if exit_code == exit_codes.HELD:
    return 'another process holds its folder (exit code 75)'
  if exit_code == exit_codes.LOST:
    return f'another of its processes was lost (exit code {exit_code})'
  if exit_code < 0:
    name = signal.Signals(-exit_code).name
    hint = ' (out of memory?)' if name == 'SIGKILL' else ''
    return f'killed by {name}{hint}'
  return f'exit code {exit_code}'
