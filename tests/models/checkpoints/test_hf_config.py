"""What config.json says of a checkpoint and its tensors do not show."""

import published_llama as published
import pytest

from rest_jax.config import configuration
from rest_jax.models.architecture import RopeScaling
from rest_jax.models.checkpoints import safetensors as ours


def test_what_config_json_says_otherwise_is_listed(tmp_path):
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=True),
    config={'rms_norm_eps': 1e-6, 'hidden_act': 'gelu_pytorch_tanh'},
  )
  with pytest.raises(configuration.ConfigurationError) as caught:
    ours.opened(folder, published.network(num_layers=5))
  for line in (
    'norm_epsilon: the file has 1e-06, MODEL binds 1e-05',
    'activation: the file has gelu, MODEL binds silu',
    'num_layers: the file has 3, MODEL binds 5',
  ):
    assert line in str(caught.value)
  assert 'mlp_dim' not in str(caught.value)


# Of config.json, as transformers 5 and 4 write it, and what must be said where
# MODEL binds theta 500 and no scaling.
ROPE = {
  'theta inside': (
    {'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e6}},
    'rope_theta: the file has 1000000.0, MODEL binds 500.0',
  ),
  'no theta': ({}, 'rope_theta: the file has 10000.0, MODEL binds 500.0'),
  'two thetas': (
    {
      'rope_scaling': {'rope_type': 'default', 'rope_theta': 500.0},
      'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e6},
    },
    'two bases of the rotary embedding',
  ),
  'llama3': (
    {
      'rope_parameters': {
        'rope_type': 'llama3',
        'rope_theta': 500.0,
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 8192,
      }
    },
    'rope_scaling: the file has RopeScaling',
  ),
  'llama3 without a number': (
    {'rope_theta': 500.0, 'rope_scaling': {'type': 'llama3', 'factor': 8.0}},
    "lacks a number \\('low_freq_factor'",
  ),
  'linear': (
    {'rope_theta': 500.0, 'rope_scaling': {'type': 'linear', 'factor': 8.0}},
    'rope_scaling: the file has RopeScaling',
  ),
  'yarn': (
    {
      'rope_parameters': {
        'rope_type': 'yarn',
        'rope_theta': 500.0,
        'factor': 4.0,
      }
    },
    "rotary scaling 'yarn' is not implemented",
  ),
  'dynamic': (
    {'rope_theta': 500.0, 'rope_scaling': {'type': 'dynamic', 'factor': 2.0}},
    "rotary scaling 'dynamic' is not implemented",
  ),
  'longrope': (
    {
      'rope_theta': 500.0,
      'rope_scaling': {'rope_type': 'longrope', 'short_factor': [1.0]},
    },
    "rotary scaling 'longrope' is not implemented",
  ),
  'no type': (
    {'rope_theta': 500.0, 'rope_scaling': {'factor': 2.0}},
    "{'factor': 2.0} is not implemented",
  ),
  'by layer': (
    {'rope_parameters': {'full_attention': {'rope_theta': 500.0}}},
    'full_attention.* is not implemented',
  ),
  'a part of the head': (
    {'rope_theta': 500.0, 'partial_rotary_factor': 0.5},
    'partial_rotary_factor 0.5',
  ),
}


@pytest.mark.parametrize('case', ROPE)
def test_another_rotary_embedding_is_refused_by_its_name(tmp_path, case):
  stated, match = ROPE[case]
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=True),
    config={'rope_theta': None} | stated,
  )
  with pytest.raises(configuration.ConfigurationError, match=match):
    ours.opened(folder, published.network())


@pytest.mark.parametrize(
  'stated',
  [
    {'rope_parameters': {'rope_type': 'default', 'rope_theta': 500}},
    {'rope_theta': 500.0, 'rope_scaling': None},
    {'rope_theta': 500.0, 'rope_scaling': {'type': 'linear', 'factor': 1.0}},
    {'rope_theta': 500.0, 'rope_scaling': {'type': 'default'}},
  ],
)
def test_the_same_rotary_embedding_is_read_in_each_spelling(tmp_path, stated):
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=True),
    config={'rope_theta': None} | stated,
  )
  assert ours.opened(folder, published.network())


@pytest.mark.parametrize('key', ['rope_scaling', 'rope_parameters'])
def test_a_scaling_that_model_binds_is_accepted(tmp_path, key):
  stated = {
    'rope_type': 'llama3',
    'rope_theta': 500.0,
    'factor': 32.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 8192,
  }
  folder = published.write_safetensors(
    tmp_path / 'm',
    published.matrices(tied=True),
    config={'rope_theta': None, key: stated},
  )
  scaling = RopeScaling(kind='llama3', factor=32.0)
  assert ours.opened(folder, published.network(rope_scaling=scaling))
  other = RopeScaling(kind='llama3', factor=8.0)
  with pytest.raises(configuration.ConfigurationError, match='factor=8.0'):
    ours.opened(folder, published.network(rope_scaling=other))


@pytest.mark.parametrize(
  'stated, match',
  [
    (
      {'model_type': 'mistral', 'sliding_window': 16},
      'window: the file has 16, MODEL binds None',
    ),
    ({'quantization_config': {'quant_method': 'fp8'}}, 'quantised .fp8'),
    ({'hidden_act': 'gelu'}, 'activation: the file has gelu_exact'),
    ({'rms_norm_eps': None}, 'norm_epsilon: the file has 1e-06'),
  ],
)
def test_what_tensors_do_not_show_is_read_from_config_json(
  tmp_path, stated, match
):
  folder = published.write_safetensors(
    tmp_path / 'm', published.matrices(tied=True), config=stated
  )
  with pytest.raises(configuration.ConfigurationError, match=match):
    ours.opened(folder, published.network())
