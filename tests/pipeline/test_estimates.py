"""What a run needs: it grows with what is asked, and a full disk is seen."""

import shutil

import pytest
import sized_run

from rest_jax.config import configuration
from rest_jax.models.lora import LoraConfig
from rest_jax.pipeline import estimates


def needs(machine=None, iterations=2, **changes):
  machine = machine or sized_run.LAPTOP
  asked = sized_run.asked(**changes)
  prompts = sized_run.prompts()
  dials = sized_run.values(asked, prompts, machine)
  return estimates.of_run(
    asked,
    prompts,
    machine,
    dials | {'MAX_STEPS': 50},
    remat=dials['REMAT'],
    iterations=iterations,
    cores=2,
  )


def test_more_work_needs_more_time():
  one = needs()
  assert needs(num_samples=64).sampling_seconds > 2 * one.sampling_seconds
  assert needs(max_decode_length=960).sampling_seconds > one.sampling_seconds
  assert needs(iterations=4).training_seconds == 2 * one.training_seconds
  gpu = needs(sized_run.GPU)
  assert gpu.sampling_seconds < one.sampling_seconds / 10


def test_lora_needs_two_thirds_of_the_steps_time_and_little_disk():
  """No gradients of the weights; 16 ranks are 4 % of this model's numbers."""
  whole, thin = needs(), needs(adapters=LoraConfig(rank=16))
  steps = thin.training_seconds / whole.training_seconds
  assert 2 / 3 < steps < 2 / 3 * 1.05
  assert thin.disk_bytes < 0.05 * whole.disk_bytes
  assert thin.sampling_seconds == whole.sampling_seconds
  assert thin.training_bytes < whole.training_bytes


def test_without_iterations_nothing_is_trained():
  found = needs(iterations=0)
  assert found.training_seconds == found.disk_bytes == 0
  assert found.sampling_seconds > 0


def test_a_full_disk_is_seen_before_the_first_step(tmp_path, monkeypatch):
  usage = shutil.disk_usage(tmp_path)
  monkeypatch.setattr(
    shutil, 'disk_usage', lambda path: usage._replace(free=1 << 30)
  )
  with pytest.raises(configuration.ConfigurationError, match='1.0 GiB free'):
    estimates.require_disk(needs(), tmp_path)
  monkeypatch.setattr(
    shutil, 'disk_usage', lambda path: usage._replace(free=1 << 40)
  )
  estimates.require_disk(needs(), tmp_path)


def test_lines_say_what_is_there():
  text = '\n'.join(estimates.lines(needs(), sized_run.LAPTOP))
  assert 'of 8.0' in text and 'min' in text
