"""Imports point down; what is heavy or optional loads where it is used."""

import ast
import subprocess
import sys

import pytest

# From the bottom up; a module may import from its own layer only where no
# other rule forbids it, and from those before.
LAYERS = [
  ['configuration', '__init__', 'preemption'],
  ['storage'],
  ['leases', 'records'],
  ['manifests'],
  ['rewards'],
  ['evaluation'],
  ['partitioning', 'processes', 'layout'],
  ['models'],
  ['tasks'],
  ['sampling'],
  ['training'],
  [
    'prepare',
    'sample',
    'score',
    'selection',
    'train',
    'evaluate',
    'report',
    'preflight',
  ],
  [
    'grade',
    'check_task',
    'points',
    'jobs',
    'steps',
    'rest_em',
    'batch',
  ],
  ['gin_names', 'gin_flags'],
  ['gin_utils'],
  ['gin_tasks'],
  ['executors'],
  ['launcher'],
  ['main'],
]
LEVEL = {name: i for i, layer in enumerate(LAYERS) for name in layer}
STAGES = set(LAYERS[-8])


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


def test_every_module_has_its_layer_and_imports_only_from_below(root):
  for path in modules(root):
    own = path.relative_to(root / 'rest_jax').parts[0].removesuffix('.py')
    assert own in LEVEL, f'{path}: name its layer in this test'
    for name in imported(path):
      if name.startswith('rest_jax.'):
        other = name.split('.')[1]
        if other == '__version__':
          continue
        assert LEVEL[other] <= LEVEL[own], f'{path} imports {name}'


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
      assert path.name == 'gin_utils.py'


def test_only_prepares_tasks_name_tensorflow(root):
  # One module of training shows its rows to SeqIO's users; train has no need
  # of it and never imports it.
  shown = root / 'rest_jax' / 'training' / 'seqio_examples.py'
  for path in modules(root):
    if path == shown:
      continue
    for name in imported(path):
      if name.partition('.')[0] in (
        'tensorflow',
        'seqio',
        'tensorflow_datasets',
      ):
        where = path.relative_to(root / 'rest_jax').parts[0]
        assert where in ('prepare.py', 'tasks'), path


def test_there_is_no_package_named_gin(root):
  """It would shadow gin-config for everybody who works in the checkout."""
  assert not list((root / 'gin').rglob('__init__.py'))


LIGHT = ['score', 'selection', 'evaluate', 'report', 'rest_em', 'jobs']


@pytest.mark.parametrize(
  'module',
  [*LIGHT, 'rewards.pool', 'rewards.graders', 'gin_utils', 'launcher', 'main'],
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
  'stage', ['score', 'select', 'evaluate', 'report', 'rest_em']
)
@pytest.mark.parametrize('task', ['arithmetic', 'programs'])
def test_light_stages_stay_light_when_they_are_configured(stage, task):
  """Parsing a run's gin files must not import what other stages need."""
  script = (
    'import sys\n'
    'from rest_jax import gin_utils\n'
    f'gin_utils.parse({stage!r}, gin_files=["runs/{task}.gin"], bindings=['
    '"RUN_DIR=x", "EXAMPLES_DIR=e", "RESULTS_DIR=r", "POLICY_DIR=p"])\n'
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
