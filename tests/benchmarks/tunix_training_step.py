"""The step of training.py by tunix: one for each line of stdin.

    PYTHON tests/benchmarks/tunix_training_step.py [training.py's flags]

PYTHON is an environment of its own with google-tunix (Python 3.12 or newer).
tunix' Llama in float32 and its trainer's step: the loss of its PeftTrainer with
nnx.Optimizer, AdamW on all weights, gradients accumulated by optax.MultiSteps;
each example with its whole prompt, none padded.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import jax
import jax.numpy as jnp
import numpy as np
import optax
import training_examples
from flax import nnx
from tunix.models.llama3 import model as llama
from tunix.sft import peft_trainer


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  for flag, default in {
    'layers': 4,
    'embed': 512,
    'mlp': 1536,
    'heads': 8,
    'kv_heads': 4,
    'head_dim': 64,
    'vocab': 8192,
  }.items():
    parser.add_argument(f'--{flag}', type=int, default=default)
  training_examples.add_flags(parser)
  args = parser.parse_args()
  network = llama.Llama3(
    llama.ModelConfig(
      num_layers=args.layers,
      vocab_size=args.vocab,
      embed_dim=args.embed,
      hidden_dim=args.mlp,
      num_heads=args.heads,
      head_dim=args.head_dim,
      num_kv_heads=args.kv_heads,
      rope_theta=10_000,
      norm_eps=1e-5,
      weight_tying=True,
    ),
    rngs=nnx.Rngs(0),
  )
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(network))}
  assert dtypes == {jnp.dtype('float32')}, dtypes
  found = training_examples.examples(args)
  ids = np.array([p + s for _, p, s in found], np.int32)
  mask = np.zeros_like(ids)
  mask[:, args.prefix + args.question :] = 1
  size = training_examples.microbatch(args)
  number = len(found) // size
  transform = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(1e-4, b2=0.95, weight_decay=0.0)
  )
  if number > 1:
    transform = optax.MultiSteps(transform, number)
  optimizer = nnx.Optimizer(network, transform, wrt=nnx.Param)
  length = ids.shape[1]
  causal = jnp.broadcast_to(
    jnp.tril(jnp.ones((length, length), bool)), (size, length, length)
  )
  positions = jnp.broadcast_to(jnp.arange(length), (size, length))
  loss_of = peft_trainer._default_loss_fn

  @nnx.jit
  def micro(network, optimizer, ids, mask):
    loss, grads = nnx.value_and_grad(loss_of)(
      network,
      input_tokens=ids,
      input_mask=mask,
      positions=positions,
      attention_mask=causal,
    )
    optimizer.update(network, grads)
    return loss

  def step() -> float:
    losses = [
      micro(network, optimizer, ids[i : i + size], mask[i : i + size])
      for i in range(0, len(ids), size)
    ]
    jax.block_until_ready(nnx.state(network))
    return float(np.mean([float(loss) for loss in losses]))

  training_examples.serve(step, ids.size - len(found))


if __name__ == '__main__':
  main()
