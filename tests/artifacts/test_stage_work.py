"""A stage's folder is done, or resumable, or refused; never half done."""

import dataclasses
import json

import pytest
from artifacts.test_records import VERDICT, damage

from rest_jax.artifacts import (
  fingerprints,
  held_folders,
  holders,
  manifests,
  records,
  stage_work,
  storage,
)
from rest_jax.artifacts.records import Verdict
from rest_jax.config import configuration


@pytest.fixture(params=['local', 'remote'])
def folder(request, tmp_path):
  if request.param == 'local':
    return storage.path(tmp_path) / 'verdicts'
  return storage.path(f'{request.getfixturevalue("bucket")}/run/verdicts')


def stage(
  folder, *, semantic=None, inputs=None, parts=3, stop=None, made=None, **more
):
  """A stage of `parts` parts; raises KeyError before part `stop`."""
  made = made if made is not None else []
  with stage_work.work_on(
    folder,
    stage='score',
    kind=Verdict,
    semantic=semantic or {'a': 1},
    inputs=inputs or {},
    version=1,
    **more,
  ) as work:
    if work.done is not None:
      return work.done
    for part in range(parts):
      name = records.part_name(part, parts)
      source = f'source {part} {semantic} {inputs}'
      if not work.has(name, source=source):
        if part == stop:
          raise KeyError('killed')
        made.append(part)
        row = dataclasses.replace(VERDICT, sample_index=part)
        work.write(name, [row], source=source)
    return work.finish(statistics={'rows': parts})


def test_a_finished_stage_does_nothing_when_run_again(folder):
  made = []
  first = stage(folder, made=made)
  second = stage(folder, made=made)
  assert made == [0, 1, 2]
  assert second.digest == first.digest
  assert [r.sample_index for r in manifests.load(folder).records()] == [0, 1, 2]


def test_a_killed_stage_is_not_done_and_goes_on_where_it_stopped(folder):
  made = []
  with pytest.raises(KeyError):
    stage(folder, stop=2, made=made)
  assert manifests.load_if_done(folder) is None
  with pytest.raises(configuration.ConfigurationError, match='not finished'):
    manifests.load(folder, stage='score')
  resumed = stage(folder, made=made)
  assert made == [0, 1, 2]  # each once
  undisturbed = stage(folder.parent / 'other')
  assert resumed.digest == undisturbed.digest


def test_a_half_written_part_of_a_killed_stage_is_made_again(folder):
  with pytest.raises(KeyError):
    stage(folder, stop=2)
  damage(folder / records.part_name(1, 3), 'truncated')
  made = []
  stage(folder, made=made)
  assert made == [1, 2]


@pytest.mark.parametrize('how', ['truncated', 'edited', 'missing', 'rewritten'])
def test_reading_a_damaged_part_of_a_finished_stage_fails(folder, how):
  stage(folder)
  damage(folder / records.part_name(1, 3), how)
  with pytest.raises(records.CorruptPartError, match='part-00001-of-00003'):
    manifests.load(folder).records()


def test_deleting_the_damaged_part_and_running_again_mends(folder):
  """The advice of the error message works."""
  before = stage(folder)
  (folder / records.part_name(1, 3)).unlink()
  made = []
  after = stage(folder, made=made)
  assert made == [1] and after.digest == before.digest
  manifests.load(folder).records()


def test_a_damaged_manifest_is_named(folder):
  stage(folder)
  text = (folder / 'manifest.json').read_text()
  (folder / 'manifest.json').write_text(text[: len(text) // 2])
  with pytest.raises(configuration.ConfigurationError, match='manifest.json'):
    stage(folder)
  (folder / 'manifest.json').write_text('{"parts": []}')
  with pytest.raises(configuration.ConfigurationError, match='manifest.json'):
    manifests.load(folder)


def test_another_configuration_is_refused_with_the_differences(folder):
  stage(folder, semantic={'seed': 0, 'model': {'layers': 2}, 'list': [1, 2]})
  with pytest.raises(fingerprints.FingerprintError) as caught:
    stage(folder, semantic={'seed': 1, 'model': {'layers': 2}, 'list': [1, 3]})
  text = str(caught.value)
  assert 'seed: stands as 0, asked for 1' in text
  assert 'list[1]: stands as 2, asked for 3' in text
  assert 'layers' not in text
  assert str(folder) in text and 'RUN_DIR' in text


def test_a_refusal_loses_nothing(folder):
  stage(folder, semantic={'seed': 0})
  with pytest.raises(fingerprints.FingerprintError):
    stage(folder, semantic={'seed': 1})
  made = []
  stage(folder, semantic={'seed': 0}, made=made)
  assert made == []


def test_an_unfinished_folder_of_another_configuration_is_refused_too(folder):
  with pytest.raises(KeyError):
    stage(folder, semantic={'seed': 0}, stop=1)
  with pytest.raises(fingerprints.FingerprintError, match='seed'):
    stage(folder, semantic={'seed': 1})


def test_a_folder_that_was_only_started_takes_any_configuration(folder):
  with pytest.raises(KeyError):
    stage(folder, semantic={'a': 1}, stop=0)
  assert (folder / 'started.json').exists()
  done = stage(folder, semantic={'a': 2})
  assert done.fingerprint['semantic'] == {'a': 2}


def test_what_a_stage_does_not_count_as_work_is_set_aside(folder):
  """A training that saved nothing but its step 0 takes any configuration."""
  how = {'holds_work': lambda place: (place / 'step_1').exists()}
  with pytest.raises(KeyError):
    stage(folder, semantic={'a': 1}, stop=1, **how)
  done = stage(folder, semantic={'a': 2}, **how)
  assert done.fingerprint['semantic'] == {'a': 2}
  aside = folder.parent / 'verdicts.superseded-1'
  assert (aside / records.part_name(0, 3)).exists()
  with pytest.raises(fingerprints.FingerprintError):
    stage(folder, semantic={'a': 3}, **how)  # a finished folder is refused
  other = folder.parent / 'other'
  with pytest.raises(KeyError):
    stage(other, semantic={'a': 1}, stop=1, **how)
  storage.write_bytes(other / 'step_1', b'')
  with pytest.raises(fingerprints.FingerprintError):
    stage(other, semantic={'a': 2}, **how)


def test_what_is_set_aside_for_its_inputs_takes_another_configuration(folder):
  how = {'on_new_inputs': 'set_aside'}
  stage(folder, semantic={'a': 1}, inputs={'samples': 'one'}, **how)
  new = stage(folder, semantic={'a': 2}, inputs={'samples': 'two'}, **how)
  assert new.fingerprint['semantic'] == {'a': 2}
  assert (folder.parent / 'verdicts.superseded-1' / 'manifest.json').exists()


def test_a_refusal_says_how_the_folder_is_made_again(folder, monkeypatch):
  stage(folder, semantic={'a': 1})
  for job, said in (
    ('', f'delete {folder}'),
    ('base/score', '--redo=base/score '),
  ):
    monkeypatch.setenv(holders.JOB, job)
    with pytest.raises(fingerprints.FingerprintError, match=said):
      stage(folder, semantic={'a': 2})
  with pytest.raises(fingerprints.FingerprintError, match='again: call X'):
    stage(folder, semantic={'a': 2}, remedy='call X')


def test_growable_bindings_grow_and_do_not_shrink(folder):
  grow = {'growable': ('n', 'tasks')}
  stage(folder, semantic={'n': 2, 'tasks': ['a']}, **grow)
  with pytest.raises(fingerprints.FingerprintError, match='n: stands as 2'):
    stage(folder, semantic={'n': 1, 'tasks': ['a']}, **grow)
  with pytest.raises(fingerprints.FingerprintError, match='tasks'):
    stage(folder, semantic={'n': 2, 'tasks': ['b', 'a']}, **grow)
  semantic = {'n': 3, 'tasks': ['a', 'b']}
  grown = stage(folder, semantic=semantic, **grow)
  assert grown.fingerprint['semantic'] == semantic


def test_growing_keeps_the_old_manifest_until_the_new_one_stands(folder):
  grow = {'growable': ('n',)}
  old = stage(folder, semantic={'n': 1}, **grow)
  with pytest.raises(KeyError):
    stage(folder, semantic={'n': 2}, stop=1, **grow)
  standing = manifests.load_if_done(folder)
  assert standing is None or standing.digest == old.digest
  stage(folder, semantic={'n': 2}, **grow)
  assert manifests.load(folder).fingerprint['semantic'] == {'n': 2}


@pytest.mark.parametrize('policy', ['remake', 'set_aside'])
def test_changed_inputs_make_the_folder_anew(folder, policy):
  old = stage(folder, inputs={'samples': 'one'}, on_new_inputs=policy)
  new = stage(folder, inputs={'samples': 'two'}, on_new_inputs=policy)
  assert new.digest != old.digest
  aside = folder.parent / 'verdicts.superseded-1'
  assert aside.exists() == (policy == 'set_aside')
  if policy == 'set_aside':
    assert manifests.load(aside).digest == old.digest


def test_a_digest_passes_changes_on_to_the_next_stage(folder):
  first = stage(folder)
  one = stage(folder.parent / 'one', inputs={'samples': first})
  (folder / 'manifest.json').unlink()
  same = stage(folder)
  assert same.digest == first.digest
  again = stage(folder.parent / 'one', inputs={'samples': same})
  assert again.digest == one.digest


def test_parts_of_a_superseded_attempt_do_not_stay(folder):
  with pytest.raises(KeyError):
    stage(folder, parts=5, stop=4)
  stage(folder, parts=2)
  names = sorted(p.name for p in folder.glob('*.parquet'))
  assert names == [records.part_name(i, 2) for i in range(2)]


def test_two_processes_do_not_work_on_one_folder(folder):
  with stage_work.work_on(
    folder, stage='a', kind=None, semantic={}, inputs={}, version=1
  ):
    with pytest.raises(held_folders.HeldError):
      stage(folder)


def test_another_stages_folder_is_not_taken_for_ours(folder):
  stage(folder)
  with pytest.raises(
    configuration.ConfigurationError, match='made by the stage score'
  ):
    manifests.load(folder, stage='sample')
  with pytest.raises(configuration.ConfigurationError, match='not there'):
    manifests.load(folder.parent / 'nowhere')


def test_the_manifest_is_readable_by_people_and_holds_no_surprise(folder):
  stage(folder)
  value = json.loads((folder / 'manifest.json').read_text())
  assert value['stage'] == 'score' and value['kind'] == 'Verdict'
  assert [part['rows'] for part in value['parts']] == [1, 1, 1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(configuration.Configuration):
  size: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Earlier(configuration.Configuration):
  """A configuration as an earlier version of the package had it."""

  rate: float
  inner: Inner = Inner()
  many: tuple[Inner, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrownInner(Inner):
  shape: str = 'round'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Later(configuration.Configuration):
  """The same, with fields that did not exist yet."""

  rate: float
  inner: GrownInner = GrownInner()
  many: tuple[GrownInner, ...] = ()
  cap: float | None = None
  hints: tuple[str, ...] = dataclasses.field(default_factory=tuple)


EARLIER = {'config': Earlier(rate=0.5, many=(Inner(),)), 'number': 3}
LATER = {
  'config': Later(rate=0.5, many=(GrownInner(),)),
  'number': 3,
  'kind': 'plain',
}
ABSENT = {'kind': 'plain'}


def test_a_folder_from_before_a_field_existed_stands_for_its_default(folder):
  made = []
  first = stage(folder, semantic=EARLIER, made=made)
  again = stage(folder, semantic=LATER, absent=ABSENT, made=made)
  assert made == [0, 1, 2]
  assert again == first  # so nothing that was made of it is made again


@pytest.mark.parametrize(
  'change, named',
  [
    ({'kind': 'fancy'}, "kind: stands as 'plain', asked for 'fancy'"),
    ({'config': Later(rate=0.5, many=(GrownInner(),), cap=1.0)}, 'config.cap'),
    (
      {'config': Later(rate=0.5, many=(GrownInner(shape='x'),))},
      r'\[0\].shape',
    ),
    (
      {
        'config': Later(
          rate=0.5, many=(GrownInner(),), inner=GrownInner(shape='x')
        )
      },
      'config.inner.shape',
    ),
    ({'config': Later(rate=0.25, many=(GrownInner(),))}, 'config.rate'),
  ],
)
def test_a_new_field_with_another_value_is_refused(folder, change, named):
  stage(folder, semantic=EARLIER)
  with pytest.raises(fingerprints.FingerprintError, match=named):
    stage(folder, semantic=LATER | change, absent=ABSENT)


def test_a_key_without_a_declared_default_is_refused(folder):
  stage(folder, semantic=EARLIER)
  with pytest.raises(fingerprints.FingerprintError, match='kind'):
    stage(folder, semantic=LATER)


def test_a_killed_stage_goes_on_after_a_field_was_added(folder):
  made = []
  with pytest.raises(KeyError):
    stage(folder, semantic=EARLIER, stop=2, made=made)

  with stage_work.work_on(
    folder,
    stage='score',
    kind=Verdict,
    semantic=LATER,
    inputs={},
    version=1,
    absent=ABSENT,
  ) as work:
    recorded = json.loads((folder / manifests.STARTED).read_text())
    assert work.fingerprint == recorded
    assert 'kind' not in recorded['semantic']
    assert 'cap' not in recorded['semantic']['config']
    assert [
      work.has(
        records.part_name(part, 3), source=f'source {part} {EARLIER} None'
      )
      for part in range(3)
    ] == [True, True, False]
