"""rest-jax export: which policy, with which tokenizer, whole or not at all."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import published_llama
import pytest
import small_networks
import small_tokenizers
import tiny_run

from rest_jax.artifacts import manifests, stage_work
from rest_jax.commands import export_checkpoint, export_source
from rest_jax.config import configuration
from rest_jax.models.checkpoints import described, orbax_items, policies
from rest_jax.tokenizers import sentencepiece_vocabularies, vocabulary_files

SIZE = 330
MODEL = small_networks.network(vocab_size=SIZE, num_layers=3, dtype='bfloat16')


def stage(folder, name, semantic, statistics, recorded=None):
  """Writes the manifest of a finished folder."""
  with stage_work.work_on(
    folder, stage=name, kind=None, semantic=semantic, inputs={}, version=1
  ) as work:
    work.finish(
      content='content', statistics=statistics, recorded=recorded or {}
    )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run of two iterations with a vocabulary of its own."""
  run = tmp_path_factory.mktemp('runs') / 'run'
  for number in (1, 2):
    folder = run / f'iteration_{number:02d}' / 'checkpoints'
    folder.mkdir(parents=True)
    orbax_items.save(
      folder / 'lr' / '5' / 'params', tiny_run.fresh(MODEL, seed=number)
    )
    stage(
      folder, 'train', {'model': MODEL, 'iteration': number}, {'chosen': 'lr/5'}
    )
  vocabulary = run / 'problems' / 'vocabulary.model'
  sentencepiece_vocabularies.train(small_tokenizers.LINES, SIZE, vocabulary)
  digest = vocabulary_files.load(str(vocabulary)).digest
  tiny_run.problems(
    run / 'problems' / 't' / 'train',
    {'1': '1+1'},
    card={'eos_ids': (7, 1), 'eos_id': 7},
  )
  stage(
    run / 'problems',
    'prepare',
    {},
    {'digest': digest},
    # Where the run was when it was prepared; it has been moved since.
    {'spec': '/elsewhere/problems/vocabulary.model'},
  )
  return run


@pytest.fixture
def run(finished, tmp_path):
  return shutil.copytree(finished, tmp_path / 'run')


def tensors(path):
  config = described.network(path)
  return published_llama.read(policies.opened(path, config), config)


def embedding(path):
  return np.asarray(tensors(path)['embedding', None], np.float32)


@pytest.mark.parametrize('flags, number', [([], 2), (['--iteration=1'], 1)])
def test_a_run_exports_its_last_policy_or_the_one_asked_for(
  run, tmp_path, flags, number
):
  out = tmp_path / 'out'
  arguments = [f'--from={run}', f'--to={out}', *flags, '--dtype=float32']
  assert export_checkpoint.run(arguments) == 0
  params = tiny_run.fresh(MODEL, seed=number)
  np.testing.assert_array_equal(embedding(out), params['params']['embedding'])
  jax.tree.map(
    np.testing.assert_array_equal,
    tensors(out),
    tensors(run / f'iteration_{number:02d}' / 'checkpoints'),
  )


def test_by_default_it_has_the_dtype_and_the_tokenizer_of_the_run(
  run, tmp_path
):
  out = tmp_path / 'out'
  export_checkpoint.run([f'--from={run}', f'--to={out}'])
  config = json.loads((out / 'config.json').read_text())
  assert config['torch_dtype'] == 'bfloat16'
  back = vocabulary_files.load(str(out))
  own = vocabulary_files.load(str(run / 'problems' / 'vocabulary.model'))
  for text in small_tokenizers.TEXTS:
    assert back.encode(text) == own.encode(text)
  # What ends a turn comes first: the run's prompts were chats.
  assert config['eos_token_id'] == [7, 1]


def test_a_gguf_file_brings_the_vocabulary_that_the_run_trained(run, tmp_path):
  out = tmp_path / 'out.gguf'
  export_checkpoint.run([f'--from={run}', f'--to={out}'])
  back = vocabulary_files.load(str(out))
  own = vocabulary_files.load(str(run / 'problems' / 'vocabulary.model'))
  for text in small_tokenizers.TEXTS:
    assert back.encode(text) == own.encode(text)
  assert set(back.eos_ids) == {7, 1}


def test_each_array_is_read_once(run, tmp_path, monkeypatch):
  read, held = orbax_items._read, []
  monkeypatch.setattr(
    orbax_items,
    '_read',
    lambda source, path: held.append(path) or read(source, path),
  )
  export_checkpoint.run(
    [f'--from={run}', f'--to={tmp_path / "out"}', '--tokenizer=none']
  )
  found = orbax_items.leaves(
    run / 'iteration_02' / 'checkpoints' / 'lr' / '5' / 'params'
  )
  assert sorted(held) == sorted(found)


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--from={run}', '--iteration=3'], 'finished in .*: 1, 2'),
    (['--from={run}/problems'], 'made by the stage prepare'),
    (['--from={run}', '--dtype=q8_0'], 'allowed for .*: bfloat16'),
    (['--from={run}', '--tokenizer=bytes'], 'no files that other programs'),
  ],
)
def test_what_cannot_be_exported_is_refused(run, tmp_path, flags, message):
  flags = [flag.format(run=run) for flag in flags]
  with pytest.raises(configuration.ConfigurationError, match=message):
    export_checkpoint.run([*flags, f'--to={tmp_path / "out"}'])
  assert {path.name for path in tmp_path.iterdir()} == {'run'}


def test_a_gguf_file_needs_a_tokenizer(run, tmp_path):
  with pytest.raises(configuration.ConfigurationError, match='must hold'):
    export_checkpoint.run(
      [f'--from={run}', f'--to={tmp_path / "m.gguf"}', '--tokenizer=none']
    )


def test_a_vocabulary_that_was_changed_since_is_refused(run, tmp_path):
  vocabulary = run / 'problems' / 'vocabulary.model'
  sentencepiece_vocabularies.train(
    small_tokenizers.LINES[1:], SIZE - 1, vocabulary
  )
  with pytest.raises(configuration.ConfigurationError, match='has changed'):
    export_checkpoint.run([f'--from={run}', f'--to={tmp_path / "out"}'])


def test_what_is_there_is_not_overwritten(run, tmp_path):
  out = tmp_path / 'out'
  out.mkdir()
  (out / 'thesis.tex').write_text('mine')
  with pytest.raises(configuration.ConfigurationError, match='overwritten'):
    export_checkpoint.run([f'--from={run}', f'--to={out}'])
  assert [path.name for path in out.iterdir()] == ['thesis.tex']


@pytest.mark.parametrize('name', ['out', 'out.gguf'])
def test_a_killed_export_leaves_nothing_that_looks_finished(
  run, tmp_path, name
):
  script = (
    'import os\n'
    'from rest_jax.commands import export_checkpoint\n'
    'from rest_jax.models.checkpoints import orbax_items\n'
    'read = orbax_items._read\n'
    'def once(source, path):\n'
    '  return os._exit(9) if "final_norm" in path else read(source, path)\n'
    'orbax_items._read = once\n'
    f'export_checkpoint.run(["--from=run", "--to={name}"])\n'
  )
  ended = subprocess.run([sys.executable, '-c', script], cwd=tmp_path)
  assert ended.returncode == 9
  assert not (tmp_path / name).exists()
  export_checkpoint.run([f'--from={run}', f'--to={tmp_path / name}'])
  assert (tmp_path / name).exists()
  assert not list(tmp_path.glob('.partial*'))


def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch):
  import errno

  def full(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(orbax_items.Item, 'read', full)
  with pytest.raises(OSError, match='No space'):
    export_checkpoint.run([f'--from={run}', f'--to={tmp_path / "out"}'])
  assert {path.name for path in tmp_path.iterdir()} == {'run'}


def test_values_that_float16_cannot_hold_are_refused(tmp_path):
  found = published_llama.matrices(tied=True)
  found['model.layers.1.mlp.up_proj.weight'][3, 4] = 70_000
  source = published_llama.write_safetensors(
    tmp_path / 'm', found, config={'max_position_embeddings': 32}
  )
  with pytest.raises(
    configuration.ConfigurationError, match=r'layers.1.mlp.up_proj.*70000'
  ):
    export_checkpoint.export(source, str(tmp_path / 'out'), dtype='float16')
  export_checkpoint.export(source, str(tmp_path / 'out'), dtype='bfloat16')


def test_a_run_without_a_finished_iteration_says_so(tmp_path):
  (tmp_path / 'run' / 'problems').mkdir(parents=True)
  with pytest.raises(configuration.ConfigurationError, match='no finished'):
    export_source.checkpoint_of(tmp_path / 'run')


def test_the_manifest_of_the_last_iteration_counts(run):
  last = run / 'iteration_02' / 'checkpoints' / manifests.MANIFEST
  last.unlink()  # it is still being trained
  found = export_source.checkpoint_of(run)
  assert found == run / 'iteration_01' / 'checkpoints'
