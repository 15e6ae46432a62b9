"""The stage train with LoRA: what it saves, how it resumes, what it belongs to.

The base is trained by the same stage, so that it lies in the same run.
"""

import dataclasses
import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_run

from rest_jax import sample, train
from rest_jax.artifacts import fingerprints, manifests, records, storage
from rest_jax.commands import export_checkpoint
from rest_jax.config import configuration
from rest_jax.distributed import partitioning, preemption
from rest_jax.models import adapters, lora
from rest_jax.models.checkpoints import placement, policies, trained, weights
from rest_jax.models.lora import LoraConfig
from rest_jax.sampling.streams import Stream
from rest_jax.training import dval, metric_writer
from rest_jax.training.hyperparameters import (
  OptimizerConfig,
  TrainConfig,
  ValidationConfig,
)

PAIRS = [(f'1+6=7;Q{i}:', '#### 7') for i in range(12)]
LORA = LoraConfig(rank=2, alpha=8.0, targets='query|down')
CONFIG = TrainConfig(
  max_steps=6, batch_rows=4, row_length=32, log_every=2, save_every=4, lora=LORA
)
GREEDY = Stream(name='dval', num_samples=1, temperature=0.0)


@pytest.fixture(autouse=True)
def _one_device_and_no_signal(monkeypatch):
  with tiny_run.stage_alone(monkeypatch):
    yield


@pytest.fixture
def run(tmp_path):
  """Runs the stage on tmp_path/run/NAME; returns its manifest."""

  def run(name='iteration_01', *, start='base', dvals=(), **fields):
    folder = tmp_path / 'run'
    init = folder / start / 'checkpoints' if start else None
    arguments = {
      'examples_dir': tiny_run.examples(tmp_path / 'examples', PAIRS),
      'checkpoints_dir': os.fspath(folder / name / 'checkpoints'),
      'init_path': init and os.fspath(init),
      'iteration': 1,
      'model': tiny_run.MODEL,
      'optimizer': OptimizerConfig(learning_rate=1.0, schedule='cosine'),
      'learning_rates': [0.01],
      'config': CONFIG,
      'mesh': partitioning.MeshConfig(),
      'dval_dirs': list(dvals),
      'validation': ValidationConfig(every=3),
      'dval_stream': GREEDY,
      'engine': tiny_run.ENGINE,
    }
    train.train(**(arguments | fields))
    return manifests.load(arguments['checkpoints_dir'], stage='train')

  return run


@pytest.fixture
def base(run):
  """The manifest of a model whose every weight was trained for 2 steps."""
  config = dataclasses.replace(CONFIG, max_steps=2, lora=LoraConfig())
  return run('base', start=None, iteration=0, config=config)


def flat(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def params_of(folder):
  mesh = partitioning.make_mesh(partitioning.MeshConfig())
  return flat(policies.load(folder, tiny_run.MODEL, mesh))


def adapters_of(manifest, config=LORA):
  mesh = partitioning.make_mesh(partitioning.MeshConfig())
  target = adapters.abstract(tiny_run.MODEL, config, mesh)
  return flat(trained.load(manifest.folder, tiny_run.MODEL, target))


def merged(params, found, scale=4.0):
  """W + scale A B of the adapted matrices, in numpy."""
  letters = {'query': 'ldz,lzkre->ldkre', 'down': 'lfz,lzd->lfd'}
  result = dict(params)
  for name, text in letters.items():
    a, b = (found[f'adapters/blocks/{name}/{part}'] for part in 'ab')
    change = np.einsum(text, a.astype(float), b.astype(float))
    result[f'params/blocks/{name}'] = (
      params[f'params/blocks/{name}'] + scale * change
    )
  return result


def assert_same(a, b):
  assert a.keys() == b.keys()
  for path in a:
    assert np.array_equal(a[path], b[path]), path


def size(folder):
  return sum(path.stat().st_size for path in Path(folder).rglob('*'))


def test_adapters_alone_are_trained_and_saved_and_the_base_stays(base, run):
  before = params_of(base.folder)
  made = run()
  found = adapters_of(made)
  held = sum(leaf.nbytes for leaf in found.values())
  assert held == 4 * lora.num_parameters(tiny_run.MODEL, LORA)
  assert made.statistics['trained_parameters'] == held // 4
  assert made.statistics['parameters'] == tiny_run.MODEL.num_parameters
  saved = made.folder / made.statistics['chosen'] / trained.PARAMS
  whole = base.folder / base.statistics['chosen'] / trained.PARAMS
  # Both hold the same few kB of Orbax's own beside the arrays.
  more = sum(leaf.nbytes for leaf in before.values()) - held
  assert size(whole) - size(saved) > 0.7 * more
  assert_same(params_of(base.folder), before)
  after = params_of(made.folder)
  expected = merged(before, found)
  for path in before:
    changed = not np.array_equal(after[path], before[path])
    assert changed == path.endswith(('query', 'down')), path
    np.testing.assert_allclose(after[path], expected[path], atol=1e-6)


def test_the_manifest_names_the_base_so_that_a_run_can_be_moved(
  base, run, tmp_path
):
  made = run()
  assert made.recorded['base'] == '../../base/checkpoints'
  assert made.fingerprint['inputs']['init'] == base.digest
  assert made.fingerprint['semantic']['config']['lora'] == {
    'rank': 2,
    'alpha': 8.0,
    'targets': 'query|down',
  }
  before = params_of(made.folder)
  (tmp_path / 'run').rename(tmp_path / 'moved')
  assert_same(params_of(tmp_path / 'moved/iteration_01/checkpoints'), before)


def test_an_export_reads_what_was_sampled_from(base, run, tmp_path):
  """Tensor by tensor it is the merged policy; adapters alone need a base."""
  made = run()
  assert made.statistics['chosen_step'] > 0
  model = tiny_run.MODEL
  source = policies.opened(made.folder, model)
  everywhere = slice(None)
  got = {
    (tensor.path, tensor.index): placement.block(
      source, tensor, [everywhere] * len(tensor.here), np.float32
    )
    for tensor in weights.tensors(model)
  }
  expected = params_of(made.folder)
  for (path, index), value in got.items():
    array = expected[path] if index is None else expected[path][index]
    np.testing.assert_allclose(value, array, atol=1e-6, err_msg=path)
  with pytest.raises(
    configuration.ConfigurationError, match='base/checkpoints, which this'
  ):
    export_checkpoint.export_adapter(made.folder, str(tmp_path / 'out'))
  with pytest.raises(
    configuration.ConfigurationError, match='holds a whole model'
  ):
    export_checkpoint.export_adapter(base.folder, str(tmp_path / 'out'))
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  'folder, base, recorded',
  [
    ('gs://b/r/sft/checkpoints', 'gs://b/r/base/checkpoints', None),
    ('gs://b/r/sft/checkpoints', 'gs://b/models/x', 'gs://b/models/x'),
    ('gs://b/r/sft/checkpoints', '/models/x.gguf', '/models/x.gguf'),
    ('/runs/r/sft/checkpoints', '/runs/r/base/checkpoints', None),
    ('/runs/r/sft/checkpoints', '/runs/r2/base', '/runs/r2/base'),
  ],
)
def test_a_base_is_named_from_the_run_or_by_its_whole_path(
  folder, base, recorded
):
  expected = recorded or '../../base/checkpoints'
  assert trained.base_to_record(folder, base) == expected


@pytest.mark.parametrize('step', [4, 5])
def test_stopped_by_sigterm_and_resumed_equals_never_stopped(
  base, run, monkeypatch, step
):
  straight = run('straight')
  add = metric_writer.StepMeter.add

  def patched(self, done, *arguments, **fields):
    if done == step:
      os.kill(os.getpid(), signal.SIGTERM)
    return add(self, done, *arguments, **fields)

  with monkeypatch.context() as patch:
    patch.setattr(metric_writer.StepMeter, 'add', patched)
    with pytest.raises(preemption.Preempted, match=f'step {step}'):
      run('stopped')
  preemption._asked.clear()
  resumed = run('stopped')
  assert_same(adapters_of(straight), adapters_of(resumed))
  assert resumed.digest == straight.digest


def test_dval_samples_the_merged_weights_as_the_stage_sample_does(
  base, run, tmp_path
):
  questions = {str(i): f'Q{i}:' for i in range(5)}
  problems = tiny_run.problems(tmp_path / 'dval', questions)
  config = dataclasses.replace(
    CONFIG, max_steps=40, lora=LoraConfig(rank=8, alpha=16.0)
  )
  made = run(
    dvals=[problems],
    config=config,
    learning_rates=[0.03],
    validation=ValidationConfig(every=20),
  )
  rewards = dict(map(tuple, made.statistics['validations']))
  assert rewards[0] < 0.5 < made.statistics['reward']
  folder = made.folder.parent / 'greedy'
  sample.sample(
    problems_dirs=(problems,),
    samples_dirs=(os.fspath(folder),),
    stream_names=('eval/greedy',),
    policy_dir=os.fspath(made.folder),
    streams=(Stream(name='eval/greedy', num_samples=1, temperature=0.0),),
    iteration=1,
    model=tiny_run.MODEL,
    engine=tiny_run.ENGINE,
    mesh=partitioning.MeshConfig(),
  )
  drawn = manifests.load(folder, stage='sample').records()
  step = made.statistics['chosen_step']
  place = made.folder.parent / f'validation/lr_0.03/step_{step}/samples'
  table = records.read_part(place / records.part_name(0, 1), records.Sample)
  validated = records.to_records(records.Sample, table)
  tokens = {one.problem_id: list(one.token_ids) for one in drawn}
  assert tokens == {one.problem_id: list(one.token_ids) for one in validated}
  assert len(tokens) == 5


def test_a_training_that_chose_step_0_is_the_base(
  base, run, tmp_path, monkeypatch
):
  problems = tiny_run.problems(tmp_path / 'dval', {'a': 'Q1:'})

  def reward(self, params, folder):
    return 1.0 if folder.name == 'step_0' else 0.0

  monkeypatch.setattr(dval.Validator, 'reward', reward)
  made = run(dvals=[problems])
  assert made.statistics['chosen_step'] == 0
  assert policies.digest(made.folder) == policies.digest(base.folder)
  assert trained.same_as(made.folder) == 'base'
  assert_same(params_of(made.folder), params_of(base.folder))


def test_adapters_on_adapters_and_all_weights_on_adapters(base, run):
  """INIT_FROM='previous', with LoRA and without."""
  first = run('iteration_01')
  second = run('iteration_02', start='iteration_01', iteration=2)
  assert second.recorded['base'] == '../../iteration_01/checkpoints'
  expected = merged(
    merged(params_of(base.folder), adapters_of(first)), adapters_of(second)
  )
  found = params_of(second.folder)
  for path, leaf in found.items():
    np.testing.assert_allclose(leaf, expected[path], atol=1e-6)
  config = dataclasses.replace(CONFIG, lora=LoraConfig(), max_steps=1)
  whole = run(
    'iteration_03', start='iteration_02', learning_rates=[1e-12], config=config
  )
  assert trained.adapter_base(whole.folder) is None
  for path, leaf in params_of(whole.folder).items():
    np.testing.assert_allclose(leaf, found[path], atol=1e-8)


def test_a_base_that_is_gone_or_another_is_refused(base, run, tmp_path):
  made = run()
  place = tmp_path / 'run/base'
  place.rename(tmp_path / 'gone')
  with pytest.raises(
    configuration.ConfigurationError, match='base/checkpoints, which is not'
  ):
    params_of(made.folder)
  config = dataclasses.replace(CONFIG, max_steps=1, lora=LoraConfig())
  run('base', start=None, iteration=0, config=config)
  with pytest.raises(
    configuration.ConfigurationError, match='trained on another model'
  ):
    params_of(made.folder)


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'start': None}, 'LORA_RANK: got 2, but INIT_PATH'),
    (
      {
        'config': dataclasses.replace(
          CONFIG, lora=LoraConfig(rank=1, targets='q_proj')
        )
      },
      "LORA_TARGETS: got 'q_proj', which matches no matrix.*blocks/query",
    ),
  ],
)
def test_what_cannot_be_adapted_is_refused_at_the_start(run, fields, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    run(**fields)


def test_a_run_made_before_lora_existed_stands(base, run):
  """Its fingerprint has no `lora`, which stands for rank 0."""
  config = dataclasses.replace(CONFIG, max_steps=1, lora=LoraConfig())
  old = run(config=config)
  for name in (manifests.MANIFEST, manifests.STARTED):
    value = json.loads((old.folder / name).read_text())
    fingerprint = value.get('fingerprint', value)
    del fingerprint['semantic']['config']['lora']
    storage.write_json(old.folder / name, value)
  assert run(config=config).digest == old.digest
  assert trained.adapter_base(old.folder) is None
  with pytest.raises(
    fingerprints.FingerprintError,
    match='config.lora.rank: stands as 0, asked for 2',
  ):
    run(config=dataclasses.replace(CONFIG, max_steps=1))
