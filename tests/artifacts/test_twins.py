"""A folder that is made again and comes out the same keeps its digest."""

import dataclasses

import pytest
from artifacts.test_records import VERDICT

from rest_jax.artifacts import records, stage_work, storage, twins
from rest_jax.artifacts.records import Verdict


@pytest.fixture(params=['local', 'remote'])
def folder(request, tmp_path):
  if request.param == 'local':
    return storage.path(tmp_path) / 'problems' / 't' / 'train'
  return storage.path(f'{request.getfixturevalue("bucket")}/problems/t/train')


def make(folder, *, settings, outcome='correct'):
  with stage_work.work_on(
    folder,
    stage='score',
    kind=Verdict,
    semantic={'a': settings},
    inputs={},
    version=1,
  ) as work:
    row = dataclasses.replace(VERDICT, outcome=outcome)
    work.write(records.part_name(0, 1), [row], source=str(settings))
    return work.finish(twin=twins.of(work))


@pytest.mark.parametrize('level', [0, 1, 2])
def test_the_same_content_keeps_the_digest(folder, level):
  """The folder may have been set aside with a folder around it."""
  first = make(folder, settings=1)
  storage.set_aside([folder, *folder.parents][level])
  again = make(folder, settings=2)
  assert again.digest == first.digest
  assert again.fingerprint['semantic'] == {'a': 2}
  storage.set_aside(folder)
  other = make(folder, settings=2, outcome='wrong')
  assert other.digest != first.digest


def test_an_older_twin_is_found(folder):
  first = make(folder, settings=1)
  storage.set_aside(folder)
  make(folder, settings=1, outcome='wrong')
  storage.set_aside(folder)
  assert make(folder, settings=3).digest == first.digest


def test_what_another_stage_made_or_nobody_finished_is_no_twin(folder):
  make(folder, settings=1)
  aside = storage.set_aside(folder)
  text = (aside / 'manifest.json').read_text()
  (aside / 'manifest.json').write_text(text.replace('"score"', '"sample"'))
  first = make(folder, settings=2)
  (storage.set_aside(folder) / 'manifest.json').unlink()
  assert make(folder, settings=3).digest != first.digest


@pytest.mark.parametrize('how', ['no part', 'no manifest', 'broken manifest'])
def test_a_folder_that_was_cleared_out_is_no_twin(folder, how):
  make(folder, settings=1)
  aside = storage.set_aside(folder)
  if how == 'no part':
    (aside / records.part_name(0, 1)).unlink()
  elif how == 'no manifest':
    (aside / 'manifest.json').unlink()
  else:
    (aside / 'manifest.json').write_text('{')
  assert twins.superseded(folder) == []
  make(folder, settings=2)
