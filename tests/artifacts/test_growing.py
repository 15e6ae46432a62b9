"""A folder that another process grows is read as it is now."""

import os
import subprocess
import sys

import pytest

from rest_jax.artifacts import manifests, storage

GROW = """
import dataclasses, sys
sys.path[:0] = sys.argv[3:]
from artifacts.test_records import VERDICT
from rest_jax.artifacts import records, stage_work
count = int(sys.argv[2])
with stage_work.work_on(
  sys.argv[1], stage='score', kind=records.Verdict, version=1, inputs={},
  semantic={'num_samples': count}, growable=('num_samples',),
) as work:
  rows = [dataclasses.replace(VERDICT, sample_index=i) for i in range(count)]
  work.write(records.part_name(0, 1), rows, source=str(count))
  work.finish()
"""


@pytest.fixture(params=['local', 'remote'])
def folder(request, tmp_path):
  if request.param == 'local':
    return storage.path(tmp_path) / 'verdicts'
  return storage.path(f'{request.getfixturevalue("bucket")}/run/verdicts')


def grow(folder, count):
  paths = filter(None, sys.path)
  command = [sys.executable, '-c', GROW, os.fspath(folder), str(count), *paths]
  subprocess.run(command, check=True)


def test_a_folder_that_another_process_grew_is_read_as_it_is_now(folder):
  """The launcher has read the folder before its stage grows it."""
  for count in (1, 64):
    grow(folder, count)
    found = manifests.load(folder)
    assert found.is_whole()
    assert len(found.records()) == count
