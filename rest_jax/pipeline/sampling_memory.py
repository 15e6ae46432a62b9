"""What samples: the memory of its weights, keys and values, estimated."""

from rest_jax.executors.machine import Machine
from rest_jax.models.architecture import DecoderConfig
from rest_jax.pipeline.sizes import Asked, Prompts


def weights_bytes(asked: Asked) -> int:
  """Of one copy of the weights that are sampled from."""
  if asked.sample_weights == 'int8':
    # And a scale per channel, which is less than a hundredth.
    return asked.model.num_parameters
  return read_bytes(asked.model)


def read_bytes(model: DecoderConfig) -> int:
  """Of the weights as they are read, in dtype; they are rounded only then."""
  return model.num_parameters * (2 if model.dtype == 'bfloat16' else 4)


def token_bytes(model: DecoderConfig, cache: str = 'as_computed') -> int:
  """Of the keys and values of one token.

  Args:
    model: the network.
    cache: as in EngineConfig.
  """
  width = 2 if model.dtype == 'bfloat16' else 4
  of_head = model.head_dim * width
  if cache == 'int8':
    of_head = model.head_dim + 4  # and a scale
  return model.num_layers * model.num_kv_heads * 2 * of_head


def sample_bytes(
  model: DecoderConfig,
  lanes: int,
  prompt: int,
  completion: int,
  cache: str = 'as_computed',
) -> float:
  """Memory of one sample while it is decoded, estimated.

  Args:
    model: the network.
    lanes: samples that share the keys and values of a question.
    prompt: the question's padded length, in tokens.
    completion: its greatest length, in tokens.
    cache: as in EngineConfig.
  """
  kept = row_bytes(model, lanes, prompt, completion, cache)
  # The logits are there in float32, sorted, and once more as masses.
  return kept + 6 * 4 * model.vocab_size


def row_bytes(
  model: DecoderConfig,
  lanes: int,
  prompt: int,
  completion: int,
  cache: str = 'as_computed',
) -> float:
  """Of a sample's keys and values, with its share of the question's.

  Args: as for `sample_bytes`.
  """
  token = token_bytes(model, cache)
  return token * (completion + prompt / lanes)


def device_bytes(
  asked: Asked,
  prompts: Prompts,
  machine: Machine,
  *,
  rows: int,
  lanes: int,
  bucket: int,
) -> float:
  """Memory of one device in sampling, estimated.

  Args:
    asked: the dials that are set; sample_tensor among them.
    prompts: of the run's problems.
    machine: the devices.
    rows: samples at once, over all devices.
    lanes: of a group.
    bucket: PROMPT_BUCKET.
  """
  row = sample_bytes(
    asked.model,
    lanes,
    padded(bucket, prompts),
    asked.max_decode_length,
    asked.sample_cache,
  )
  prefix = prompts.shared * token_bytes(asked.model, asked.sample_cache)
  of_copy = weights_bytes(asked) + prefix
  return of_copy / asked.sample_tensor + rows * row / machine.devices


def padded(bucket: int, prompts: Prompts) -> int:
  """The padded length of the longest question, in tokens."""
  while bucket < prompts.longest - prompts.shared:
    bucket *= 2
  return bucket
