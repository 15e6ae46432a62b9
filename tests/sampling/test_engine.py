"""A sample depends on its identity and its prompt, and on nothing else."""

import collections
import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rest_jax import partitioning
from rest_jax.models import checkpoints, decoding, network
from rest_jax.models.configurations import DecoderConfig
from rest_jax.sampling import engine as engines
from rest_jax.sampling.streams import EngineConfig, Stream

MODEL = DecoderConfig(
  vocab_size=64,
  num_layers=2,
  embed_dim=32,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  mlp_dim=64,
  max_length=64,
)
CONFIG = EngineConfig(
  groups=4,
  lanes=4,
  greedy_groups=4,
  max_decode_length=20,
  prompt_bucket=8,
  seed=5,
)
STREAM = Stream(name='e_step', num_samples=4, temperature=1.0, top_k=20)
GREEDY = Stream(name='eval/greedy', num_samples=1, temperature=0.0)
EOS = 1
ALPHABET = ''.join(chr(33 + i) for i in range(64))


def text(stop=()):
  return engines.Text(
    decode=lambda ids: ''.join(ALPHABET[i] for i in ids if i != EOS),
    vocab_size=60,
    eos_ids=[EOS],
    stop=stop,
  )


def requests(number=6, samples=range(4), seed=0):
  rng = np.random.default_rng(seed)
  return [
    engines.Request(f'p{i}', rng.integers(2, 60, 3 + 4 * i).tolist(), samples)
    for i in range(number)
  ]


def mesh(**axes):
  config = partitioning.MeshConfig(**({'data': 1, 'fsdp': 1} | axes))
  shape = [config.data, config.fsdp, config.tensor]
  return partitioning.make_mesh(config, jax.devices()[: int(np.prod(shape))])


def weights(on):
  params = checkpoints.unboxed(MODEL, jax.random.key(0))
  params = jax.tree.map(lambda w: w * 3, params)  # sharper than at the start
  where = jax.tree.map(lambda t: t.sharding, checkpoints.abstract(MODEL, on))
  return jax.device_put(params, where)


def generate(asked, *, config=CONFIG, stream=STREAM, on=None, **fields):
  on = on or mesh()
  made = engines.Engine(
    MODEL,
    fields.pop('params', None) or weights(on),
    config,
    on,
    fields.pop('text', text()),
    **fields,
  ).generate(asked, stream=stream, iteration=1)
  return {(c.problem_id, c.sample_index): c for c in made}


class Stub(types.SimpleNamespace):
  """A network whose logits are small integers of the last two tokens."""

  @staticmethod
  def _logits(last, position):
    ids = jnp.arange(MODEL.vocab_size).reshape((1,) * last.ndim + (-1,))
    mixed = last[..., None] * 7 + position[..., None] * 3 + ids * 5
    scores = ((mixed * mixed) % 11).astype(jnp.float32)
    return jnp.where(ids == EOS, 9.0, scores)

  @staticmethod
  def prefill(config, params, tokens_GP, lengths_G):
    last = jnp.take_along_axis(tokens_GP, lengths_G[:, None] - 1, 1)[:, 0]
    return jnp.zeros(()), Stub._logits(last, lengths_G)

  @staticmethod
  def empty_suffix(config, groups, lanes, length):
    return jnp.zeros(())

  @staticmethod
  def step(config, params, tokens_GN, time, prompt, lengths_G, suffix):
    place_G1 = (lengths_G + time + 1)[:, None]
    position = jnp.broadcast_to(place_G1, tokens_GN.shape)
    return Stub._logits(tokens_GN, position), suffix


def stub(asked, **fields):
  return generate(asked, network=Stub, params={'none': 0}, **fields)


@pytest.mark.parametrize(
  'layout, axes',
  [
    ({'groups': 1, 'lanes': 1}, {}),
    ({'groups': 3, 'lanes': 2}, {}),
    ({'groups': 8, 'lanes': 7}, {}),
    ({'prompt_bucket': 3, 'steps_per_call': 3}, {}),
    ({'groups': 8}, {'data': 8}),
    ({'groups': 8}, {'data': 2, 'fsdp': 2, 'tensor': 2}),
  ],
)
def test_integer_logits_give_the_same_tokens_on_every_layout_and_mesh(
  layout, axes
):
  plain = stub(requests())
  other = stub(
    requests(),
    config=dataclasses.replace(CONFIG, **layout),
    on=mesh(**axes),
  )
  assert {k: c.token_ids for k, c in plain.items()} == {
    k: c.token_ids for k, c in other.items()
  }
  assert len({tuple(c.token_ids) for c in plain.values()}) > 20
  assert {c.finish_reason for c in plain.values()} == {'eos', 'length'}


def test_a_sample_is_bit_identical_whatever_its_neighbours():
  everything = generate(requests(8))
  alone = generate(requests(8)[5:6])
  shuffled = generate(requests(8)[::-1])
  for key, completion in everything.items():
    assert shuffled[key] == completion
    if key in alone:
      assert alone[key] == completion
  assert len(alone) == 4


def test_more_samples_repeat_none_and_leave_the_first_ones_as_they_were():
  first = generate(requests(3, range(4)))
  rest = generate(requests(3, range(4, 16)))
  whole = generate(requests(3, range(16)))
  assert whole == first | rest
  texts = collections.Counter(c.text for c in whole.values())
  assert max(texts.values()) < 4


def test_log_probabilities_equal_those_of_one_full_pass():
  asked = requests(4)
  made = generate(asked)
  params = weights(mesh())
  for request in asked:
    completion = made[request.problem_id, 1]
    tokens = [*request.prompt, *completion.token_ids]
    length = len(tokens)
    net = network.Decoder(MODEL)
    places = jnp.arange(length)[None]
    hidden, _ = net.apply(params, jnp.asarray(tokens)[None], places, places * 0 + 1)
    logits = np.array(net.apply(params, hidden, method='logits'))[0]
    logits[:, 60:] = -np.inf
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    start = len(request.prompt)
    expected = logprobs[np.arange(start - 1, length - 1), tokens[start:]]
    np.testing.assert_allclose(completion.logprobs, expected, atol=1e-4)


def test_across_meshes_log_probabilities_agree_and_tokens_differ_only_at_ties():
  """DESIGN, decision 2 (c), in float32: the teacher-forced bound is 1e-4."""
  sizes = {'groups': 8}
  config = dataclasses.replace(CONFIG, **sizes)
  on = mesh(data=2, fsdp=2, tensor=2)
  one = generate(requests(8), config=config)
  many = generate(requests(8), config=config, on=on)
  differing = 0
  for key, a in one.items():
    b = many[key]
    same = 0
    while (
      same < min(len(a.token_ids), len(b.token_ids))
      and a.token_ids[same] == b.token_ids[same]
    ):
      same += 1
    np.testing.assert_allclose(
      a.logprobs[:same], b.logprobs[:same], atol=1e-4
    )
    differing += a.token_ids != b.token_ids
  print(f'{differing} of {len(one)} samples differ between the meshes')
  assert differing <= 1  # a logit difference of 1e-5 rarely meets such a tie


def test_a_prompt_without_room_is_reported_and_the_others_are_sampled():
  long = engines.Request('long', list(range(2, 50)), range(2))
  made = generate([*requests(2, range(2)), long])
  assert made['long', 0].finish_reason == 'prompt'
  assert made['long', 0].token_ids == []
  assert made['p0', 0].finish_reason != 'prompt'
  assert len(made) == 6


def test_a_stop_string_ends_a_sample_and_does_not_change_it():
  free = generate(requests())
  first = next(c for c in free.values() if len(c.text) > 6)
  stop = first.text[3:5]
  for steps in (1, 32):
    config = dataclasses.replace(CONFIG, steps_per_call=steps)
    made = generate(requests(), config=config, text=text((stop,)))
    for key, completion in made.items():
      before, found, _ = free[key].text.partition(stop)
      assert completion.text == before
      if found:
        assert completion.finish_reason == 'stop'
      tokens = completion.token_ids
      assert tokens == free[key].token_ids[: len(tokens)]
      kept = text().decode(tokens[: completion.target_length])
      assert kept.startswith(before)


def test_padding_ids_of_the_embedding_are_never_sampled():
  params = weights(mesh())
  params['params']['embedding'] = params['params']['embedding'].at[60:].mul(50)
  made = generate(requests(), params=params)
  assert max(max(c.token_ids) for c in made.values()) < 60


def test_greedy_takes_one_lane_and_the_best_token():
  made = generate(requests(5, range(1)), stream=GREEDY)
  request = requests(5)[2]
  params = weights(mesh())
  tokens = list(request.prompt)
  net = network.Decoder(MODEL)
  for expected in made['p2', 0].token_ids:
    places = jnp.arange(len(tokens))[None]
    hidden, _ = net.apply(params, jnp.asarray(tokens)[None], places, places * 0 + 1)
    logits = net.apply(params, hidden, method='logits')[0, -1, :60]
    assert int(jnp.argmax(logits)) == expected
    tokens.append(expected)


def test_another_temperature_compiles_nothing():
  on = mesh()
  engine = engines.Engine(MODEL, weights(on), CONFIG, on, text())
  streams = [
    dataclasses.replace(STREAM, temperature=t, top_k=k, top_p=p)
    for t, k, p in ((1.0, 20, 1.0), (0.3, 0, 0.9), (2.0, 50, 0.5))
  ]
  results = [
    list(engine.generate(requests(1), stream=s, iteration=1)) for s in streams
  ]
  assert engine._decode._cache_size() == 1
  assert results[0] != results[1] != results[2]


def test_decoding_writes_its_cache_in_place():
  """The donated suffix cache is no second copy in the compiled step."""
  on = mesh()
  engine = engines.Engine(MODEL, weights(on), CONFIG, on, text())
  how = (np.float32(1), np.int32(0), np.float32(1))
  args = (
    engine.params,
    np.zeros((4, 8), np.int32),
    np.ones(4, np.int32),
    np.zeros((4, 4, 2), np.uint32),
    np.zeros((4, 4), bool),
    how,
  )
  cache, lengths, state = engine._prefill(*args)
  compiled = engine._decode.lower(
    engine.params, state, cache, lengths, how, np.int32(5)
  ).compile()
  suffix = decoding.empty_suffix(MODEL, 4, 4, 20)
  size = sum(array.nbytes for array in suffix)
  assert compiled.memory_analysis().alias_size_in_bytes >= size
