"""Adapters that are written load in peft and give our logits."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_networks
import tiny_run

from rest_jax.models import adapters, network
from rest_jax.models.checkpoints import peft_adapter
from rest_jax.models.lora import LoraConfig

PLAIN = small_networks.network(
  num_layers=2, num_heads=4, rope_theta=500.0, tie_embeddings=False
)
# Layers of two kinds, the last one in a stack of its own; with biases.
MIXED = dataclasses.replace(
  PLAIN,
  num_layers=5,
  layer_pattern=('local', 'global'),
  window=3,
  qkv_bias=True,
)
TOKENS = [5, 9, 3, 30, 7, 7, 12, 4, 21, 6]
LINEAR = {
  'query': ('self_attn.q_proj', 1),
  'key': ('self_attn.k_proj', 1),
  'value': ('self_attn.v_proj', 1),
  'output': ('self_attn.o_proj', 3),
  'gate': ('mlp.gate_proj', 1),
  'up': ('mlp.up_proj', 1),
  'down': ('mlp.down_proj', 1),
}
NORMS = {
  'attention_norm': 'input_layernorm',
  'mlp_norm': 'post_attention_layernorm',
}


def random(tree, scale):
  rng = np.random.default_rng(7)
  return jax.tree.map(
    lambda w: jnp.asarray(w + rng.normal(size=w.shape) * scale, jnp.float32),
    tree,
  )


def logits(model, variables):
  tokens = jnp.asarray(TOKENS)[None]
  net = network.Decoder(model)
  hidden, _ = net.apply(
    variables, tokens, jnp.arange(len(TOKENS))[None], jnp.ones_like(tokens)
  )
  return np.asarray(net.apply(variables, hidden, method='logits'))[0]


def published(model, params):
  """The same network of transformers."""
  import torch
  import transformers

  sizes = {
    'vocab_size': model.vocab_size,
    'hidden_size': model.embed_dim,
    'intermediate_size': model.mlp_dim,
    'num_hidden_layers': model.num_layers,
    'num_attention_heads': model.num_heads,
    'num_key_value_heads': model.num_kv_heads,
    'head_dim': model.head_dim,
    'max_position_embeddings': model.max_length,
    'rms_norm_eps': model.norm_epsilon,
    'rope_parameters': {'rope_type': 'default', 'rope_theta': 500.0},
    'tie_word_embeddings': False,
    'attn_implementation': 'eager',
  }
  if model.qkv_bias:
    names = {'local': 'sliding_attention', 'global': 'full_attention'}
    kinds = [names[model.kind(i)] for i in range(model.num_layers)]
    config = transformers.Qwen2Config(
      **sizes, use_sliding_window=True, sliding_window=3, layer_types=kinds
    )
    made = transformers.Qwen2ForCausalLM(config)
  else:
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
  own = params['params']
  state = {
    'model.embed_tokens.weight': own['embedding'],
    'model.norm.weight': own['final_norm']['scale'],
    'lm_head.weight': own['unembedding'],
  }
  for layer, weights in enumerate(network.layer_weights(model, params)):
    block = weights['params']
    for ours, (theirs, inputs) in LINEAR.items():
      name = f'model.layers.{layer}.{theirs}'
      w = np.asarray(block[ours])
      state[f'{name}.weight'] = w.reshape(np.prod(w.shape[:inputs]), -1).T
      if f'{ours}_bias' in block:
        state[f'{name}.bias'] = np.ravel(block[f'{ours}_bias'])
    for ours, theirs in NORMS.items():
      state[f'model.layers.{layer}.{theirs}.weight'] = block[ours]['scale']
  made.load_state_dict(
    {name: torch.tensor(np.asarray(w)) for name, w in state.items()}
  )
  return made.eval()


@pytest.mark.parametrize(
  'model, targets, modules',
  [
    (PLAIN, 'query|value', ['q_proj', 'v_proj']),
    (
      MIXED,
      '/(query|output|gate|down)$',
      ['down_proj', 'gate_proj', 'o_proj', 'q_proj'],
    ),
    (
      MIXED,
      'blocks/layers_1/(key|up)',
      [
        *('layers.1.self_attn.k_proj', 'layers.1.mlp.up_proj'),
        *('layers.3.self_attn.k_proj', 'layers.3.mlp.up_proj'),
      ],
    ),
  ],
)
def test_peft_adds_what_is_written_and_gives_our_logits(
  tmp_path, model, targets, modules
):
  peft = pytest.importorskip('peft', reason='peft reads what is written')
  torch = pytest.importorskip('torch', reason='peft runs on torch')
  pytest.importorskip('transformers', reason='the base is built with it')
  config = LoraConfig(rank=3, alpha=12.0, targets=targets)
  params = random(tiny_run.fresh(model, seed=0), 0.05)
  found = random(adapters.fresh(model, config, jax.random.key(0)), 0.1)
  theirs = published(model, params)

  def torch_logits(it):
    with torch.no_grad():
      return it(torch.tensor([TOKENS])).logits[0].numpy()

  alone = logits(model, params)
  np.testing.assert_allclose(torch_logits(theirs), alone, rtol=0, atol=2e-4)
  peft_adapter.write(found, model, config, 'owner/name', tmp_path / 'made')
  stated = json.loads((tmp_path / 'made/adapter_config.json').read_text())
  assert stated['target_modules'] == modules
  assert stated['base_model_name_or_path'] == 'owner/name'
  adapted = peft.PeftModel.from_pretrained(theirs, str(tmp_path / 'made'))
  held = [p for name, p in adapted.named_parameters() if 'lora_' in name]
  assert sum(p.numel() for p in held) == sum(
    leaf.size for leaf in jax.tree.leaves(found)
  )
  expected = logits(model, adapters.merge(params, found, model, config))
  assert np.abs(expected - alone).max() > 0.1
  np.testing.assert_allclose(torch_logits(adapted), expected, rtol=0, atol=2e-4)
