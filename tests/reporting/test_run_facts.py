"""The head of the page: what ran, read from what the stages recorded."""

import pytest
from test_report import Reader, Writer, page_of, write_run

from rest_jax import __version__
from rest_jax.artifacts import storage
from rest_jax.reporting import run_facts, run_reader


def recorded(folder, where, **changes):
  """Adds entries to a manifest, such as recorded={'jax': '0.10'}."""
  path = folder / where / 'manifest.json'
  value = storage.read_json(path)
  for name, entries in changes.items():
    value[name] = {**value[name], **entries}
  storage.write_json(path, value)


@pytest.fixture
def folder(tmp_path):
  made = storage.path(tmp_path / 'run')
  write_run(made, iterations=1, size=4)
  config = "BASE_CHECKPOINT_PATH = '/models/Small-1B.gguf'\nSEED = 0\n"
  (made / 'config.gin').write_text(config)
  mesh = {'data': 4, 'fsdp': 2, 'tensor': 1}
  recorded(
    made,
    'iteration_01/checkpoints',
    recorded={'jax': '0.10.2', 'device': 'TPU v5 lite', 'mesh': mesh},
    statistics={'parameters': 1_234_567},
  )
  engine = {'device': 'tpu TPU v5 lite', 'mesh': mesh | {'data': 1}}
  recorded(
    made,
    'iteration_01/samples',
    recorded={'engine': engine, 'seconds': 4.0, 'tokens_per_second': 100.0},
    statistics={'samples': 1_500, 'tokens': 40_000},
  )
  return made


def facts_of(folder):
  found = run_reader.find(folder)
  return dict(run_facts.run_facts(run_reader.read(folder, found), found))


def test_the_head_says_what_ran(folder):
  facts = facts_of(folder)
  assert facts.pop('Date')
  assert facts == {
    'Model': 'Small-1B.gguf, 1,234,567 parameters',
    'Problems': 'arithmetic: 4 train, 4 test; arithmetic_hard: 4 test',
    'Samples': '1,500 completions, 40,000 tokens',
    'Software': f'rest_jax {__version__}, jax 0.10.2',
    # Eight chips train, two sample.
    'Machine': '2 × TPU v5 lite (sample), 8 × TPU v5 lite (train)',
    # 10.5, 21 and 31.5 seconds; the report's own 42 are left out.
    'Time (h:mm)': '0:02',
  }
  text = ' '.join(Reader(page_of(folder)).text)
  for name, value in facts.items():
    assert name in text and value in text


def test_a_run_that_has_nothing_yet_claims_nothing(tmp_path):
  (tmp_path / 'run').mkdir()
  assert facts_of(storage.path(tmp_path / 'run')) == {
    'Software': f'rest_jax {__version__}'
  }


def test_the_rate_of_a_job_is_that_of_all_its_tokens_and_all_its_seconds(
  tmp_path,
):
  writer = Writer(storage.path(tmp_path / 'run'), size=3)
  for task in ('a', 'b'):
    writer.problems(task, 'test')
  writer.evaluation('base', 0.5, sampled=False, tasks=['a', 'b'])
  for task, seconds, tokens in (('a', 10.0, 1_000), ('b', 30.0, 1_000)):
    recorded(
      writer.folder,
      f'base/evaluation/{task}/greedy/samples',
      recorded={'seconds': seconds, 'tokens_per_second': tokens / seconds},
    )
  # A checkpoint of a batch is called by its name, as its jobs are.
  writer.evaluation('models/x', 0.5, sampled=False, tasks=['a'])
  recorded(
    writer.folder,
    'models/x/evaluation/a/greedy/samples',
    recorded={'seconds': 2.0, 'tokens_per_second': 7.0},
  )
  writer.training('iteration_01')
  lines = ''.join(
    f'{{"step": {step}, "loss": 1.0, "tokens_per_second": {rate}}}\n'
    for step, rate in ((1, 5.0), (2, 900.0), (3, 1000.0))
  )
  for name in ('lr_0.001', 'lr_0.003'):
    path = writer.folder / 'iteration_01/checkpoints' / name / 'metrics.jsonl'
    path.write_text(lines)
  run = run_reader.read(writer.folder, run_reader.find(writer.folder))
  # The first line of a training has the compilation in it: the median.
  assert run.rates == {
    'base/sample_eval': pytest.approx(2_000 / 40),
    'iteration_01/train': 900.0,
    'x/sample_eval': pytest.approx(7.0),
  }
