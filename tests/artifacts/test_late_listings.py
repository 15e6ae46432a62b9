"""A store whose listings are late: what they show must not decide anything.

A new object is not listed, one that was deleted still is, for longer than a
test lasts. Objects themselves are read as they are.
"""

import pytest
from artifacts.test_stage_work import stage

from rest_jax.artifacts import (
  manifests,
  records,
  storage,
  workers,
)
from rest_jax.executors.jobs import Job
from rest_jax.executors.ledger import Configuration, Ledger


@pytest.fixture
def late(store, bucket):
  store.stale_seconds = 1000.0
  return bucket


def test_a_finished_folder_is_done_though_its_parts_are_not_listed(late):
  folder, made = storage.path(f'{late}/run/verdicts'), []
  first = stage(folder, made=made)
  assert storage.names_in(folder) == set()
  assert first.is_whole()
  assert stage(folder, made=made).digest == first.digest
  assert made == [0, 1, 2]
  (folder / records.part_name(1, 3)).unlink()
  assert not first.is_whole()


def test_a_killed_stage_keeps_the_parts_that_are_not_listed(late):
  folder, made = storage.path(f'{late}/run/verdicts'), []
  with pytest.raises(KeyError):
    stage(folder, stop=2, made=made)
  stage(folder, made=made)
  assert made == [0, 1, 2]


def test_what_is_listed_and_gone_stops_neither_an_end_nor_a_move(store, bucket):
  folder = storage.path(f'{bucket}/run/verdicts')
  with pytest.raises(KeyError):
    stage(folder, parts=4, stop=3)
  store.stale_seconds = 1000.0
  for old in store.objects.values():
    old.since = float('-inf')  # all of it is listed
  gone = records.part_name(0, 4)
  store.delete(f'bucket/run/verdicts/{gone}')
  assert gone in storage.names_in(folder)
  done = stage(folder, parts=2)
  assert [row['name'] for row in done.parts] == [
    records.part_name(number, 2) for number in range(2)
  ]
  target = storage.set_aside(
    folder, last=(manifests.STARTED, manifests.MANIFEST)
  )
  # The new manifest is not listed; left behind, it would make the folder done.
  assert manifests.load_if_done(folder) is None
  assert manifests.load_if_done(target).digest == done.digest


def test_a_part_has_one_claimant_and_a_claim_given_up_holds_nobody_off(late):
  name = records.part_name(0, 1)
  folder = f'{late}/folder'
  with (
    workers.Claims(folder, purpose='first') as first,
    workers.Claims(folder, purpose='second') as second,
  ):
    assert first.take(name)
    assert not second.take(name)
    first.give_up(name)
    assert second.take(name) and not first.take(name)
  workers.require_none(folder, purpose='alone')


def test_workers_that_fill_a_folder_make_each_part_once(late):
  folder = storage.path(f'{late}/run/verdicts')
  made = []
  for index in (0, 1):
    worker = workers.Worker(index=index, number=2)
    stage(folder, made=made, worker=worker)
  assert made == [0, 1, 2]


def test_the_ledger_knows_a_job_as_done_at_once(late):
  run = f'{late}/run'
  job = Job(name='a', stage='score', outputs=(f'{run}/verdicts',))
  configuration = Configuration(bindings={}, others=[])
  first = Ledger(run, configuration)
  before = first.outputs(job)
  stage(storage.path(f'{run}/verdicts'))
  first.write(job, before=before, seconds=1.0, exit_code=0)
  assert Ledger(run, configuration).is_done(job)
