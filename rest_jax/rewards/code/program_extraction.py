"""From a completion to the program that runs: one rule per data set.

The fenced block. Of the blocks between ``` marks those tagged python (py,
python3) count, or, where none is tagged so, those without a tag. Of these the
last that defines the wanted function is taken, else the last. A block that is
not closed ends with the text. Without a fence the whole text is the program.
Text between [BEGIN] and [DONE], as MBPP's own prompt asks for, is cut out
first.

The HumanEval completion, after that. It is a whole function if it defines
the entry point at the start of a line; then it follows what stands before the
entry point in the prompt (imports and helpers). Otherwise it is a body, and
follows the whole prompt: up to the first later line that starts at the margin
with anything but a closing bracket. A body whose first line alone lost its
indentation gets it back; one that lost it on more than one line gets it on
all.

These rules look at text only. Nothing here parses or compiles what a model
wrote: that happens in the sandbox.
"""

import re

MAX_COMPLETION = 200_000  # characters; longer ones are no program
_FENCE = re.compile(
  r'^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]*)[^\n`]*$', re.MULTILINE
)
_TAGS = {'python', 'py', 'python3'}


def extract(completion: str, *, name: str | None = None) -> str | None:
  """The program in a completion, by the rule above.

  Args:
    completion: the sampled text.
    name: of the function that the tests call; None for a whole program.

  Returns:
    Its text; None where there is nothing but white space, or too much.
  """
  text = completion.replace('\r\n', '\n')
  if len(text) > MAX_COMPLETION:
    return None
  if '[DONE]' in text:
    text = text.partition('[DONE]')[0]
  if '[BEGIN]' in text:
    text = text.partition('[BEGIN]')[2]
  blocks = _blocks(text)
  if blocks:
    tagged = [body for tag, body in blocks if tag in _TAGS]
    bodies = tagged or [body for tag, body in blocks if not tag]
    if bodies:
      defining = [body for body in bodies if name and _defines(body, name)]
      text = (defining or bodies)[-1]
  return text if text.strip() else None


def assemble_humaneval(
  prompt: str, completion: str, entry_point: str
) -> str | None:
  """The program of a HumanEval problem and a completion.

  Args:
    prompt: the problem's own, which ends in the entry point's docstring.
    completion: a body, a whole function or a fenced block of either.
    entry_point: the function's name.

  Returns:
    Source; None where the completion holds no program.
  """
  text = extract(completion, name=entry_point)
  if text is None:
    return None
  if _defines(text, entry_point, margin=True):
    before = re.split(
      rf'^(?:async )?def {re.escape(entry_point)}\b',
      prompt,
      maxsplit=1,
      flags=re.MULTILINE,
    )[0]
    return f'{before}\n{text}'
  separator = '' if prompt.endswith('\n') else '\n'
  return f'{prompt}{separator}{_body(text)}'


def assemble(completion: str, name: str | None = None) -> str | None:
  """The program of an MBPP or APPS completion: `extract`, and no more."""
  return extract(completion, name=name)


def _blocks(text: str) -> list[tuple[str, str]]:
  """Fenced blocks: tag in lower case, body."""
  result, position = [], 0
  while opened := _FENCE.search(text, position):
    start = min(opened.end() + 1, len(text))
    mark = opened[1]
    closed = re.compile(
      rf'^[ \t]*{re.escape(mark)}[ \t]*$', re.MULTILINE
    ).search(text, start)
    end = closed.start() if closed else len(text)
    result.append((opened[2].lower(), text[start:end]))
    if not closed:
      break
    position = closed.end()
  return result


def _defines(text: str, name: str, *, margin: bool = False) -> bool:
  indent = '' if margin else r'[ \t]*'
  pattern = rf'^{indent}(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b'
  return re.search(pattern, text, re.MULTILINE) is not None


def _body(text: str) -> str:
  lines = text.lstrip('\n').split('\n')
  while lines and not lines[0].strip():
    lines.pop(0)
  code = [line for line in lines if line.strip()]
  if not code[0][0].isspace():
    others = [line for line in code[1:] if _at_margin(line)]
    if others:
      return '\n'.join(f'    {line}' if line.strip() else '' for line in lines)
    lines[0] = f'    {lines[0]}'
  for i, line in enumerate(lines):
    if i and _at_margin(line):
      lines = lines[:i]
      break
  return '\n'.join(lines) + '\n'


def _at_margin(line: str) -> bool:
  return bool(line) and not line[0].isspace() and line[0] not in ')]}'
