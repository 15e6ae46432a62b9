"""The report names where an M-step's wall time went, also while it goes."""

import pytest

from rest_jax.artifacts import goodput, stage_work, storage
from rest_jax.reporting import m_step_reader


def work_on(folder):
  return stage_work.work_on(
    folder, stage='train', kind=None, semantic={}, inputs={}, version=1
  )


def test_the_wall_time_is_the_clocks_and_then_the_manifests(tmp_path):
  folder = storage.path(tmp_path / 'checkpoints')
  with work_on(folder) as work:
    found = m_step_reader.m_step(folder, {})
    assert not found.seconds  # nothing was counted yet
    storage.write_json(
      folder / goodput.CLOCK, {'parts': {'steps': 30.0, 'validation': 10.0}}
    )
    found = m_step_reader.m_step(folder, {})
    assert (found.wall, found.goodput) == (40.0, 0.75)
    assert found.shares_of(['validation', 'lost']) == [0.25, 0.0]
    seconds = {'steps': 90.0, 'lost': 10.0, 'data': 0.1}
    work.finish(statistics={}, recorded={'seconds': seconds})
  found = m_step_reader.m_step(folder, {})
  assert found.goodput == pytest.approx(90 / 100.1)


def test_an_m_step_of_an_older_version_has_no_times(tmp_path):
  folder = storage.path(tmp_path / 'checkpoints')
  with work_on(folder) as work:
    work.finish(statistics={}, recorded={})
  assert not m_step_reader.m_step(folder, {}).seconds
