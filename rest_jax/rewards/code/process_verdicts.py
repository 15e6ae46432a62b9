"""From how a sandboxed process ended to a verdict on the program in it.

Every way in which a program can end counts against it. A harness error is
left for what no program can bring about: a process that never began, and
tests that fail before they have asked for anything.
"""

from rest_jax.rewards import verdicts
from rest_jax.rewards.code.sandbox import codec, protocol, supervisor
from rest_jax.rewards.code.sandbox.supervisor import Limits
from rest_jax.rewards.verdicts import Verdict


class Killed(RuntimeError):
  """Somebody outside killed a program: the kernel, out of memory."""


def unsound(ended: supervisor.Ended, limits: Limits) -> Verdict | None:
  """The verdict on a process that did not end well, whatever it wrote.

  Raises:
    supervisor.ServerLost: the program never began.
    Killed: it was killed, and not by the sandbox.
  """
  if not ended.started:
    raise supervisor.ServerLost('a process could not be prepared')
  killed_by_limit = ended.code == -9 and (
    ended.killed == protocol.KILLED_BY_CPU
    or ended.cpu_seconds > 0.8 * limits.cpu_seconds
  )
  if killed_by_limit or ended.cpu_seconds > limits.cpu_seconds:
    return verdict_of(
      verdicts.TIMEOUT, f'more than {limits.cpu_seconds:g} s of CPU time'
    )
  if ended.killed == protocol.KILLED_BY_WALL:
    return verdict_of(verdicts.TIMEOUT, 'asleep for too long')
  if ended.code == 0:
    return None
  if ended.code == -9:
    raise Killed('killed by the kernel: out of memory, or its own limit')
  if ended.code == -25:
    return verdict_of(
      verdicts.CRASHED, f'more than {limits.output_bytes} bytes of output'
    )
  if ended.code < 0:
    return verdict_of(verdicts.CRASHED, f'signal {-ended.code}')
  lines = ended.stderr.decode('utf-8', 'replace').strip().splitlines()
  reason = lines[-1][:200] if lines else 'no message'
  return verdict_of(verdicts.CRASHED, f'exit status {ended.code}: {reason}')


def judged(judge: supervisor.Ended) -> tuple[str, str]:
  """(outcome, detail) that a judge wrote; empty texts where it wrote none."""
  if not judge.started:
    raise supervisor.ServerLost('a process could not be prepared')
  try:
    outcome, detail = codec.decode(judge.result, items=10)
    return outcome, detail
  except (codec.CodecError, TypeError, ValueError):
    return '', ''


def of_check(
  outcome: str, detail: str, judge: supervisor.Ended, limits: Limits
) -> Verdict:
  """The verdict of the tests on a candidate that is sound."""
  if outcome == protocol.PASSED:
    return verdict_of(verdicts.CORRECT, 'all assertions')
  if outcome == protocol.FAILED:
    return verdict_of(verdicts.WRONG, detail)
  if outcome == protocol.RAISED:
    return verdict_of(verdicts.CRASHED, detail)
  if outcome == protocol.LOST:
    return verdict_of(verdicts.CRASHED, 'the program ended before the tests')
  if outcome == protocol.BROKEN:
    return verdict_of(verdicts.HARNESS_ERROR, detail)
  # What a program returns can make its tests slow, or end them: its own loss.
  if judge.cpu_seconds >= limits.cpu_seconds or judge.killed:
    return verdict_of(verdicts.TIMEOUT, 'the tests took too long')
  if judge.code == -9:
    raise Killed('the tests were killed by the kernel: out of memory')
  return verdict_of(
    verdicts.CRASHED, f'the tests ended with {judge.code}, not to their end'
  )


def verdict_of(outcome: str, detail: str) -> Verdict:
  """A verdict on a program: no answer to vote on, one line of detail."""
  reward = 1.0 if outcome == verdicts.CORRECT else 0.0
  # What a program raised may hold half of a surrogate pair.
  text = detail.encode('utf-8', 'backslashreplace').decode()
  line = ' '.join(text.split())
  return Verdict(outcome=outcome, reward=reward, answer=None, detail=line)
