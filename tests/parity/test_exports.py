"""Every family, exported and imported: other programs compute the same.

The models are transformers' own (test_families.py). What is exported is loaded
by transformers and by llama.cpp; what is imported is read back tensor by
tensor.
"""

import json
import urllib.request

import numpy as np
import published_llama
import pytest
from parity_models import MODELS, V, made, torch, transformers

from rest_jax.artifacts import storage
from rest_jax.commands import (
  export_checkpoint,
  export_source,
  import_checkpoint,
)
from rest_jax.config import configuration
from rest_jax.models.checkpoints import described, gguf, gguf_writer, policies

# What llama.cpp has no word for, and the field that the error names.
NOT_IN_GGUF = {
  'llama, tied, exact gelu': 'activation',
  'mistral': 'window',
  'qwen 2 with late windows': 'window',
  'qwen 2': 'head_dim',
  'gemma 2': 'query_pre_attn_scalar',
  'gemma 3': 'query_pre_attn_scalar',
}
# The same families as their published models are.
IN_GGUF = {name: {} for name in MODELS if name not in NOT_IN_GGUF}
IN_GGUF |= {'qwen 2': {'head_dim': 8}}
IN_GGUF |= {
  name: {'query_pre_attn_scalar': 16} for name in ('gemma 2', 'gemma 3')
}


@pytest.fixture(params=MODELS)
def name(request):
  return request.param


@pytest.fixture
def published(name, tmp_path):
  made(name)[0].save_pretrained(tmp_path / 'published')
  return tmp_path / 'published'


def tensors(path):
  config = described.network(path)
  return published_llama.read(policies.opened(path, config), config)


def assert_same(one, other, **tolerance):
  assert one.keys() == other.keys()
  for key, value in one.items():
    np.testing.assert_allclose(
      np.asarray(value, np.float32),
      np.asarray(other[key], np.float32),
      err_msg=str(key),
      **(tolerance or {'rtol': 0, 'atol': 0}),
    )


def test_an_exported_folder_has_the_logits_of_the_model(
  name, published, tmp_path
):
  _, ids, expected = made(name)
  out = tmp_path / 'out'
  export_checkpoint.export(published, str(out), dtype='float32')
  assert described.network(out) == described.network(published)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    out, attn_implementation='eager'
  ).eval()
  assert model.dtype == torch.float32
  with torch.no_grad():
    got = model(torch.tensor(ids)).logits.numpy()
  np.testing.assert_allclose(got, expected, atol=2e-5)


def test_an_imported_base_has_every_tensor_and_exports_the_same(
  published, tmp_path
):
  base, out = tmp_path / 'base', tmp_path / 'out'
  import_checkpoint.import_checkpoint(published, base)
  assert described.network(base) == described.network(published)
  assert_same(tensors(base), tensors(published))
  export_checkpoint.export(base, str(out))
  assert_same(tensors(out), tensors(published))


def tokenizer(path):
  """A file whose tokenizer has as many pieces as the models embed."""
  import small_tokenizers

  pieces = ['<unk>', '</s>', *(chr(0x4E00 + i) for i in range(V - 2))]
  return small_tokenizers.write_gguf(
    path,
    model='llama',
    pre='default',
    pieces=pieces,
    types=[2, 3, *[1] * (V - 2)],
    scores=[0.0] * V,
    eos=1,
    bos=1,
    add_bos=False,
  )


def written(published, tmp_path, dtype):
  spec = tokenizer(tmp_path / 'tokenizer.gguf')
  target = tmp_path / f'{dtype}.gguf'
  export_checkpoint.export(
    published,
    str(target),
    dtype=dtype,
    tokenizer=export_source.Tokenizer(spec),
  )
  return target


@pytest.mark.parametrize('name', NOT_IN_GGUF)
def test_a_network_that_llama_cpp_lacks_is_refused_by_the_field(
  name, published, tmp_path
):
  with pytest.raises(
    configuration.ConfigurationError, match=f'  {NOT_IN_GGUF[name]}: '
  ):
    written(published, tmp_path, 'f32')
  assert not list(tmp_path.glob('*f32*'))


@pytest.mark.parametrize('name', IN_GGUF)
def test_a_gguf_file_has_every_tensor(name, tmp_path):
  published = tmp_path / 'published'
  made(name, **IN_GGUF[name])[0].save_pretrained(published)
  config = described.network(published)
  target = written(published, tmp_path, 'f32')
  back = published_llama.read(gguf.opened(target, config), config)
  # Gemma's norms are stored with a 1 added: the last bits are rounded.
  assert_same(back, tensors(published), rtol=0, atol=1e-6)
  rounded = written(published, tmp_path, 'q8_0')
  back = published_llama.read(gguf.opened(rounded, config), config)
  assert_same(back, tensors(published), rtol=0, atol=0.02)


@pytest.mark.parametrize('name', IN_GGUF)
def test_llama_cpp_gives_the_probabilities_of_transformers(name, tmp_path):
  xllamacpp = pytest.importorskip('xllamacpp')
  model, ids, logits = made(name, **IN_GGUF[name])
  model.save_pretrained(tmp_path / 'published')
  options = xllamacpp.CommonParams()
  options.model.path = str(written(tmp_path / 'published', tmp_path, 'f32'))
  options.n_ctx, options.n_parallel, options.port = 256, 1, 0
  options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
  kind = xllamacpp.ggml_type.GGML_TYPE_F32
  options.cache_type_k = options.cache_type_v = kind
  off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
  options.flash_attn_type = off  # it computes in float16
  options.verbosity, options.warmup = -1, False
  server = xllamacpp.Server(options)
  body = {
    'prompt': ids[0].tolist(),
    'n_predict': 1,
    'n_probs': 20,
    'temperature': 0,
  }
  request = urllib.request.Request(
    f'{server.listening_address}/completion',
    data=json.dumps(body).encode(),
    headers={'Content-Type': 'application/json'},
  )
  answer = json.loads(urllib.request.urlopen(request).read())
  row = logits[0, -1].astype(np.float64)
  expected = row - np.log(np.exp(row - row.max()).sum()) - row.max()
  # llama.cpp looks gelu up in a table of float16.
  atol = 5e-3 if name.startswith('gemma') else 1e-3
  found = answer['completion_probabilities'][0]['top_logprobs']
  assert len(found) == 20
  for entry in found:
    np.testing.assert_allclose(
      entry['logprob'], expected[entry['id']], atol=atol
    )


def test_rows_of_queries_go_back_and_forth():
  rows = np.arange(24, dtype=np.float32).reshape(24, 1)
  there = gguf_writer.interleaved(rows, 12)
  np.testing.assert_array_equal(there[:4, 0], [0, 6, 1, 7])
  np.testing.assert_array_equal(gguf.half_split(there, 12), rows)


def test_shards_are_as_small_as_is_asked_for(published, tmp_path):
  from rest_jax.models.checkpoints import hf_config_writer, safetensors_writer

  config = described.network(published)
  (tmp_path / 'out').mkdir()
  safetensors_writer.write(
    tmp_path / 'out',
    policies.opened(published, config),
    config,
    dtype='float32',
    config=hf_config_writer.content(config, 'float32'),
    shard_bytes=20_000,
  )
  files = sorted(storage.path(tmp_path / 'out').glob('*.safetensors'))
  assert len(files) > 3
  assert_same(tensors(tmp_path / 'out'), tensors(published))
