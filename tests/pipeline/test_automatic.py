"""What is derived is written with its reason, kept, and given way to."""

import pathlib

import published_llama as published
import pytest
import tiny_run

from rest_jax.config import configuration
from rest_jax.executors import machine
from rest_jax.pipeline import automatic, automatic_file, own_run

DIALS = [
  'TASKS=[t]',
  'EVAL_TASKS=[t]',
  'NUM_ITERATIONS=1',
]


@pytest.fixture
def model(tmp_path):
  return published.write_safetensors(
    tmp_path / 'model',
    published.matrices(tied=True),
    config={'max_position_embeddings': 4096},
  )


@pytest.fixture(autouse=True)
def _laptop(monkeypatch):
  laptop = machine.Machine(
    kind='cpu', devices=1, device_bytes=8 << 30, name='CPU'
  )
  monkeypatch.setattr(machine, 'find', lambda resources: laptop)


def of_run(tmp_path, model, *bindings, gin_files=()):
  return automatic.Automatic(
    stage='rest_em',
    gin_files=list(gin_files),
    bindings=[
      f'RUN_DIR={tmp_path / "run"}',
      f'BASE_CHECKPOINT_PATH={model}',
      *DIALS,
      *bindings,
    ],
    search_paths=[],
  )


def prepared(tmp_path, number=9):
  for split in ('train', 'dval', 'test'):
    tiny_run.problems(
      tmp_path / 'run' / 'problems' / 't' / split,
      {f'{split}{i}': f'Q{i}:' for i in range(number)},
    )


def derived(tmp_path, model, *bindings):
  found = of_run(tmp_path, model, *bindings)
  found.before_plan()
  prepared(tmp_path)
  found.after_prepare()
  found.write()
  return found


def test_a_run_without_sizes_gets_all_of_them_and_the_model(tmp_path, model):
  found = derived(tmp_path, model)
  assert found.pending == []
  text = (tmp_path / 'run' / automatic_file.FILE).read_text()
  assert '  embed_dim = 32\n' in text
  assert '9 problems are evaluated together' in text
  for name in ('GROUPS', 'LANES', 'ROW_LENGTH', 'BATCH_ROWS', 'MICROBATCHES'):
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f'{name} ='))
    assert lines[at - 1].startswith('# '), name  # its reason


def test_a_later_launch_keeps_what_was_derived(tmp_path, model, monkeypatch):
  before = derived(tmp_path, model).entries
  larger = machine.Machine(
    kind='cpu', devices=1, device_bytes=64 << 30, name='CPU'
  )
  monkeypatch.setattr(machine, 'find', lambda resources: larger)
  again = of_run(tmp_path, model, 'NUM_SAMPLES=64')
  assert again.pending == [] and again.before_plan() == {}
  assert again.after_prepare() == {} and again.entries == before


def test_what_the_user_sets_is_not_derived(tmp_path, model):
  derived(tmp_path, model)
  again = of_run(tmp_path, model, 'GROUPS=3')
  assert 'GROUPS' not in again.entries and 'LANES' in again.entries
  again.write()
  assert (
    '\nGROUPS = ' not in (tmp_path / 'run' / automatic_file.FILE).read_text()
  )


def test_auto_on_the_command_line_means_what_it_means_in_a_file(
  tmp_path, model
):
  found = derived(tmp_path, model, 'GROUPS=auto', 'LANES = 2')
  assert 'GROUPS' in found.entries and found.pending == []
  assert 'LANES = 2' in found.remaining
  assert not any(binding.startswith('GROUPS') for binding in found.remaining)
  assert found.needs() is not None
  again = of_run(tmp_path, model, 'GROUPS=auto', 'LANES=3')
  assert again.entries == found.entries
  assert again.remaining[-1] == 'LANES=3'


def test_a_gin_file_that_describes_the_model_is_taken(tmp_path, model):
  found = of_run(tmp_path, model, gin_files=['models/tiny.gin'])
  assert 'MODEL' not in found.pending
  assert 'MODEL' not in found.before_plan()


def test_attention_is_left_to_the_jobs_but_kernels_need_devices(
  tmp_path, model
):
  found = of_run(tmp_path, model)
  assert found.context['ATTENTION'] == 'auto'
  assert 'ATTENTION' not in found.pending  # it may change with the devices
  for kernel in ('splash', 'cudnn'):
    with pytest.raises(configuration.ConfigurationError, match="kind 'cpu'"):
      of_run(tmp_path, model, f"ATTENTION='{kernel}'").before_plan()


def test_the_model_of_another_folder_is_not_guessed(tmp_path):
  found = of_run(tmp_path, tmp_path / 'nothing')
  with pytest.raises(
    configuration.ConfigurationError, match='no checkpoint is there'
  ):
    found.before_plan()


def test_without_a_checkpoint_model_must_be_bound(tmp_path):
  found = automatic.Automatic(
    stage='rest_em',
    gin_files=[],
    bindings=[f'RUN_DIR={tmp_path}', *DIALS],
    search_paths=[],
  )
  with pytest.raises(
    configuration.ConfigurationError, match='BASE_CHECKPOINT_PATH is not set'
  ):
    found.before_plan()


# ---- rest-jax run -----------------------------------------------------------


def flags(**changes):
  import argparse

  fields = {'model': None, 'problems': None, 'run_dir': None, 'gin_file': []}
  return argparse.Namespace(**fields | changes)


def test_two_paths_are_a_run(tmp_path, model):
  problems = tmp_path / 'mine.jsonl'
  problems.write_text('{"question": "q", "answer": 1}\n')
  files, bindings = own_run.expand(
    flags(model=model, problems=str(problems)), ['SEED=3']
  )
  assert files == [own_run.RUN_FILE]
  assert bindings == [
    f'BASE_CHECKPOINT_PATH={model}',
    f'INPUT={problems}',
    'RUN_DIR=runs/mine',
    'SEED=3',
  ]


@pytest.mark.parametrize(
  'changes, text',
  [
    ({}, r'(?s)--model=PATH --problems=.*runs/math\.gin'),
    ({'problems': 'p.jsonl'}, '--model is missing'),
    ({'model': 'MODEL'}, '--problems is missing'),
    ({'model': 'MODEL', 'problems': 'nix.jsonl'}, 'no such file'),
    ({'model': 'nix.gguf', 'problems': 'p.jsonl'}, 'no checkpoint is there'),
    ({'model': 'owner/name', 'problems': 'p.jsonl'}, 'download owner/name'),
  ],
)
def test_what_is_missing_is_said_at_once(
  tmp_path, model, monkeypatch, changes, text
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('p.jsonl').write_text('{}\n')
  given = {k: model if v == 'MODEL' else v for k, v in changes.items()}
  with pytest.raises(configuration.ConfigurationError, match=text):
    own_run.expand(flags(**given), [])


def test_run_files_of_the_user_need_no_flags():
  assert own_run.expand(flags(gin_file=['runs/math.gin']), ['A=1']) == (
    ['runs/math.gin'],
    ['A=1'],
  )
