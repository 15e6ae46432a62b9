"""From a completion to the program that runs: one rule per data set.

Before anything else, reasoning in <think> tags and end marks of tokenizers are
taken off, and text between lines [BEGIN] and [DONE], as MBPP's own prompt asks
for, is cut out.

The fenced block (fences.py). Of the blocks with code in them those tagged
python count, or, where none is tagged so, those without a tag. Of these the
last that defines the wanted function is taken, else the last. Earlier ones
that only define other things, of which it uses one (helpers, imports), stay
before it. Without a
fence the whole text is the program, without lines of prose before and behind
it.

The HumanEval completion, after that. It is a whole program if it defines the
entry point at the start of a line (def, class, an assignment or an import);
then it follows what stands before the entry point in the prompt (imports and
helpers). Otherwise it is a body, and follows the whole prompt: up to the first
later line that starts at the margin with anything but a comment or a closing
bracket, strings and brackets over several lines not counted. A body whose
first line alone lost its indentation gets it back; one that lost it on more
than one line gets it on all.

These rules look at text only. Nothing here parses or compiles what a model
wrote: that happens in the sandbox.
"""

import re

from rest_jax.rewards import end_marks, reasoning
from rest_jax.rewards.code import fences, source_lines

MAX_COMPLETION = 200_000  # characters; longer ones are no program
_BEGIN = re.compile(r'^[ \t]*\[BEGIN\][ \t]*\n?', re.MULTILINE)
_DONE = re.compile(r'^[ \t]*\[DONE\]|\[DONE\][ \t\n]*\Z', re.MULTILINE)
_KEYWORDS = frozenset(
  'and as assert async await break class continue def del elif else except '
  'exec finally for from global if import in is lambda match case nonlocal '
  'not or pass print raise return try type while with yield'.split()
)
_WORDS = re.compile(r'[>*#\-\s\d.()]*([A-Za-z][\w\'’-]*)[,:;]?(?:[ \t]+(\S+))?')
_DEFINITION = re.compile(
  r'(?:from|import|def|class|async def|@|#|[)\]}]|"""|\'\'\')|'
  r'[A-Za-z_]\w*(?:[ \t]*:[^=\n]+)?[ \t]*=(?!=)'
)
_NAME = re.compile(r'[A-Za-z_]\w*')
_DEFINED = re.compile(
  r'^(?:(?:async )?def|class)[ \t]+(\w+)'
  r'|^(?:from[ \t]+[\w.]+[ \t]+)?import[ \t]([^\n]*)'
  r'|^([A-Za-z_]\w*)[ \t]*(?::[^=\n]+)?=(?!=)',
  re.MULTILINE,
)
_CALL_OF_INPUT = re.compile(r'\binput[ \t]*\(|\bstdin\b|\bopen[ \t]*\(')


def extract(completion: str, *, name: str | None = None) -> str | None:
  """The program in a completion, by the rule above.

  Args:
    completion: the sampled text.
    name: of the function that the tests call; None for a whole program.

  Returns:
    Its text; None where there is nothing but white space, or too much.
  """
  if len(completion) > MAX_COMPLETION:
    return None
  text = completion.replace('\r\n', '\n').replace('\r', '\n')
  text = _without_marks(_without_reasoning(text.removeprefix('\ufeff')))
  text = _between_marks(text)
  found = fences.blocks(text)
  text = _chosen(found, name) if found else _without_prose(text)
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


# ---- what stands around a program -------------------------------------------


def _without_reasoning(text: str) -> str:
  answer = reasoning.removed(text)
  if answer == text or re.match(r'\s*[<\[]', text):
    return answer
  # A tag without an opening one before it may be a string of the program.
  place = len(text) - len(answer)
  tag = text[:place].rpartition('<' if '<' in text[:place] else '[')[0]
  quoted = tag.endswith(('"', "'")) or answer.startswith(('"', "'"))
  return text if quoted or not answer else answer


def _without_marks(text: str) -> str:
  """Up to the first end mark that is not in a string of its line."""
  text = end_marks.stripped(text)
  if '<' not in text:
    return text
  lines = text.split('\n')
  for number, line in enumerate(lines):
    before = end_marks.cut(line)
    if before != line and '"' not in before and "'" not in before:
      return '\n'.join([*lines[:number], before])
  return text


def _between_marks(text: str) -> str:
  begin = _BEGIN.search(text)
  text = text[begin.end() :] if begin else text
  done = _DONE.search(text)
  return text[: done.start()] if done else text


def _without_prose(text: str) -> str:
  """Without the lines of prose before and behind a program's code."""
  lines = text.split('\n')
  start = 0
  while start < len(lines) and (
    not lines[start].strip() or _prose(lines[start])
  ):
    start += 1
  if start == len(lines):
    return text  # all of it: let it crash as the program that it is
  end = len(lines)
  for number, (line, inside) in enumerate(
    source_lines.with_state(lines[start:]), start
  ):
    if not inside and _prose(line):
      end = number
      break
  return '\n'.join(lines[start:end])


def _prose(line: str) -> bool:
  """Whether a line at the margin is a sentence: no statement begins so.

  Two words beside each other, of which none is a keyword; or one word and a
  colon.
  """
  if not line or line[0].isspace() or line[0] in '#@"\'':
    return False
  words = _WORDS.match(line)
  if words is None or words[1] in _KEYWORDS:
    return False
  if words[2] is None:
    return line.rstrip().endswith((':', '.', '!')) and ' ' not in line.strip()
  return words[2][0].isalpha() and not fences.is_statement(line)


# ---- which blocks -----------------------------------------------------------


def _chosen(found: list[fences.Block], name: str | None) -> str:
  found = [block for block in found if _has_code(block.text)] or found
  first = found[0]
  if not first.fenced:
    first.text = _without_prose(first.text)
    later = [
      block for block in found[1:] if name and _defines(block.text, name)
    ]
    if not later:
      return first.text  # the prompt had opened this block
  bodies = [block.text for block in found if block.tag == fences.PYTHON]
  bodies = bodies or [b.text for b in found if b.tag == fences.NONE]
  bodies = bodies or [block.text for block in found]
  defining = [body for body in bodies if name and _defines(body, name)]
  last = (defining or bodies)[-1]
  if name and not _defines(last, name, margin=True):
    return last
  before = []
  missing = set(_NAME.findall(last)) - _defined(last)
  for body in bodies[: bodies.index(last)]:
    needed = missing & _defined(body) and not (name and _defines(body, name))
    if needed and _only_defines(body):
      before.append(body)
  return '\n'.join([*before, last])


def _defined(text: str) -> set[str]:
  """Names that a text defines at the margin."""
  return {
    name
    for found in _DEFINED.finditer(text)
    for name in _NAME.findall(found[1] or found[2] or found[3])
  }


def _has_code(text: str) -> bool:
  """Whether it is more than comments, and no session of an interpreter."""
  lines = [line.strip() for line in text.split('\n')]
  code = [line for line in lines if line and not line.startswith('#')]
  return bool(code) and not code[0].startswith(('>>>', '$ '))


def _only_defines(text: str) -> bool:
  """Whether it runs nothing: every line at the margin begins a definition."""
  lines = source_lines.with_state(text.split('\n'))
  margin = [line for line, inside in lines if not inside and _at_margin(line)]
  return not _CALL_OF_INPUT.search(text) and all(map(_DEFINITION.match, margin))


def _defines(text: str, name: str, *, margin: bool = False) -> bool:
  word = re.escape(name)
  indent = '' if margin else r'[ \t]*'
  pattern = (
    rf'^{indent}(?:async[ \t]+)?def[ \t]+{word}\b'
    rf'|^class[ \t]+{word}\b'
    rf'|^{word}[ \t]*(?::[^=\n]+)?=(?!=)'
    rf'|^(?:from[ \t]+[\w.]+[ \t]+)?import[ \t](?:[^\n]{{0,200}}[ \t,(])?{word}'
    r'[ \t]*(?:,|\)|#|$)'
  )
  return re.search(pattern, text, re.MULTILINE) is not None


# ---- a body -----------------------------------------------------------------


def _body(text: str) -> str:
  lines = text.lstrip('\n').split('\n')
  while lines and not lines[0].strip():
    lines.pop(0)
  if not lines[0][0].isspace():
    others = [
      line
      for line, inside in list(source_lines.with_state(lines))[1:]
      if not inside and _at_margin(line) and line[0] != '#'
    ]
    if others:
      return '\n'.join(f'    {line}' if line.strip() else '' for line in lines)
    lines[0] = f'    {lines[0]}'
  for i, (line, inside) in enumerate(source_lines.with_state(lines)):
    if i and not inside and _at_margin(line) and line[0] != '#':
      lines = lines[:i]
      break
  return '\n'.join(lines) + '\n'


def _at_margin(line: str) -> bool:
  return bool(line) and not line[0].isspace() and line[0] not in ')]}'
