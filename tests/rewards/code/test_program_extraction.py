"""From completions to programs: one rule, and what follows from it."""

import time

import pytest

from rest_jax.rewards.code import program_extraction

PROMPT = (
  'from typing import List\n\n\ndef helper(x):\n    return x + 1\n\n\n'
  'def add(a: int, b: int) -> int:\n    """Adds."""\n'
)


def adds(program):
  """Whether a program's add() adds; these programs are our own."""
  space = {}
  exec(program, space)
  return space['add'](2, 3) == 5


def test_a_fenced_block_is_taken_without_its_fence():
  assert (
    program_extraction.extract('Here:\n```python\nx = 1\n```\nDone.')
    == 'x = 1\n'
  )


@pytest.mark.parametrize('tag', ['python', 'py', 'Python', 'python3'])
def test_tagged_blocks_come_before_others(tag):
  text = f'```{tag}\nx = 1\n```\nIt prints\n```\n5\n```\n```bash\nls\n```\n'
  assert program_extraction.extract(text) == 'x = 1\n'


def test_the_last_block_is_taken():
  text = '```python\nx = 1\n```\nNo:\n```python\nx = 2\n```'
  assert program_extraction.extract(text) == 'x = 2\n'


def test_the_last_block_that_defines_the_function_is_taken():
  text = (
    '```python\ndef f(): return 1\n```\n```python\ndef f(): return 2\n```\n'
    'Use:\n```python\nprint(f())\n```'
  )
  assert program_extraction.extract(text, name='f') == 'def f(): return 2\n'
  assert program_extraction.extract(text, name='g') == 'print(f())\n'


def test_a_block_that_is_not_closed_ends_with_the_text():
  assert program_extraction.extract('```python\nx = 1\n') == 'x = 1\n'


def test_untagged_blocks_count_where_no_other_is_there():
  assert program_extraction.extract('```\nx = 1\n```') == 'x = 1\n'


def test_text_without_a_fence_is_the_program():
  assert program_extraction.extract('x = "``"\n') == 'x = "``"\n'


def test_a_longer_fence_holds_a_shorter_one():
  text = '````python\nx = """\n```\n"""\n````\n'
  assert program_extraction.extract(text) == 'x = """\n```\n"""\n'


def test_mbpps_marks_are_cut():
  text = '[BEGIN]\nx = 1\n[DONE]\nYou are\n[BEGIN]\nx = 2\n[DONE]'
  assert program_extraction.extract(text).strip() == 'x = 1'


@pytest.mark.parametrize('text', ['', ' \n\t', '```python\n\n```', 'x' * 10**6])
def test_nothing_is_no_program(text):
  assert program_extraction.extract(text) is None
  assert program_extraction.assemble_humaneval(PROMPT, text, 'add') is None


@pytest.mark.parametrize(
  'completion',
  [
    '    return a + b\n',
    '\n    return a + b',
    'return a + b',  # the indentation was stripped
    '    c = a\n    return c + b\n',
    'c = a\n    return c + b\n',  # … from the first line
    'c = a\nreturn c + b\n',  # … from all lines
    'if a:\n    return a + b\nreturn b\n',
    'def add(a, b):\n    return a + b\n',
    'def add(a: int, b: int) -> int:\n    return helper(a) + b - 1\n',
    'import math\n\ndef add(a, b):\n    return math.floor(a + b)\n',
    PROMPT + '    return a + b\n',
    '```python\n    return a + b\n```',
    'Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds.',
    '```\nreturn a + b\n```',
    '    return a + b\n\ndef other(:\n  nonsense',  # ran on
    '    return a + b\nprint(nonsense)',
    '    c = [\na,\nb,\n]\n    return sum(c)\n'.replace('\na,\nb,\n', 'a, b\n'),
    '    def inner():\n        return a\n    return inner() + b\n',
  ],
)
def test_a_body_a_function_and_a_block_all_become_the_program(completion):
  assert adds(program_extraction.assemble_humaneval(PROMPT, completion, 'add'))


def test_the_prompts_helpers_and_imports_stay_before_a_whole_function():
  program = program_extraction.assemble_humaneval(
    PROMPT, 'def add(a, b):\n    x: List = []\n    return helper(a)', 'add'
  )
  assert program.count('def add') == 1
  assert 'def helper' in program and 'import List' in program


def test_a_function_with_a_longer_name_is_not_the_function():
  body = '    return add_one(a) + b - 1\n\ndef add_one(x):\n    return 0\n'
  program = program_extraction.assemble_humaneval(PROMPT, body, 'add')
  assert 'def add_one' not in program  # it ran on, and is cut


def test_windows_line_ends_do_not_matter():
  assert adds(
    program_extraction.assemble_humaneval(
      PROMPT, '```python\r\ndef add(a, b):\r\n    return a + b\r\n```', 'add'
    )
  )


FENCED_DOCSTRING = (
  'def add(a, b):\n    """Adds.\n\n```python\nadd(1, 2)\n```\n    """\n'
  '    return a + b\n'
)


@pytest.mark.parametrize(
  'completion',
  [
    '    return a + b\n```',
    '    return a + b```',
    '    return a + b\n```\n\nThis adds the two.\n```python\nadd(1, 2)\n```',
    'The code: ```python\ndef add(a, b):\n    return a + b\n```',
    '```python\ndef add(a, b):\n    return a + b```',
    '```python\ndef add(a, b):\n    return a + b\n``` Hope this helps!',
    '1. ```python\n   def add(a, b):\n       return a + b\n   ```',
    '- So:\n\n  ~~~py\n  def add(a, b):\n\n    return a + b\n  ~~~',
    '> ```python\n> def add(a, b):\n>     return a + b\n> ```',
    '```{python}\ndef add(a, b):\n    return a + b\n```',
    '```Python3.11 title="x"\ndef add(a, b):\n    return a + b\n```',
    '```python\nx = 1\n```python\ndef add(a, b):\n    return a + b\n```',
    FENCED_DOCSTRING,
    f'```python\n{FENCED_DOCSTRING}```',
    '```python\nadd = lambda a, b: a + b\n```',
    '```python\nclass S:\n    def add(self, a, b): return a + b\n\n'
    'add = S().add\n```',
    '```python\nfrom operator import mul, add\n```',
    '```python\ndef one(x): return x\n```\nThen\n'
    '```python\ndef add(a, b): return one(a) + one(b)\n```',
    '    c = a\n# now add b\n    c += b\n    return c\n',
    '    """\nAt the margin\n    """\n    return a + b\n',
    '    c = [\na,\nb]\n    return sum(c)\n',
    'Here is the function:\n\ndef add(a, b):\n    return a + b\n\n'
    'It adds a and b.\n',
    '<think>\n```python\ndef add(a, b): return 0\n```\n</think>\n'
    '```python\ndef add(a, b): return a + b\n```',
    '    return a + b<|endoftext|>\nHuman: thanks',
    '```python\ndef add(a, b): return a + b\n```<|im_end|>',
  ],
)
def test_a_program_is_found_as_people_write_it(completion):
  assert adds(program_extraction.assemble_humaneval(PROMPT, completion, 'add'))


@pytest.mark.parametrize(
  'program',
  [
    'print("[DONE]")\n',
    'print("</think>")\n',
    's = "</s>"\nprint(s)\n',
    'print("```")\n',
    'x = """\n```\n[a]\n```\n"""\n',
    'import sys\nfor line in sys.stdin: print(line)\n',
  ],
)
def test_what_stands_in_a_string_is_the_programs(program):
  assert program_extraction.extract(program) == program
  assert program_extraction.extract(f'```python\n{program}```') == program


@pytest.mark.parametrize(
  'text', ['<think>not over\n```python\nx = 1\n```', '<think>a</think>\n']
)
def test_reasoning_alone_is_no_program(text):
  assert program_extraction.extract(text) is None


def test_a_block_without_code_does_not_count():
  text = '```python\nx = 1\n```\nTry:\n```python\n# input: 3\n```\n'
  assert program_extraction.extract(text) == 'x = 1\n'
  text = '```python\nx = 1\n```\n```python\n>>> x\n1\n```\n'
  assert program_extraction.extract(text) == 'x = 1\n'


def test_looking_for_a_program_is_linear_in_the_text():
  start = time.process_time()
  for piece in ('    ', '```\n', '```a', 'a```\n', '"', '(', 'a ', '> ', '1. '):
    text = piece * (200_000 // len(piece))
    program_extraction.assemble_humaneval(PROMPT, text, 'add')
  assert time.process_time() - start < 20  # a quadratic search took minutes
