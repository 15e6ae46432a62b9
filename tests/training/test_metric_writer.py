"""What a training writes of itself, and what stops it."""

import json

import numpy as np
import pytest

from rest_jax.config import configuration
from rest_jax.training import metric_writer

FINE = {'loss': 1.0, 'grad_norm': 2.0, 'param_norm': 3.0, 'token_loss': 1.0}


def lines(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_lines_from_the_resumed_step_on_are_written_anew(tmp_path):
  log = metric_writer.MetricsLog(tmp_path, first_step=0)
  for step in (0, 5, 10):
    log.write(step, {'loss': float(step)})
  log.flush()
  again = metric_writer.MetricsLog(tmp_path, first_step=6)
  again.write(10, {'loss': -1.0})
  again.flush()
  assert lines(tmp_path) == [
    {'step': 0, 'loss': 0.0},
    {'step': 5, 'loss': 5.0},
    {'step': 10, 'loss': -1.0},
  ]


def test_a_line_is_on_disk_once_it_was_flushed(tmp_path):
  log = metric_writer.MetricsLog(tmp_path, first_step=0)
  log.write(1, {'loss': 1.0})
  assert not (tmp_path / 'metrics.jsonl').exists()
  log.flush()
  assert len(lines(tmp_path)) == 1


def test_a_remote_folder_gets_its_lines_too(bucket):
  log = metric_writer.MetricsLog(f'{bucket}/lr', first_step=0)
  log.write(1, {'loss': 1.0})
  log.flush()
  again = metric_writer.MetricsLog(f'{bucket}/lr', first_step=2)
  again.write(2, {'loss': 2.0})
  again.flush()
  text = (again.folder / 'metrics.jsonl').read_text()
  assert [json.loads(line)['step'] for line in text.splitlines()] == [1, 2]


@pytest.mark.parametrize('name', ['loss', 'grad_norm', 'param_norm'])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_number_that_is_none_raises_with_the_step_and_the_norms(name, value):
  meter = metric_writer.StepMeter()
  meter.add(6, FINE, tokens=10)
  meter.add(7, FINE | {name: value}, tokens=10)  # settles step 6 alone
  with pytest.raises(configuration.ConfigurationError) as error:
    meter.settle()
  text = str(error.value)
  assert 'step 7' in text and 'LEARNING_RATES' in text
  for norm in ('gradient norm', 'parameter norm'):
    assert norm in text


def test_a_report_is_of_the_last_step_and_the_rate_of_all_since_the_report():
  meter = metric_writer.StepMeter()
  meter.add(1, FINE, tokens=100)
  meter.add(2, FINE | {'loss': 0.5}, tokens=200)
  meter.clock(2.0)
  values = meter.report()
  assert values['loss'] == 0.5
  assert values['tokens_per_second'] == pytest.approx(150, rel=0.01)
  meter.add(3, FINE, tokens=50)
  meter.clock(1.0)
  assert meter.report()['tokens_per_second'] == pytest.approx(50, rel=0.01)
