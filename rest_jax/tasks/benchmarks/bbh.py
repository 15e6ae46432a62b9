"""Reads BIG-Bench Hard (Suzgun et al. 2022) and its prompts' exemplars."""

import functools
import re

from rest_jax.config import configuration
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import file_sources, parsed_dataset, tables
from rest_jax.tasks.benchmarks.parsed_dataset import ParsedDataset, text

_PROBLEMS = re.compile(r'bbh/([a-z_]+)\.json')
_PROMPT = re.compile(r'cot-prompts/([a-z_]+)\.txt')
# The lines above this rule are the canary, which is no part of the prompt.
_RULE = re.compile(r'^-{3,}[ \t]*\n', re.MULTILINE)
# One file (sports_understanding) goes on after "step by step." on the same
# line, the others on the next one.
_EXAMPLE = re.compile(
  r"Q: (?P<question>.*?)\nA: Let's think step by step\.[ \n](?P<solution>.*)",
  re.DOTALL,
)
_ANSWER = re.compile(r'\bthe answer is (.*?)\.?\s*$')
EXAMPLES = 3  # in each prompt


def read(source: file_sources.Source) -> ParsedDataset | None:
  """Reads BIG-Bench Hard.

  Args:
    source: bbh/<subtask>.json and cot-prompts/<subtask>.txt.

  Returns:
    Splits test and prompts (the exemplars); None if the source has no such
    files.

  Raises:
    ConfigurationError: a subtask lacks one of its two files, or a file is not
      in the published form.
  """
  problems = _matching(source, _PROBLEMS)
  prompts = _matching(source, _PROMPT)
  if not problems and not prompts:
    return None
  if problems.keys() != prompts.keys():
    lone = ', '.join(sorted(problems.keys() ^ prompts.keys()))
    raise configuration.ConfigurationError(
      f'{source.where}: bbh/*.json and cot-prompts/*.txt must be there for the '
      f'same subtasks; only one of the two for: {lone}. Copy both folders of '
      'the repository.'
    )
  result = parsed_dataset.Collector(source)
  leads = {}
  contents = dict(source.stream([*problems.values(), *prompts.values()]))
  for subtask, name in sorted(prompts.items()):
    leads[subtask] = _add_prompt(result, source, subtask, contents[name])
  for subtask, name in sorted(problems.items()):
    for number, row in enumerate(_examples(source, name, contents[name])):
      make = functools.partial(
        _problem,
        key=f'{subtask}-{number:03d}',
        subtask=subtask,
        lead=leads[subtask],
      )
      result.add_all('test', [tables.Entry(f'{name}[{number}]', row)], make)
  return result.dataset()


def _matching(
  source: file_sources.Source, pattern: re.Pattern[str]
) -> dict[str, str]:
  """Subtask to the name of its file."""
  matches = (pattern.fullmatch(name) for name in source.names)
  return {match[1]: match.group() for match in matches if match}


def _examples(
  source: file_sources.Source, name: str, data: bytes
) -> list[tables.RawRow | tables.Fault]:
  """The problems of a subtask's JSON file."""
  value = tables.parse_object(data)
  if isinstance(value, tables.Fault) or not isinstance(
    value.get('examples'), list
  ):
    reason = getattr(value, 'reason', "no list 'examples'")
    raise configuration.ConfigurationError(
      f'{source.where}/{name}: {reason}. Download it again.'
    )
  return [
    one if isinstance(one, dict) else tables.Fault(tables.NOT_AN_OBJECT)
    for one in value['examples']
  ]


def _problem(
  row: tables.RawRow, *, key: str, subtask: str, lead: str
) -> problem_sets.Row:
  return problem_sets.Row(
    key=key,
    question=text(row, 'input'),
    answer=text(row, 'target').strip(),
    type=subtask,
    lead=lead,
  )


def _add_prompt(
  result: parsed_dataset.Collector,
  source: file_sources.Source,
  subtask: str,
  data: bytes,
) -> str:
  """Adds the exemplars of a prompt file; returns its instruction."""
  where = f'{source.where}/cot-prompts/{subtask}.txt'
  try:
    prompt = parsed_dataset.unix_lines(data.decode('utf-8-sig'))
  except UnicodeDecodeError as error:
    raise configuration.ConfigurationError(
      f'{where}: not UTF-8 ({error}). Download it again.'
    ) from None
  rule = _RULE.search(prompt)
  prompt = prompt[rule.end() :] if rule else prompt
  instruction, *examples = re.split(r'\n\n(?=Q: )', prompt.strip())
  lead = f'{instruction.strip()}\n\n'
  matches = [_EXAMPLE.fullmatch(example) for example in examples]
  answers = [match and _ANSWER.search(match['solution']) for match in matches]
  if len(examples) != EXAMPLES or not all(answers):
    raise configuration.ConfigurationError(
      f'{where}: {sum(map(bool, answers))} exemplars that end in "the answer '
      f'is ..." were found; each prompt has {EXAMPLES}. Copy the file again.'
    )
  pairs = zip(matches, answers, strict=True)
  for number, (match, answer) in enumerate(pairs):
    row = problem_sets.Row(
      key=f'{subtask}-{number:03d}',
      question=match['question'],
      answer=answer[1],
      type=subtask,
      solution=match['solution'].rstrip(),
      lead=lead,
    )
    result.add('prompts', where, row)
  return lead
