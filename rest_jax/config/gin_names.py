"""Names and values of bindings as text: what the front end needs no gin for.

Quotes bare strings of the command line, finds the nearest valid name for a
misspelt one, and checks a binding of a stage that is not imported against the
source text of that stage.
"""

import ast
import contextlib
import difflib
import importlib.util
import os
import re
from collections.abc import Iterable, Mapping, Sequence

from rest_jax.config import configuration, gin_readers


def as_binding(argument: str) -> str:
  """`NAME=VALUE` with a bare string quoted, as gin wants it.

  Numbers, quoted strings, True, None, %MACRO, @reference and lists of these
  stay as they are; anything else is a string: RUN_DIR=runs/x, TASKS=[math].

  Raises:
    ConfigurationError: there is no NAME, or no `=`.
  """
  name, separator, value = argument.partition('=')
  name, value = name.strip(), value.strip()
  if not separator or not name:
    raise configuration.ConfigurationError(
      f'--gin.{argument}: expected --gin.NAME=VALUE.'
    )
  return f'{name} = {_quoted(value)}'


def _quoted(value: str) -> str:
  """A value as gin can parse it: quoted if it is a bare string."""
  if re.fullmatch(r'[%@][\w./]+(\(\))?', value):
    return value
  with contextlib.suppress(ValueError, SyntaxError):
    ast.literal_eval(value)
    return value
  if (
    value[:1] == '['
    and value[-1:] == ']'
    and not set(value[1:-1]) & set('[](){}"\'')
  ):
    words = [word.strip() for word in value[1:-1].split(',')]
    return '[' + ', '.join(_quoted(word) for word in words) + ']'
  if value[:1] in ('[', '(', '{') and ('@' in value or '%' in value):
    return value
  return repr(value)


def nearest(name: str, known: Iterable[str]) -> str:
  """A sentence for an error about an unknown name: the nearest known one."""
  known = sorted(known)
  if near := difflib.get_close_matches(name, known, n=1, cutoff=0.5):
    return f'Nearest: {near[0]}.'
  if len(known) <= 20:
    return f'Known: {", ".join(known)}.'
  return '--dry_run prints everything that is bound.'


def reached(text: str, bound: Mapping[str, str]) -> dict[str, str]:
  """The bindings that a text of gin refers to, directly or through others.

  Scopes and modules are not told apart, so that the result may hold bindings
  that are not used, but never lacks one that is.

  Args:
    text: of a gin file, or of values.
    bound: gin_parser.bindings(): macros as NAME, parameters as
      scope/module.Class.parameter, each with the text of its value.

  Returns:
    The macros that the text refers to, the parameters of every function or
    class that it names, and the same for the values of all of these.
  """
  owners: dict[str, list[str]] = {}
  for key in bound:
    if '/' in key:
      owners.setdefault(key.split('.')[-2], []).append(key)
  found, todo = {}, [text]
  while todo:
    text = todo.pop()
    keys = [name for name in re.findall(r'%(\w+)', text) if name in bound]
    for word in {*re.findall(r'\w+', text)}:
      keys += owners.get(word, ())
    for key in keys:
      if key not in found:
        found[key] = bound[key]
        todo.append(bound[key])
  return found


def require_file(file: str, places: Sequence[str]) -> None:
  """Raises ConfigurationError unless a gin file exists.

  Args:
    file: its path, relative to one of the places.
    places: folders; the last one is the package's own, whose files the error
      suggests.
  """
  everywhere = [os.path.join(place, file) for place in ('', *places)]
  if any(map(gin_readers.is_file, everywhere)):
    return
  known = []
  for root, _, names in os.walk(places[-1]):
    relative = os.path.relpath(root, places[-1])
    known += [os.path.normpath(os.path.join(relative, n)) for n in names]
  raise configuration.ConfigurationError(
    f'--gin_file={file}: not found in {", ".join(places)}. '
    f'{nearest(file, known)}'
  )


def users_file(file: str, search_paths: Sequence[str]) -> str | None:
  """Where a gin file lies; None: it comes with the package.

  Args:
    file: as it was given.
    search_paths: folders that are looked through before the working directory.
  """
  for place in (*search_paths, ''):
    path = os.path.join(place, file)
    if gin_readers.is_file(path):
      return path
  return None


def imported_modules(gin_directory: str) -> dict[str, str]:
  """Name to module, for all modules that the package's gin files import."""
  found = {}
  pattern = re.compile(r'^from ([\w.]+) import (\w+)(?: as (\w+))?', re.M)
  for root, _, names in os.walk(gin_directory):
    for name in names:
      if name.endswith('.gin'):
        with open(os.path.join(root, name)) as file:
          for package, stem, alias in pattern.findall(file.read()):
            found[alias or stem] = f'{package}.{stem}'
  found.pop('dynamic_registration', None)
  return found


def check_in_source(key: str, module: str) -> None:
  """Checks a binding against a module's source text, without importing it.

  Args:
    key: SCOPE/MODULE.NAME.FIELD, as on the command line.
    module: the full name of MODULE.

  Raises:
    ConfigurationError: the module has no NAME, or NAME has no FIELD.
  """
  _, name, field = (*key.rpartition('/')[2].split('.'), '', '')[:3]
  nodes = _definitions(_source(module))
  where = f'--gin.{key}'
  if name not in nodes:
    raise configuration.ConfigurationError(
      f'{where}: {module} has no {name!r}. {nearest(name, nodes)}'
    )
  fields = _parameters(module, name)
  if field not in fields:
    raise configuration.ConfigurationError(
      f'{where}: {name} has no parameter {field!r}. {nearest(field, fields)}'
    )


def _source(module: str) -> list[ast.stmt]:
  """The parsed statements of a module's file."""
  with open(importlib.util.find_spec(module).origin) as file:
    return ast.parse(file.read()).body


def _definitions(body: Iterable[ast.stmt]) -> dict[str, ast.stmt]:
  """The functions and classes of a module by name."""
  kinds = (ast.FunctionDef, ast.ClassDef)
  return {node.name: node for node in body if isinstance(node, kinds)}


def _parameters(module: str, name: str) -> list[str]:
  """Parameters of a function, or fields of a class and of its bases here."""
  body = _source(module)
  node = _definitions(body).get(name)
  if isinstance(node, ast.FunctionDef):
    return [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]
  if node is None:
    return []
  fields = [
    n.target.id
    for n in node.body
    if isinstance(n, ast.AnnAssign)
    and not ast.unparse(n.annotation).startswith('ClassVar')
  ]
  origins = {
    alias.asname or alias.name: (n.module, alias.name)
    for n in body
    if isinstance(n, ast.ImportFrom)
    for alias in n.names
  }
  for base in node.bases:
    place, _, attribute = ast.unparse(base).rpartition('.')
    if place:  # MODULE.CLASS
      package, stem = '.'.join(origins.get(place, ())), attribute
    else:
      package, stem = origins.get(attribute, (module, attribute))
    if package.startswith('rest_jax'):
      fields += _parameters(package, stem)
  return fields
