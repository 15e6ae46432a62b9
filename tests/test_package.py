"""What is installed: a wheel with the gin files; packages that agree."""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope='module')
def wheel(tmp_path_factory, request):
  """A wheel built without the network, from a copy without build leftovers."""
  import shutil

  if importlib.util.find_spec('setuptools') is None:
    pytest.skip('setuptools is not installed: extra dev')
  root = request.config.rootpath
  source = tmp_path_factory.mktemp('source')
  for name in ('rest_jax', 'gin'):
    shutil.copytree(
      root / name,
      source / name,
      ignore=shutil.ignore_patterns('__pycache__', '*.egg-info'),
    )
  for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
    if (root / name).exists():
      shutil.copy(root / name, source)
  out = tmp_path_factory.mktemp('wheel')
  subprocess.run(
    [
      *(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--quiet'),
      *('--no-build-isolation', '--wheel-dir', str(out), str(source)),
    ],
    check=True,
    capture_output=True,
  )
  return next(out.glob('*.whl'))


def test_the_wheel_holds_the_package_all_gin_files_and_nothing_else(
  wheel, root
):
  names = set(zipfile.ZipFile(wheel).namelist())
  code = {
    str(path.relative_to(root)) for path in (root / 'rest_jax').rglob('*.py')
  }
  gin = {
    f'rest_jax/gin_files/{path.relative_to(root / "gin")}'
    for path in (root / 'gin').rglob('*.gin')
  }
  assert code | gin <= names
  others = {n for n in names - code - gin if '.dist-info/' not in n}
  assert all(n.startswith('rest_jax/') for n in others), others
  assert not any(n.startswith(('gin/', 'tests/', 'launch/')) for n in names)


def test_an_installed_wheel_finds_its_gin_files(wheel, tmp_path):
  zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
  script = (
    'import rest_jax\n'
    'from rest_jax.config import gin_parser, packaged_gin\n'
    'print(rest_jax.__file__)\n'
    'print(packaged_gin.directory())\n'
    'found = gin_parser.parse("score", bindings=["NUM_WORKERS=3"])[1]\n'
    'print(found["num_workers"])\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(tmp_path / 'site')},
    capture_output=True,
    text=True,
  )
  site = str(tmp_path / 'site' / 'rest_jax')
  assert done.stdout.split() == [
    f'{site}/__init__.py',
    f'{site}/gin_files',
    '3',
  ], done.stderr


def setup_arguments(root):
  """The keyword arguments of setup(), without running it."""
  import setuptools

  seen = {}
  original, setuptools.setup = setuptools.setup, lambda **k: seen.update(k)
  try:
    path = str(root / 'setup.py')
    code = compile((root / 'setup.py').read_text(), path, 'exec')
    here = os.getcwd()
    os.chdir(root)
    exec(code, {'__file__': path, '__name__': 'setup'})
    os.chdir(here)
  finally:
    setuptools.setup = original
  return seen


def requirements(root, *, without=()):
  arguments = setup_arguments(root)
  extras = arguments['extras_require']
  return [
    *arguments['install_requires'],
    *(r for name in extras for r in extras[name] if name not in without),
  ]


def test_requirements_are_released_packages_with_bounds(root):
  from packaging.requirements import Requirement

  for text in requirements(root):
    one = Requirement(text)
    assert one.url is None, text
    operators = {specifier.operator for specifier in one.specifier}
    if one.name not in ('wheel',):
      assert '>=' in operators, text
    if one.name not in ('fsspec', 'gcsfs', 'setuptools', 'wheel'):
      assert '<' in operators, f'{text}: no upper bound'


@pytest.mark.parametrize('python', ['3.11', '3.12'])
def test_constraints_are_plain_pins_within_the_bounds(root, python):
  from packaging.requirements import Requirement

  pins = {}
  file = root / f'third_party/constraints-{python}.txt'
  for line in file.read_text().splitlines():
    if line.startswith('#'):
      continue
    assert re.fullmatch(r'[a-z0-9.-]+==[0-9][\w.+!]*', line), line
    name, version = line.split('==')
    assert name not in pins
    pins[name] = version
  # xm is installed apart (third_party/README.md).
  for text in requirements(root, without=['xm']):
    one = Requirement(text)
    assert pins[one.name.lower()] in one.specifier, text


def test_packages_are_ours_alone(root):
  packages = setup_arguments(root)['packages']
  assert all(p.split('.')[0] == 'rest_jax' for p in packages)


MODULES = """
  jax flax optax orbax.checkpoint seqio tensorflow tensorflow_text
  tensorflow_datasets sentencepiece gin pyarrow etils.epath gcsfs tensorboard
  transformers tokenizers gguf safetensors jinja2 rich
""".split()


def test_everything_that_is_installed_can_be_imported_together(root):
  missing = []
  for name in MODULES:
    if importlib.util.find_spec(name.split('.')[0]) is None:
      missing.append(name)
  present = [name for name in MODULES if name not in missing]
  done = subprocess.run(
    [sys.executable, '-c', f'import {", ".join(present)}'],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  extra = {'transformers', 'tokenizers', 'gguf', 'safetensors'}
  assert set(missing) <= extra, 'a core dependency is not installed'


def test_the_console_script_is_the_command_line(root):
  scripts = setup_arguments(root)['entry_points']['console_scripts']
  assert scripts == ['rest-jax = rest_jax.main:main']
  try:
    importlib.metadata.distribution('rest_jax')
  except importlib.metadata.PackageNotFoundError:
    pytest.skip('rest_jax is not installed in this environment')
  found = importlib.metadata.entry_points(name='rest-jax')
  assert {entry.value for entry in found} == {'rest_jax.main:main'}
