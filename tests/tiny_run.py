"""A run of the tests: byte vocabulary, a network of a few thousand weights."""

import contextlib
import os

import small_networks

from rest_jax.artifacts import manifests, records, stage_work
from rest_jax.sampling.streams import EngineConfig, Stream

EOS = 256
MODEL = small_networks.network(vocab_size=264, max_length=48)
ENGINE = EngineConfig(
  groups=4,
  lanes=4,
  greedy_groups=4,
  max_decode_length=8,
  prompt_bucket=16,
  problems_per_part=2,
  seed=3,
)
STREAM = Stream(name='e_step', num_samples=8, temperature=1.0)


def fresh(model, *, seed):
  """New parameters, by the generator that compiles in half the time."""
  import jax

  from rest_jax.models.checkpoints import policies

  make = jax.jit(policies.unboxed, static_argnums=0)
  return make(model, jax.random.key(seed, impl='rbg'))


def problems(folder, questions, *, answer='7', stop=(), card=None):
  """Writes {key: question} as a finished folder of the task t."""
  with stage_work.work_on(
    folder,
    stage='prepare',
    kind=records.Problem,
    semantic={},
    inputs={'questions': manifests.digest_of([questions, answer, list(stop)])},
    version=1,
  ) as work:
    rows = [
      records.Problem(
        id=f't/train/{key}',
        prompt_parts=[[], list(b'1+6=7;'), list(question.encode())],
        question=question,
        answer=answer,
      )
      for key, question in questions.items()
    ]
    if work.done is not None:
      return os.fspath(folder)
    work.write(records.part_name(0, 1), rows, source='test')
    card = {
      'task': 't',
      'split': 'train',
      'grader': 'number',
      'stop': list(stop),
      'vocabulary': 'bytes',
      'vocab_size': 257,
      'eos_id': EOS,
      'bos_id': None,
      'num_problems': len(rows),
      'skipped': {},
    } | (card or {})
    work.finish(statistics={'task': card})
  return os.fspath(folder)


def examples(folder, pairs, weights=None):
  """Writes [(prompt, target)] as a finished folder of Examples."""
  weights = weights or [1.0] * len(pairs)
  with stage_work.work_on(
    folder,
    stage='select',
    kind=records.Example,
    semantic={},
    inputs={'pairs': manifests.digest_of([pairs, weights])},
    version=1,
    on_new_inputs='set_aside',
  ) as work:
    rows = [
      records.Example(
        problem_id=f't/train/{index}',
        sample_index=0,
        token_ids=[*prompt.encode(), *target.encode(), EOS],
        weight=weights[index],
        segment_types=[records.PROMPT] * len(prompt)
        + [records.TARGET] * (len(target) + 1),
      )
      for index, (prompt, target) in enumerate(pairs)
    ]
    work.write(records.part_name(0, 1), rows, source=manifests.digest_of(pairs))
    work.finish()
  return os.fspath(folder)


@contextlib.contextmanager
def stage_alone(monkeypatch):
  """The stage train on one device; its watch for SIGTERM is undone after it."""
  import functools
  import signal

  import jax

  from rest_jax.distributed import partitioning, preemption

  make = functools.partial(partitioning.make_mesh, devices=jax.devices()[:1])
  monkeypatch.setattr(partitioning, 'make_mesh', make)
  before = signal.getsignal(signal.SIGTERM)
  yield
  signal.signal(signal.SIGTERM, before)
  preemption._asked.clear()
