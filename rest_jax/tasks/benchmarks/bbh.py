"""BIG-Bench Hard, with the worked examples of its chain-of-thought prompts."""

import re

from rest_jax.config import configuration
from rest_jax.tasks import problem_sets
from rest_jax.tasks.benchmarks import files, readings, tables
from rest_jax.tasks.benchmarks.readings import Reading, text

_PROBLEMS = re.compile(r'bbh/([a-z_]+)\.json')
_PROMPT = re.compile(r'cot-prompts/([a-z_]+)\.txt')
# The canary stands above this line.
_RULE = re.compile(r'^-{3,}[ \t]*\n', re.MULTILINE)
# In one file the reasoning goes on behind the sentence, not below it.
_EXAMPLE = re.compile(
  r"Q: (?P<question>.*?)\nA: Let's think step by step\.[ \n](?P<solution>.*)",
  re.DOTALL,
)
_ANSWER = re.compile(r'\bthe answer is (.*?)\.?\s*$')
EXAMPLES = 3  # in each prompt


def read(source: files.Source) -> Reading | None:
  """Reads BIG-Bench Hard.

  Args:
    source: bbh/<subtask>.json and cot-prompts/<subtask>.txt.

  Returns:
    Splits test and prompts; None where the source holds no such files.

  Raises:
    ConfigurationError: a file of either is missing or not in its form.
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
  result = readings.Collector(source)
  leads = {}
  contents = dict(source.stream([*problems.values(), *prompts.values()]))
  for subtask, name in sorted(prompts.items()):
    leads[subtask] = _add_prompt(result, source, subtask, contents[name])
  for subtask, name in sorted(problems.items()):
    for number, example in enumerate(_examples(source, name, contents[name])):
      key = f'{subtask}-{number:03d}'
      make = _maker(key, subtask, leads[subtask])
      result.add_all('test', [(f'{name}[{number}]', example)], make)
  return result.reading()


def _matching(source, pattern) -> dict[str, str]:
  matches = (pattern.fullmatch(name) for name in source.names)
  return {match[1]: match.group() for match in matches if match}


def _examples(source, name: str, data: bytes) -> list:
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


def _maker(key: str, subtask: str, lead: str):
  def make(row) -> problem_sets.Row:
    return problem_sets.Row(
      key=key,
      question=text(row, 'input'),
      answer=text(row, 'target').strip(),
      type=subtask,
      lead=lead,
    )

  return make


def _add_prompt(result, source, subtask: str, data: bytes) -> str:
  """Adds the worked examples of a prompt file; returns its instruction."""
  where = f'{source.where}/cot-prompts/{subtask}.txt'
  try:
    prompt = readings.unix_lines(data.decode('utf-8-sig'))
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
      f'{where}: {sum(map(bool, answers))} worked examples that end in "the '
      f'answer is ..." were found; each prompt has {EXAMPLES}. Copy the file '
      'again.'
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
