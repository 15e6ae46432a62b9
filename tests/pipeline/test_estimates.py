"""What a run needs: it grows with what is asked, and a full disk is seen."""

import shutil

import pytest
import sized_run

from rest_jax.config import configuration
from rest_jax.models.lora import LoraConfig
from rest_jax.pipeline import estimates

LAPTOP = estimates.Devices(sized_run.LAPTOP, sized_run.LAPTOP)


def derived(machine=sized_run.LAPTOP, **changes):
  asked = sized_run.asked(**changes)
  return sized_run.values(asked, sized_run.prompts(), machine)


def needs(
  machine=sized_run.LAPTOP,
  iterations=2,
  given=None,
  sampler=None,
  workers=1,
  **changes,
):
  dials = derived(machine, **changes)
  return estimates.of_run(
    sized_run.asked(**changes),
    sized_run.prompts(),
    estimates.Devices(sampler or machine, machine, workers),
    dials
    | {'MAX_STEPS': 50, 'DVAL_EVERY': 5, 'DVAL_PROBLEMS': 0}
    | (given or {}),
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


def test_workers_divide_the_time_of_sampling_and_not_that_of_training():
  one, four = (needs(workers=n, num_samples=64) for n in (1, 4))
  assert four.sampling_seconds < one.sampling_seconds / 2
  assert four.training_seconds == one.training_seconds
  mixed = needs(sampler=sized_run.GPU)
  assert mixed.sampling_seconds < one.sampling_seconds / 10
  assert mixed.training_seconds == one.training_seconds


def test_lora_needs_two_thirds_of_the_steps_time_and_little_disk():
  """No gradients of the weights; 16 ranks are 4 % of this model's numbers."""
  whole, thin = needs(), needs(adapters=LoraConfig(rank=16))
  steps = thin.training_seconds / whole.training_seconds
  assert 2 / 3 < steps < 2 / 3 * 1.05
  assert thin.disk_bytes < 0.05 * whole.disk_bytes
  assert thin.sampling_seconds == whole.sampling_seconds
  assert thin.training_bytes < whole.training_bytes


def test_devices_that_share_rows_need_less_memory_however_many_are_asked_for():
  pod = sized_run.POD
  needed = [needs(pod, train_tensor=n).training_bytes for n in (1, 2, 512)]
  assert needed[1] < needed[0]
  assert needed[2] > 0  # the mesh is refused elsewhere
  assert needs(train_tensor=8).training_bytes > 0


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


@pytest.mark.parametrize(
  'given, stage',
  [
    ({'GROUPS': 1000}, 'sampling'),
    ({'GREEDY_GROUPS': 5000}, 'sampling'),
    ({'BATCH_ROWS': 512, 'MICROBATCHES': 1}, 'training'),
  ],
)
def test_sizes_set_by_hand_that_cannot_fit_are_refused(given, stage):
  found = derived()
  estimates.require_memory(needs(), LAPTOP, found, trains=True)
  with pytest.raises(configuration.ConfigurationError) as error:
    estimates.require_memory(
      needs(given=given), LAPTOP, found | given, trains=True
    )
  text = str(error.value)
  assert text.startswith(stage) and '; CPU' in text and 'has 8.0' in text
  for name, value in given.items():
    assert f'{name} = {value}' in text


def test_the_memory_of_sampling_grows_by_what_each_row_keeps():
  """Keys and values of its tokens, a share of its question's, and logits."""
  one, two = (needs(given={'GROUPS': g}).sampling_bytes for g in (100, 101))
  model = sized_run.SMOLLM2
  lanes, bucket = (derived()[name] for name in ('LANES', 'PROMPT_BUCKET'))
  token = 2 * model.num_layers * model.num_kv_heads * model.head_dim * 4
  expected = token * (lanes * 96 + bucket) + lanes * 24 * model.vocab_size
  assert two - one == pytest.approx(expected)


def test_lines_say_what_is_there():
  text = '\n'.join(estimates.lines(needs(), sized_run.LAPTOP))
  assert 'of 8.0' in text and 'min' in text


def test_a_validation_of_500_problems_costs_little_of_an_m_step_of_8b():
  """On v5e-256, 1,000 steps of 256 rows at most, D_val every 100."""
  found = needs(
    sized_run.POD,
    model=sized_run.LLAMA_8B,
    max_decode_length=1024,
    given={
      'MAX_STEPS': 1000,
      'DVAL_EVERY': 100,
      'DVAL_PROBLEMS': 500,
      'GREEDY_GROUPS': 512,
      'BATCH_ROWS': 256,
      'ROW_LENGTH': 2048,
    },
  )
  assert 0 < found.validation_seconds < 0.1 * found.training_seconds


def test_a_validation_is_counted_beside_the_state_of_the_training():
  given = {'DVAL_MESH_TENSOR': 4, 'GREEDY_GROUPS': 512}
  pod, model = sized_run.POD, sized_run.LLAMA_8B
  found = needs(pod, model=model, given=given)
  state = 12 * model.num_parameters / pod.devices
  weights = 2 * model.num_parameters * (1 / 4 + 1 / pod.devices)
  token = 2 * model.num_layers * model.num_kv_heads * model.head_dim * 2
  bucket = derived(pod, model=model)['PROMPT_BUCKET']
  rows = 2 * (token * (96 + bucket) + 24 * model.vocab_size)
  assert found.validation_bytes == pytest.approx(state + weights + rows)
