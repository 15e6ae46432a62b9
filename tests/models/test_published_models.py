"""The gin files of published models, against what was published.

PARAMETERS is what the published files hold. Three kinds of sources give the
numbers, and none of them was computed by this package:

    hub     `total` of the safetensors metadata on Hugging Face, as quoted in
            public repositories
    keras   `params` of the presets in keras-hub (keras_hub/src/models)
    gguf    `n_params` that llama.cpp prints for a conversion of the model

The sizes themselves were compared with litgpt/config.py (litgpt) and with
MaxText's configs/models/*.yml when the files were written.
"""

import math
import runpy

import jax
import pytest

from rest_jax.commands import models
from rest_jax.config import gin_parser, packaged_gin
from rest_jax.models.architecture import RopeScaling
from rest_jax.models.checkpoints import policies

PARAMETERS = {
  'gemma_2b': (2_506_172_416, 'keras gemma_2b_en'),
  'gemma_7b': (8_537_680_896, 'keras gemma_7b_en'),
  'gemma2_2b': (2_614_341_888, 'keras gemma2_2b_en'),
  'gemma2_9b': (9_241_705_984, 'hub google/gemma-2-9b, keras gemma2_9b_en'),
  'gemma2_27b': (27_227_128_320, 'keras gemma2_27b_en'),
  'gemma3_270m': (268_098_176, 'keras gemma3_270m'),
  'gemma3_1b': (999_885_952, 'keras gemma3_1b'),
  # The three with an encoder of images: see the test of their remainder.
  'gemma3_4b': (3_880_263_168, 'gguf gemma-3-4b-it'),
  'gemma3_12b': (11_766_034_176, 'hub google/gemma-3-12b-it, less images'),
  'gemma3_27b': (27_009_346_304, 'hub google/gemma-3-27b-it, less images'),
  'llama2_7b': (6_738_415_616, 'keras llama2_7b_en'),
  'llama2_13b': (13_015_864_320, 'hub meta-llama/Llama-2-13b-chat-hf'),
  'llama2_70b': (68_976_648_192, 'hub meta-llama/Llama-2-70b-chat-hf'),
  'llama3_8b': (8_030_261_248, 'keras llama3.1_8b'),
  'llama3_70b': (70_553_706_496, 'hub meta-llama/Llama-3.3-70B-Instruct'),
  'llama3p2_1b': (1_235_814_400, 'hub meta-llama/Llama-3.2-1B-Instruct'),
  'llama3p2_3b': (3_212_749_824, 'hub meta-llama/Llama-3.2-3B-Instruct'),
  'mistral_7b': (7_248_023_552, 'keras mistral_0.3_7b_en'),
  'qwen2_0p5b': (494_032_768, 'keras qwen2.5_0.5b_en, of the same sizes'),
  'qwen2p5_0p5b': (494_032_768, 'keras qwen2.5_0.5b_en'),
  'qwen2p5_1p5b': (1_543_714_304, 'keras qwen2.5_math_1.5b_en'),
  'qwen2p5_3b': (3_085_938_688, 'keras qwen2.5_3b_en'),
  'qwen2p5_7b': (7_615_616_512, 'keras qwen2.5_math_7b_en'),
  'qwen2p5_14b': (14_770_033_664, 'gguf Qwen2.5-14B-Instruct'),
  'qwen2p5_32b': (32_763_876_352, 'keras qwen2.5_instruct_32b_en'),
  'qwen2p5_72b': (72_706_203_648, 'keras qwen2.5_instruct_72b_en'),
  'qwen3_0p6b': (596_049_920, 'keras qwen3_0.6b_en'),
  'qwen3_1p7b': (1_720_574_976, 'keras qwen3_1.7b_en'),
  'qwen3_4b': (4_022_468_096, 'keras qwen3_4b_en'),
  'qwen3_8b': (8_190_735_360, 'keras qwen3_8b_en'),
  'qwen3_14b': (14_768_307_200, 'keras qwen3_14b_en'),
  'qwen3_32b': (32_762_123_264, 'keras qwen3_32b_en'),
  'smollm2_135m': (134_515_008, 'hub HuggingFaceTB/SmolLM2-135M'),
  'smollm2_360m': (361_821_120, 'hub HuggingFaceTB/SmolLM2-360M'),
  'smollm2_1p7b': (1_711_376_384, 'hub HuggingFaceTB/SmolLM2-1.7B'),
}
UNPUBLISHED = {'tiny'}

# What no number of parameters shows, by the keys of config.json. Of a family
# all sizes have it, but for the exceptions.
GEMMA = {'hidden_act': 'gelu_pytorch_tanh', 'rms_norm_eps': 1e-6}
CAPPED = {'attn_logit_softcapping': 50.0, 'final_logit_softcapping': 30.0}
LLAMA3 = {
  'rope_type': 'llama3',
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}
CONFIGS = {
  'gemma': GEMMA,
  'gemma2': GEMMA
  | CAPPED
  | {'sliding_window': 4096, 'query_pre_attn_scalar': 256},
  'gemma2_27b': {'query_pre_attn_scalar': 144},
  'gemma3': GEMMA
  | {
    'sliding_window': 1024,
    'query_pre_attn_scalar': 256,
    'rope_theta': 1e6,
    'rope_local_base_freq': 1e4,
    'rope_scaling': {'rope_type': 'linear', 'factor': 8.0},
  },
  'gemma3_270m': {'sliding_window': 512, 'rope_scaling': None},
  'gemma3_1b': {'sliding_window': 512, 'rope_scaling': None},
  'gemma3_27b': {'query_pre_attn_scalar': 168},
  'llama2': {'tie_word_embeddings': False},
  'llama3': {
    'rope_theta': 5e5,
    'rope_scaling': LLAMA3,
    'tie_word_embeddings': False,
  },
  'llama3p2': {'rope_theta': 5e5, 'rope_scaling': LLAMA3 | {'factor': 32.0}},
  'mistral': {'rope_theta': 1e6, 'tie_word_embeddings': False},
  'qwen2': {'rope_theta': 1e6, 'rms_norm_eps': 1e-6},
  'qwen2p5': {
    'rope_theta': 1e6,
    'rms_norm_eps': 1e-6,
    'tie_word_embeddings': False,
  },
  'qwen2p5_0p5b': {'tie_word_embeddings': True},
  'qwen2p5_1p5b': {'tie_word_embeddings': True},
  'qwen2p5_3b': {'tie_word_embeddings': True},
  'qwen2p5_14b': {'rms_norm_eps': 1e-5},
  'qwen2p5_32b': {'rms_norm_eps': 1e-5},
  'qwen2p5_72b': {'rms_norm_eps': 1e-5},
  'qwen3': {
    'rope_theta': 1e6,
    'rms_norm_eps': 1e-6,
    'tie_word_embeddings': False,
  },
  'qwen3_0p6b': {'tie_word_embeddings': True},
  'qwen3_1p7b': {'tie_word_embeddings': True},
  'qwen3_4b': {'tie_word_embeddings': True},
  'smollm2': {'rope_theta': 1e5},
  'smollm2_1p7b': {'rope_theta': 1.3e5},
}
DEFAULTS = {
  'hidden_act': 'silu',
  'rms_norm_eps': 1e-5,
  'rope_theta': 1e4,
  'rope_local_base_freq': None,
  'rope_scaling': None,
  'sliding_window': None,
  'query_pre_attn_scalar': None,
  'attn_logit_softcapping': None,
  'final_logit_softcapping': None,
  'tie_word_embeddings': True,
}


def model(name, *bindings):
  """What gin/models/<name>.gin binds, as a stage gets it."""
  _, bound = gin_parser.parse(
    'sizes', gin_files=[f'models/{name}.gin'], bindings=bindings
  )
  return bound['model']


def config_json(network):
  """The keys of DEFAULTS, as a network has them."""
  scaling = network.rope_scaling
  if isinstance(scaling, RopeScaling):
    stated = {'rope_type': scaling.kind, 'factor': scaling.factor}
    if scaling.kind == 'llama3':
      stated |= {
        'low_freq_factor': scaling.low_freq_factor,
        'high_freq_factor': scaling.high_freq_factor,
        'original_max_position_embeddings': scaling.original_max_length,
      }
    scaling = stated
  activation = {'gelu': 'gelu_pytorch_tanh'}.get(network.activation)
  return {
    'hidden_act': activation or network.activation,
    'rms_norm_eps': network.norm_epsilon,
    'rope_theta': network.rope_theta,
    'rope_local_base_freq': network.local_rope_theta,
    'rope_scaling': scaling,
    'sliding_window': network.window,
    'query_pre_attn_scalar': network.query_pre_attn_scalar,
    'attn_logit_softcapping': network.attention_soft_cap,
    'final_logit_softcapping': network.logit_soft_cap,
    'tie_word_embeddings': network.tie_embeddings,
  }


def test_every_gin_file_of_a_model_is_held_against_what_was_published():
  files = {
    file.removeprefix('models/').removesuffix('.gin')
    for file in packaged_gin.described('models')
  }
  assert files - UNPUBLISHED == set(PARAMETERS)


@pytest.mark.parametrize('name', PARAMETERS)
def test_a_gin_file_binds_the_published_network(name):
  network, family = model(name), name.partition('_')[0]
  assert network.num_parameters == PARAMETERS[name][0]
  expected = DEFAULTS | CONFIGS.get(family, {}) | CONFIGS.get(name, {})
  assert config_json(network) == expected
  gemma = family.startswith('gemma')
  assert network.scale_embeddings == gemma
  assert network.norm_offset == (1.0 if gemma else 0.0)
  assert network.qkv_bias == family.startswith('qwen2')
  assert network.qk_norm == (family in ('qwen3', 'gemma3'))
  assert network.post_norms == (family in ('gemma2', 'gemma3'))


@pytest.mark.parametrize(
  ('name', 'total'),
  [
    ('gemma3_4b', 4_300_079_472),
    ('gemma3_12b', 12_187_325_040),
    ('gemma3_27b', 27_432_406_640),
  ],
)
def test_what_gemma_3_has_besides_is_one_encoder_of_images(name, total):
  """Published safetensors: text, an encoder, and a projection from 1152."""
  network = model(name)
  projection = 1152 * network.embed_dim + 1152
  encoder = total - network.num_parameters - projection
  assert encoder == 416_866_032  # SigLIP So400m: the same for all three


@pytest.mark.parametrize('name', ['gemma2_9b', 'gemma3_1b', 'gemma3_27b'])
def test_local_and_global_layers_alternate_as_published(name):
  """Every second layer of Gemma 2 is global, every sixth of Gemma 3."""
  network = model(name)
  every = 2 if name.startswith('gemma2') else 6
  found = [i for i in range(network.num_layers) if network.kind(i) == 'global']
  assert found == list(range(every - 1, network.num_layers, every))


@pytest.mark.parametrize(
  'name',
  [
    'gemma2_2b',
    'gemma3_270m',
    'gemma3_1b',  # two layers behind the last whole pattern
    'llama3_8b',
    'qwen2p5_0p5b',
    'qwen3_0p6b',
  ],
)
def test_the_network_has_as_many_weights_as_it_says(name):
  network = model(name)
  shapes = jax.eval_shape(
    lambda: policies.unboxed(network, jax.random.key(0, impl='rbg'))
  )
  weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
  assert weights == network.num_parameters


def test_the_older_mistrals_are_bound_as_its_file_says():
  field = 'architecture.DecoderConfig.'
  second = [f'{field}vocab_size=32000']
  first = [
    *second,
    f'{field}rope_theta=10000.0',
    f"{field}layer_pattern=('local',)",
    f'{field}window=4096',
  ]
  networks = [model('mistral_7b', *bindings) for bindings in (second, first)]
  # keras mistral_0.2_instruct_7b_en and mistral_7b_en
  assert {n.num_parameters for n in networks} == {7_241_732_096}
  assert networks[0].window is None and networks[0].kind(5) == 'global'
  assert networks[1].window == 4096 and networks[1].kind(5) == 'local'


def test_llama_3_0_is_bound_as_its_family_says():
  network = model('llama3_8b', 'architecture.DecoderConfig.rope_scaling=None')
  assert network.rope_scaling is None
  assert network.rope_theta == 500_000.0


def test_models_lists_every_file_with_its_parameters(capsys):
  assert models.run([]) == 0
  out = capsys.readouterr().out
  listed = {}
  for line in out.splitlines():
    if line.startswith('  models/'):
      file, number, _ = line.split(maxsplit=2)
      listed[file] = int(number.replace(',', ''))
  assert set(listed) == set(packaged_gin.described('models'))
  for name, (number, _) in PARAMETERS.items():
    assert listed[f'models/{name}.gin'] == number
  small, large = (out.index(f'gemma2_{size}.gin') for size in ('9b', '27b'))
  assert small < large


def test_the_page_has_the_tables_that_the_script_prints(root):
  script = runpy.run_path(str(root / 'tests/benchmarks/models_table.py'))
  page = (root / 'docs/models.md').read_text()
  for table in script['tables']():
    assert table in page, 'run tests/benchmarks/models_table.py'
