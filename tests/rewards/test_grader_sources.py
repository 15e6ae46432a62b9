"""The files of a user's grader are found, and it is not imported."""

import sys

import pytest

from rest_jax.rewards import grader_sources, registry

FILES = {
  'grading/__init__.py': '',
  'grading/mine.py': 'from . import near\nfrom grading.deep.one import f\n'
  'import json, numpy, outside\nfrom rest_jax.rewards import verdicts\n'
  'raise SystemExit("imported")\n',
  'grading/near.py': 'def g():\n  import grading.late as late\n',
  'grading/late.py': '',
  'grading/deep/__init__.py': 'raise SystemExit("imported")\n',
  'grading/deep/one.py': 'from ..near import g\n',
  'grading/unused.py': '',
  'outside.py': 'from grading import mine\n',
}
USED = sorted(set(FILES) - {'grading/unused.py'})


@pytest.fixture
def folder(tmp_path, monkeypatch):
  for name, text in FILES.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  yield tmp_path
  for name in [n for n in sys.modules if n.partition('.')[0] == 'grading']:
    del sys.modules[name]


def test_a_module_and_what_it_imports_from_beside_it(folder):
  (folder / 'grading' / '__init__.py').write_text('from . import near')
  (folder / 'outside.py').write_text('import grading.mine')
  found = grader_sources.files('outside')
  # The parent package of a dotted name would be imported to find it.
  names = [str(file.relative_to(folder)) for file in found]
  assert names[0] == 'outside.py'
  assert sorted(names) == sorted([*USED])


@pytest.mark.parametrize('edited', ['outside.py', 'grading/late.py'])
def test_an_edit_of_any_of_them_is_another_version(folder, edited):
  (folder / 'outside.py').write_text('import grading.mine')
  before = registry.label('outside:grade')
  assert before.startswith('outside:grade/')
  assert registry.label('outside:grade') == before
  (folder / edited).write_text((folder / edited).read_text() + '\n')
  assert registry.label('outside:grade') != before


def test_an_edit_beside_them_is_none(folder):
  before = registry.label('outside:grade')
  (folder / 'grading' / 'unused.py').write_text('x = 1')
  assert registry.label('outside:grade') == before


@pytest.mark.parametrize(
  'name', ['no_such_module:grade', 'no.such:grade', 'misspelt', 'sys:exit']
)
def test_what_is_not_there_has_no_label(name):
  assert registry.label(name) is None


def test_a_library_is_not_searched(folder):
  found = grader_sources.files('json')
  assert found and all(file.parent.name == 'json' for file in found)


def test_the_label_is_that_of_the_verdicts(folder):
  (folder / 'plain.py').write_text(
    'def grade(completion, reference, *, finish_reason=None): pass\n'
  )
  assert registry.get('plain:grade').label == registry.label('plain:grade')
  assert registry.label('number') == registry.get('number').label


def test_a_file_with_an_error_has_a_version_too(folder):
  (folder / 'broken.py').write_text('def grade(:')
  assert len(grader_sources.files('broken')) == 1
