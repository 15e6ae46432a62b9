"""The source files of a user's own grader, found without importing it.

A grader is its module and the modules beside it that it imports: an edit of
any of them may change its verdicts. What is installed (a library, rest_jax) is
not looked at: its text changes with every upgrade.
"""

import ast
import hashlib
import importlib.util
import os
import pathlib
import sys
import sysconfig
from collections.abc import Iterator

_OURS = 'rest_jax'


def version(path: str) -> str | None:
  """A short digest of a grader's source; None where it is not found.

  Args:
    path: 'module:function'; the module is looked for where Python would, and
      in the working directory.
  """
  found = files(path.partition(':')[0])
  if not found:
    return None
  total = hashlib.sha256()
  for file in found:
    total.update(file.read_bytes())
  return total.hexdigest()[:8]


def files(module: str) -> list[pathlib.Path]:
  """The module's file, then those that it imports from beside it, by path.

  Args:
    module: its full name.

  Returns:
    Nothing where there is no such module, or it has no file.
  """
  first = _file(module)
  if first is None:
    return []
  root = first.parent
  for _ in range(module.count('.') + (first.name == '__init__.py')):
    root = root.parent
  installed = root in _installed()
  top = module.partition('.')[0]
  known, todo = {first: module}, [first]
  while todo:
    file = todo.pop()
    for name in _imports(file, known[file]):
      base = name.partition('.')[0]
      if base == _OURS or (installed and base != top):
        continue
      place = root.joinpath(*name.split('.'))
      for found in (place.with_suffix('.py'), place / '__init__.py'):
        if found.is_file() and found not in known:
          known[found] = name
          todo.append(found)
  return [first, *sorted(set(known) - {first})]


def _file(module: str) -> pathlib.Path | None:
  """The file of a module; of a package, its __init__.py."""
  if os.getcwd() not in sys.path:  # a console script does not look there
    sys.path.append(os.getcwd())
  try:
    spec = importlib.util.find_spec(module)
  except (ImportError, ValueError, AttributeError):
    return None
  if spec is None or not spec.has_location or not spec.origin:
    return None
  return pathlib.Path(spec.origin).absolute()


def _installed() -> set[pathlib.Path]:
  """The folders of installed packages and of the standard library."""
  names = ('stdlib', 'platstdlib', 'purelib', 'platlib')
  return {pathlib.Path(sysconfig.get_path(name)) for name in names}


def _imports(file: pathlib.Path, module: str) -> Iterator[str]:
  """Full names of what a file imports, anywhere in it; some may be no module.

  Args:
    file: of Python source; of any other (a compiled module) there are none.
    module: its full name.
  """
  if file.suffix != '.py':
    return
  try:
    tree = ast.parse(file.read_bytes())
  except (SyntaxError, ValueError):
    return  # whoever imports it says so
  package = module.split('.')
  if file.name != '__init__.py':
    package = package[:-1]
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      above = len(package) - node.level + 1 if node.level else 0
      start = [*package[: max(above, 0)], *(node.module or '').split('.')]
      base = '.'.join(filter(None, start))
      names = [base, *(f'{base}.{a.name}'.lstrip('.') for a in node.names)]
    else:
      continue
    for name in filter(None, names):
      parts = name.split('.')
      for end in range(1, len(parts) + 1):  # a package's __init__.py runs too
        yield '.'.join(parts[:end])
