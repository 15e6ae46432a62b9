"""A small Llama as it is published: matrices, a forward pass, and files.

Written from the published conventions, not from our code: matrices are
(out, in); Hugging Face pairs dimension i of a head with i + half, llama.cpp
pairs 2i with 2i + 1 and permutes the query and key rows to suit.
"""

import json

import numpy as np

from rest_jax.models.architecture import DecoderConfig

V, LAYERS, D, HEADS, KV_HEADS, E, F = 64, 3, 32, 4, 2, 8, 64
THETA, EPSILON = 500.0, 1e-5
SIZES = {
  'vocab_size': V,
  'num_layers': LAYERS,
  'embed_dim': D,
  'num_heads': HEADS,
  'num_kv_heads': KV_HEADS,
  'head_dim': E,
  'mlp_dim': F,
  'max_length': 32,
  'rope_theta': THETA,
  'norm_epsilon': EPSILON,
}


def network(tied=True, **changes):
  """The DecoderConfig that reads these matrices, but for the changes."""
  return DecoderConfig(**SIZES | changes, tie_embeddings=tied)


def matrices(*, tied, seed=0):
  """Random matrices by Hugging Face's names, float32."""
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return (rng.standard_normal(shape) * 0.2).astype(np.float32)

  found = {'model.embed_tokens.weight': draw(V, D)}
  for i in range(LAYERS):
    layer = {
      'self_attn.q_proj': draw(HEADS * E, D),
      'self_attn.k_proj': draw(KV_HEADS * E, D),
      'self_attn.v_proj': draw(KV_HEADS * E, D),
      'self_attn.o_proj': draw(D, HEADS * E),
      'mlp.gate_proj': draw(F, D),
      'mlp.up_proj': draw(F, D),
      'mlp.down_proj': draw(D, F),
      'input_layernorm': 1 + draw(D),
      'post_attention_layernorm': 1 + draw(D),
    }
    found |= {f'model.layers.{i}.{n}.weight': w for n, w in layer.items()}
  found['model.norm.weight'] = 1 + draw(D)
  if not tied:
    found['lm_head.weight'] = draw(V, D)
  return found


def forward(found, tokens, *, sizes=SIZES, interleaved=False, rope_factor=1):
  """Logits (length, V) in float64, by Hugging Face's names.

  Args:
    found: the matrices; `interleaved` says which rotary pairs they are for.
    rope_factor: positions are divided by it (linear scaling).
  """
  heads, kv_heads = sizes['num_heads'], sizes['num_kv_heads']
  width = sizes['head_dim']
  get = {name: w.astype(np.float64) for name, w in found.items()}
  angles = np.arange(len(tokens))[:, None] * sizes['rope_theta'] ** (
    -np.arange(0, width, 2) / width
  )
  angles = angles / rope_factor
  cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]

  def norm(x, scale):
    mean = (x**2).mean(-1, keepdims=True)
    return x / np.sqrt(mean + sizes['norm_epsilon']) * scale

  def rotate(x):  # (length, heads, width)
    half = width // 2
    first = np.s_[..., 0::2] if interleaved else np.s_[..., :half]
    second = np.s_[..., 1::2] if interleaved else np.s_[..., half:]
    out = np.empty_like(x)
    out[first] = x[first] * cos - x[second] * sin
    out[second] = x[second] * cos + x[first] * sin
    return out

  x = get['model.embed_tokens.weight'][np.asarray(tokens)]
  causal = np.tril(np.ones((len(tokens),) * 2, bool))
  for i in range(sizes['num_layers']):

    def w(name, i=i):
      return get[f'model.layers.{i}.{name}.weight']

    h = norm(x, w('input_layernorm'))
    q, k, v = (
      (h @ w(f'self_attn.{n}_proj').T).reshape(len(tokens), -1, width)
      for n in 'qkv'
    )
    q, k = rotate(q), rotate(k)
    k, v = (np.repeat(a, heads // kv_heads, axis=1) for a in (k, v))
    scores = np.einsum('ihe,jhe->hij', q, k) / np.sqrt(width)
    scores = np.exp(np.where(causal, scores, -np.inf))
    scores /= scores.sum(-1, keepdims=True)
    out = np.einsum('hij,jhe->ihe', scores, v).reshape(len(tokens), -1)
    x = x + out @ w('self_attn.o_proj').T
    h = norm(x, w('post_attention_layernorm'))
    gate = h @ w('mlp.gate_proj').T
    h = gate / (1 + np.exp(-gate)) * (h @ w('mlp.up_proj').T)
    x = x + h @ w('mlp.down_proj').T
  x = norm(x, get['model.norm.weight'])
  return x @ get.get('lm_head.weight', get['model.embed_tokens.weight']).T


GGUF_NAMES = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'input_layernorm': 'attn_norm',
  'post_attention_layernorm': 'ffn_norm',
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  'lm_head': 'output',
}


def gguf_name(name):
  """'model.layers.0.self_attn.q_proj.weight' to 'blk.0.attn_q.weight'."""
  stem = name.removesuffix('.weight')
  if stem.startswith('model.layers.'):
    _, _, layer, rest = stem.split('.', 3)
    return f'blk.{layer}.{GGUF_NAMES[rest]}.weight'
  return f'{GGUF_NAMES[stem]}.weight'


def permuted(found):
  """The matrices with query and key rows for interleaved pairs."""
  result = dict(found)
  for name, w in found.items():
    if '.q_proj.' in name or '.k_proj.' in name:
      rows = np.arange(len(w)).reshape(-1, 2, E // 2)  # head, which, pair
      result[name] = w[np.swapaxes(rows, 1, 2).reshape(-1)]
  return result


def write_gguf(
  path, found, *, quantised=None, changes=(), architecture='llama'
):
  """A GGUF file of these matrices; `changes` replaces metadata."""
  import gguf

  stated = {
    'block_count': LAYERS,
    'context_length': 32,
    'embedding_length': D,
    'feed_forward_length': F,
    'head_count': HEADS,
    'head_count_kv': KV_HEADS,
    'rope_freq_base': THETA,
    'layer_norm_rms_eps': EPSILON,
  } | dict(changes)
  writer = gguf.GGUFWriter(str(path), architecture)
  for name, value in stated.items():
    getattr(writer, f'add_{name}')(value)
  for name, w in permuted(found).items():
    if quantised is not None and w.ndim == 2:
      kind = gguf.GGMLQuantizationType[quantised]
      data = gguf.quants.quantize(w, kind)
      writer.add_tensor(gguf_name(name), data, raw_dtype=kind)
    else:
      writer.add_tensor(gguf_name(name), w)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return str(path)


def write_safetensors(folder, found, *, files=1, dtype=None, config=()):
  """A folder as Hugging Face writes it; `config` None: without config.json."""
  import ml_dtypes

  folder.mkdir(exist_ok=True)
  names = list(found)
  kind = {None: 'F32', 'bfloat16': 'BF16', 'float16': 'F16'}[dtype]
  for number in range(files):
    header, body = {'__metadata__': {'format': 'pt'}}, b''
    for name in names[number::files]:
      w = found[name]
      if dtype is not None:
        w = w.astype(getattr(ml_dtypes, dtype, dtype))
      data = w.tobytes()
      header[name] = {
        'dtype': kind,
        'shape': list(w.shape),
        'data_offsets': [len(body), len(body) + len(data)],
      }
      body += data
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    file = folder / f'model-{number + 1:05d}-of-{files:05d}.safetensors'
    file.write_bytes(len(text).to_bytes(8, 'little') + text + body)
  if config is not None:
    stated = {
      'model_type': 'llama',
      'hidden_act': 'silu',
      'num_hidden_layers': LAYERS,
      'hidden_size': D,
      'intermediate_size': F,
      'num_attention_heads': HEADS,
      'num_key_value_heads': KV_HEADS,
      'rope_theta': THETA,
      'rms_norm_eps': EPSILON,
      'tie_word_embeddings': 'lm_head.weight' not in found,
      'vocab_size': V,
    } | dict(config)
    (folder / 'config.json').write_text(json.dumps(stated))
  return str(folder)


def our_logits(source, config, tokens):
  """What our network says after models/checkpoints.load, on one device."""
  import jax
  import jax.numpy as jnp

  from rest_jax.distributed import partitioning
  from rest_jax.models import network
  from rest_jax.models.checkpoints import policies

  mesh = partitioning.make_mesh(partitioning.MeshConfig(), jax.devices()[:1])
  params = policies.load(source, config, mesh)
  net = network.Decoder(config)
  length = len(tokens)
  x, _ = net.apply(
    params,
    jnp.asarray(tokens)[None],
    jnp.arange(length)[None],
    jnp.ones((1, length), jnp.int32),
  )
  return np.asarray(net.apply(params, x, method='logits'))[0]


def read(opened, config):
  """Every tensor of an open checkpoint as published, by (name, layer)."""
  from rest_jax.models.checkpoints import weights

  return {
    (tensor.name, tensor.layer): opened.read(
      tensor,
      slice(0, tensor.shape[0]),
      slice(0, tensor.shape[1] if tensor.inputs else 1),
    )
    for tensor in weights.tensors(config)
  }
