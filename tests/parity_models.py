"""Small models of every family, made by transformers, with random weights."""

import functools

import parity_packages

torch = parity_packages.need('torch')
transformers = parity_packages.need('transformers')

V, LENGTH = 96, 24
SMALL = dict(
  vocab_size=V,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=16,
  max_position_embeddings=64,
)
LLAMA3 = {
  'rope_type': 'llama3',
  'rope_theta': 500.0,
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 16,
}
GEMMA3_ROPE = {
  'full_attention': {
    'rope_type': 'linear',
    'factor': 8.0,
    'rope_theta': 1000.0,
  },
  'sliding_attention': {'rope_type': 'default', 'rope_theta': 100.0},
}
PLAIN_ROPE = {'rope_type': 'default', 'rope_theta': 500.0}
# Class of transformers, and what differs from SMALL.
MODELS = {
  'llama 2': ('Llama', dict(num_key_value_heads=4)),
  'llama 3': ('Llama', dict(rope_parameters=LLAMA3)),
  'llama, tied, exact gelu': (
    'Llama',
    dict(tie_word_embeddings=True, hidden_act='gelu'),
  ),
  'mistral without a window': ('Mistral', dict(sliding_window=None)),
  'mistral': ('Mistral', dict(sliding_window=7)),
  'qwen 2': ('Qwen2', dict(rope_parameters=PLAIN_ROPE)),
  'qwen 2 with late windows': (
    'Qwen2',
    dict(
      num_hidden_layers=3,
      use_sliding_window=True,
      sliding_window=7,
      max_window_layers=2,
    ),
  ),
  'qwen 3': ('Qwen3', dict(tie_word_embeddings=True)),
  'gemma, one key head': ('Gemma', dict(num_key_value_heads=1)),
  'gemma 2': (
    'Gemma2',
    dict(
      num_hidden_layers=5,
      sliding_window=7,
      query_pre_attn_scalar=24,
      attn_logit_softcapping=2.0,
      final_logit_softcapping=3.0,
    ),
  ),
  'gemma 3': (
    'Gemma3Text',
    dict(sliding_window=7, num_hidden_layers=8, rope_parameters=GEMMA3_ROPE),
  ),
}


@functools.cache
def made(name, **more):
  """(the model of transformers, ids, its logits of each id).

  Args:
    name: of MODELS.
    **more: fields of the configuration, beside those of MODELS.
  """
  kind, changes = MODELS[name]
  config = getattr(transformers, f'{kind}Config')(**SMALL | changes | more)
  config._attn_implementation = 'eager'
  torch.manual_seed(0)
  kind = kind.removesuffix('Text')
  model = getattr(transformers, f'{kind}ForCausalLM')(config).eval()
  with torch.no_grad():
    for weight in model.parameters():
      # Norms and biases start at constants, which would hide a mix-up.
      weight.add_(torch.randn_like(weight) * 0.2)
    ids = torch.randint(0, V, (2, LENGTH), generator=torch.manual_seed(1))
    logits = model(ids).logits.numpy()
  return model, ids.numpy(), logits
