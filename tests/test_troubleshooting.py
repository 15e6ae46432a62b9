"""Every message that docs/troubleshooting.md quotes is one that we print."""

import ast
import re

import pytest


def texts(tree):
  """The strings of a module but docstrings; \\0: what is filled in."""
  docstrings = {
    id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)
  }
  for node in ast.walk(tree):
    if id(node) in docstrings:
      continue
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
      yield node.value
    elif isinstance(node, ast.JoinedStr):
      yield ''.join(
        part.value if isinstance(part, ast.Constant) else '\0'
        for part in node.values
      )
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
      sides = [list(texts(side))[:1] for side in (node.left, node.right)]
      if all(sides):
        yield sides[0][0] + sides[1][0]


@pytest.fixture(scope='module')
def printed():
  import conftest

  modules = (conftest.ROOT / 'rest_jax').rglob('*.py')
  return [
    text for path in modules for text in texts(ast.parse(path.read_text()))
  ]


def quotes(root):
  page = (root / 'docs' / 'troubleshooting.md').read_text()
  for row in re.findall(r'^\| (.+?) \|', page, re.M):
    yield from re.findall(r'`([^`]+)`', row)


def stands_in(quote, text):
  """Whether the pieces between the dots follow each other in the text."""
  pieces = [re.escape(p.strip()) for p in quote.split('…') if p.strip()]
  return bool(re.search(r'[^\n]*\0[^\n]*?'.join(pieces), text))


def test_every_quoted_message_is_one_that_is_printed(root, printed):
  found = list(quotes(root))
  assert len(found) > 15
  lost = [q for q in found if not any(stands_in(q, text) for text in printed)]
  assert not lost


def test_a_message_that_nobody_prints_is_found(printed):
  quote = 'step …: the loss was …'
  assert not any(stands_in(quote, text) for text in printed)
