"""Imports point down; what is heavy or optional loads where it is used."""

import ast
import subprocess
import sys

import pytest

# The folders from the bottom up: a module imports from its own folder and from
# those before it. docs/architecture.md draws the same order.
FOLDERS = (
  'config',
  'artifacts',
  'distributed',
  'tokenizers',
  'rewards',
  'tasks',
  'models',
  'sampling',
  'evaluation',
  'selection',
  'training',
  'reporting',
  'integrations',
  'executors',
  'pipeline',
  'costs',
)
STAGES = {
  'prepare',
  'sample',
  'score',
  'select_examples',
  'train',
  'grade_dval',
  'evaluate',
  'report',
  'preflight',
}
# Above the folders: a plan or a stage may import any folder but `commands`.
TOP = ('rest_em', 'command_line', *sorted(STAGES))
LEVEL = {
  **{folder: i for i, folder in enumerate(FOLDERS)},
  '__init__': -1,
  **dict.fromkeys(TOP, len(FOLDERS)),
  'commands': len(FOLDERS) + 1,
  'main': len(FOLDERS) + 2,
}


def modules(root):
  return sorted((root / 'rest_jax').rglob('*.py'))


def imported(path):
  """Names of the modules that a file imports, anywhere in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: a relative import'
      names = [node.module]
      if node.module == 'rest_jax':
        names = [f'rest_jax.{alias.name}' for alias in node.names]
    else:
      continue
    yield from names


def graph(root):
  """Module to the modules of the package that it imports, anywhere in it."""
  paths = {
    '.'.join(path.relative_to(root).with_suffix('').parts).removesuffix(
      '.__init__'
    ): path
    for path in modules(root)
  }
  result = {}
  for module, path in paths.items():
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        found |= {alias.name for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        # `from package import module`, or `from module import name`.
        for alias in node.names:
          whole = f'{node.module}.{alias.name}'
          found.add(whole if whole in paths else node.module)
    result[module] = {name for name in found if name in paths} - {module}
  return result


def test_every_folder_has_its_place_and_imports_only_from_below(root):
  for module, found in graph(root).items():
    own = (module.split('.') + ['__init__'])[1]
    assert own in LEVEL, f'{module}: give its folder a place in this test'
    for name in found - {'rest_jax'}:
      assert LEVEL[name.split('.')[1]] <= LEVEL[own], f'{module} -> {name}'


def test_no_modules_import_each_other_in_a_circle(root):
  """Imports inside functions count: they only hide a circle."""
  left = graph(root)
  while True:
    free = {name for name, found in left.items() if not found & set(left)}
    if not free:
      break
    left = {name: found for name, found in left.items() if name not in free}
  assert not left, f'in circles, or above one: {sorted(left)}'


def test_a_module_keeps_its_name_where_it_is_imported(root):
  known = {name.rpartition('.')[2] for name in graph(root)}
  for path in modules(root):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and node.module.startswith(
        'rest_jax'
      ):
        for alias in node.names:
          renamed = alias.asname not in (None, alias.name)
          assert not (renamed and alias.name in known), (path, alias.name)


def test_stages_never_import_each_other(root):
  for stage in STAGES:
    path = root / 'rest_jax' / f'{stage}.py'
    if path.exists():
      others = {name.split('.')[1] for name in imported(path) if '.' in name}
      assert not (others & STAGES) - {stage}, path


def test_only_the_front_door_imports_gin(root):
  for path in modules(root):
    names = {name.partition('.')[0] for name in imported(path)}
    if 'gin' in names:
      assert path.name in ('gin_parser.py', 'gin_checks.py')


def test_only_prepares_tasks_name_tensorflow(root):
  for path in modules(root):
    for name in imported(path):
      if name.partition('.')[0] in (
        'tensorflow',
        'seqio',
        'tensorflow_datasets',
      ):
        where = path.relative_to(root / 'rest_jax').parts[0]
        assert where in ('integrations', 'tasks'), path


def test_there_is_no_package_named_gin(root):
  """It would shadow gin-config for everybody who works in the checkout."""
  assert not list((root / 'gin').rglob('__init__.py'))


LIGHT = [
  *('score', 'grade_dval', 'select_examples', 'evaluate', 'report', 'rest_em'),
]


@pytest.mark.parametrize(
  'module',
  [*LIGHT, 'rewards.pool', 'rewards.registry', 'pipeline.launcher', 'main'],
)
def test_light_modules_load_neither_jax_nor_tensorflow(module):
  script = (
    f'import sys, rest_jax.{module}\n'
    'heavy = {"jax", "jaxlib", "tensorflow", "flax", "seqio", "torch"}\n'
    'print(sorted(heavy & set(sys.modules)))\n'
  )
  assert subprocess.check_output([sys.executable, '-c', script], text=True) == (
    '[]\n'
  )


@pytest.mark.parametrize(
  'stage',
  ['score', 'grade_dval', 'select', 'evaluate', 'report', 'rest_em'],
)
@pytest.mark.parametrize('task', ['arithmetic', 'programs'])
def test_light_stages_stay_light_when_they_are_configured(stage, task):
  """Parsing a run's gin files must not import what other stages need."""
  script = (
    'import sys\n'
    'from rest_jax.config import gin_parser\n'
    f'gin_parser.parse({stage!r}, gin_files=["runs/{task}.gin"], bindings=['
    '"RUN_DIR=x", "EXAMPLES_DIR=e", "RESULTS_DIR=r", "POLICY_DIR=p", '
    '"CHECKPOINTS_DIR=c"])\n'
    'print(sorted({"jax", "tensorflow"} & set(sys.modules)))\n'
  )
  assert subprocess.check_output([sys.executable, '-c', script], text=True) == (
    '[]\n'
  )


@pytest.mark.parametrize('module', ['sample', 'train', 'prepare'])
def test_heavy_stages_load_no_tensorflow(module):
  script = (
    f'import sys, rest_jax.{module}\n'
    'print(sorted({"tensorflow", "seqio"} & set(sys.modules)))\n'
  )
  assert subprocess.check_output([sys.executable, '-c', script], text=True) == (
    '[]\n'
  )
