"""The table at the end of a run, and the clock beside each job."""

import io
import json

import finished_stages

from rest_jax.executors import console
from rest_jax.reporting import terminal_table


def row(model, metric, value, k=1, task='t', split='test'):
  return {
    'model': model,
    'task': task,
    'split': split,
    'metric': metric,
    'k': k,
    'value': value,
    'ci_low': value and value - 0.1,
    'ci_high': value and value + 0.1,
  }


def test_the_table_shows_every_model_and_the_largest_k(tmp_path):
  (tmp_path / 'report').mkdir()
  rows = [
    row('base', 'pass@1_greedy', 0.5),
    row('base', 'pass@k', 0.6, k=2),
    row('base', 'pass@k', 0.7, k=4),
    row('iteration_01', 'pass@1_greedy', None),
    row('base', 'pass@1_greedy', 0.25, task='u', split='dval'),
  ]
  text = json.dumps({'rows': rows})
  (tmp_path / 'report' / 'results.json').write_text(text)
  lines = terminal_table.results_table(str(tmp_path)).splitlines()
  assert len(lines) == 4
  assert lines[1].split() == (
    'base t 0.500 [0.400, 0.600] - 0.700 (k=4) -'.split()
  )
  assert lines[2].split() == ['iteration_01', 't', '-', '-', '-', '-']
  assert lines[3].split()[:3] == ['base', 'u/dval', '0.250']


def test_a_model_that_is_the_base_is_named_below_the_table(tmp_path):
  (tmp_path / 'report').mkdir()
  rows = [
    row('base', 'pass@1_greedy', 0.5) | {'same_as': None},
    row('iteration_01', 'pass@1_greedy', 0.5) | {'same_as': 'base'},
    row('iteration_01', 'pass@1', 0.5) | {'same_as': 'base'},
  ]
  text = json.dumps({'rows': rows})
  (tmp_path / 'report' / 'results.json').write_text(text)
  lines = terminal_table.results_table(str(tmp_path)).splitlines()
  assert len(lines) == 4 and lines[3].startswith('iteration_01 is base: no')


def test_the_goodput_of_each_m_step_stands_below_the_table(tmp_path):
  (tmp_path / 'report').mkdir()
  rows = [
    row(model, 'pass@1_greedy', 0.5)
    for model in ('base', 'iteration_01', 'iteration_02', 'models/x')
  ]
  text = json.dumps({'rows': rows})
  (tmp_path / 'report' / 'results.json').write_text(text)
  for model, seconds in {
    'iteration_01': {'steps': 30.0, 'validation': 10.0},
    'iteration_02': None,  # of a version that counted nothing
  }.items():
    finished_stages.finish(
      tmp_path / model / 'checkpoints',
      'train',
      {'seconds': seconds} if seconds else {},
    )
  lines = terminal_table.results_table(str(tmp_path)).splitlines()
  assert lines[5:] == [
    'iteration_01: M-step, 75% of 40 s in steps; validation 25%'
  ]


def test_the_clock_reads_as_people_do():
  assert [console.clock(s) for s in (0.4, 65, 3600, 86399)] == [
    '0:00',
    '1:05',
    '1:00:00',
    '23:59:59',
  ]


def test_a_log_gets_progress_only_now_and_then(monkeypatch):
  out = io.StringIO()
  shown = console.Console(['job'], out)
  shown.start('job')
  for i in range(100):
    assert shown.line('job', f'@progress {i}/100 words')
  assert out.getvalue().splitlines() == ['run     job      0:00']
  monkeypatch.setattr(console, 'QUIET_SECONDS', 0.0)
  assert shown.line('job', '@progress 50/100 words')
  assert '50/100 words' in out.getvalue()
  assert not shown.line('job', 'progress of another kind')
  assert shown.line(
    'job', '@progress 0/0'
  )  # nothing to do is no division by zero
