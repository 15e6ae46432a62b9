"""Programs that solve the program problems: line by line, terse, and flawed.

The style WORKED has one line for each clause, below a comment that repeats the
clause. A small network learns to write each of these lines. Without the
comments it has to find a clause's number in the question, which it learns late
or not at all (LOG.md). The HUMAN_STYLES imitate people: one nested expression,
filter and map, everything on one line. They are right as well. A flawed
program leaves out or misreads a clause, prints nothing, or has a syntax error.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from rest_jax.tasks.seeded_random import SeededRandom
from rest_jax.tasks.synthetic import flaw_rates
from rest_jax.tasks.synthetic.clauses import ASKS, KINDS, Clause, Statement
from rest_jax.tasks.synthetic.embedded import WORKED

HUMAN_STYLES = ('nested', 'functional', 'joined', 'compact')
_READ = '[int(x) for x in input().split()]'
_READ_TERSE = 'list(map(int, input().split()))'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flaws(flaw_rates.FlawRates):
  """How often the programs of the pretraining corpus are flawed, and how.

  Attributes:
    skipped_clause: share that leaves out the last `skipped` clauses.
    misread_clause: share that takes a clause, or what is to be printed, for
      another one ("above" for "at least", the sum for the count).
    missing_print: share that calculates the result and does not print it.
    syntax_slip: share with a line that lacks its last bracket.
    skipped: how many clauses are left out; all of them in a shorter chain.
  """

  KINDS = ('skipped_clause', 'misread_clause', 'missing_print', 'syntax_slip')

  skipped_clause: flaw_rates.Rate = 0.25
  misread_clause: flaw_rates.Rate = 0.1
  missing_print: flaw_rates.Rate = 0.05
  syntax_slip: flaw_rates.Rate = 0.05
  skipped: int = 1

  def check(self):
    super().check()
    self.require(self.skipped >= 1, 'skipped', 'at least 1')


def write(
  rng: SeededRandom,
  statement: Statement,
  style: str,
  flaw: str | None,
  flaws: Flaws,
) -> str:
  """Writes a program; see embedded.EmbeddedConfig.write_solution."""
  clauses, ask = list(statement.chain.clauses), statement.chain.ask
  words = statement.sentences[1:-1]
  if flaw == 'skipped_clause':
    del clauses[max(len(clauses) - flaws.skipped, 0) :]
  elif flaw == 'misread_clause':
    place = rng.integer(0, len(clauses) - (not ASKS[ask].near))
    if place == len(clauses):
      ask = ASKS[ask].near
    else:
      clauses[place] = clauses[place].misread()
  printed = ASKS[ask].code
  if flaw == 'missing_print':
    printed = '{a}' if ask == 'list' else printed[len('print(') : -1]
  lines = _STYLES[style](clauses, printed)
  if style == WORKED:
    lines = [lines[0], *_commented(lines[1:-1], words), lines[-1]]
  if statement.layout == 'counted':
    lines.insert(0, 'input()' if style in _UNCOUNTED else 'n = int(input())')
  if flaw == 'syntax_slip':
    # Not in a comment, where it would be no error.
    place = rng.choice(
      [i for i, line in enumerate(lines) if not line.startswith('#')]
    )
    lines[place] = lines[place][:-1]
  return ('; ' if style == 'joined' else '\n').join(lines)


def _worked(clauses: list[Clause], printed: str) -> list[str]:
  lines = [f'a = {_READ}']
  lines += [f'a = {_applied(clause, "a")}' for clause in clauses]
  return [*lines, printed.format(a='a')]


def _commented(lines: list[str], words: Sequence[str]) -> Iterator[str]:
  """Each clause's line with its words above it; none for skipped clauses."""
  for line, sentence in zip(lines, words, strict=False):
    yield f'# {sentence}'
    yield line


def _compact(clauses: list[Clause], printed: str) -> list[str]:
  lines = [_READ_TERSE.replace(', ', ',')]
  lines += [_applied(clause, 'v') for clause in clauses]
  return [*(f'v={line}' for line in lines), printed.format(a='v')]


def _nested(clauses: list[Clause], printed: str) -> list[str]:
  text = _READ
  for clause in clauses:
    text = _applied(clause, text)
  return [printed.format(a=text)]


def _functional(clauses: list[Clause], printed: str) -> list[str]:
  lines = [f'a = {_READ_TERSE}']
  for clause in clauses:
    form = KINDS[clause.kind].form
    if form == 'list':
      text = clause.code('a')
    else:
      text = f'list({form}(lambda x: {clause.code()}, a))'
    lines.append(f'a = {text}')
  return [*lines, printed.format(a='a')]


def _applied(clause: Clause, values: str) -> str:
  """The list that a clause makes of a list, as a Python expression."""
  form = KINDS[clause.kind].form
  if form == 'filter':
    return f'[x for x in {values} if {clause.code()}]'
  if form == 'map':
    return f'[{clause.code()} for x in {values}]'
  return clause.code(values)


_STYLES = {
  WORKED: _worked,
  'nested': _nested,
  'functional': _functional,
  'joined': _worked,
  'compact': _compact,
}
_UNCOUNTED = ('nested', 'compact')  # styles that read the length and drop it
