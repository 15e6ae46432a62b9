"""Networks of random weights for the benchmarks, by their sizes."""

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402

from rest_jax.distributed import partitioning  # noqa: E402
from rest_jax.models.architecture import DecoderConfig  # noqa: E402
from rest_jax.models.checkpoints import policies  # noqa: E402


def add_flags(parser: argparse.ArgumentParser) -> None:
  """The sizes of the network; the defaults are a Llama of 20 M parameters."""
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
  parser.add_argument('--dtype', default='float32')
  parser.add_argument('--attention', default='auto', help='einsum, splash, …')
  parser.add_argument(
    '--untied', action='store_true', help='an output matrix of its own'
  )


def config(args: argparse.Namespace, length: int, **fields) -> DecoderConfig:
  """The network that the flags name.

  Args:
    args: parsed flags.
    length: longest sequence, in tokens.
    **fields: of DecoderConfig, beside the flags.
  """
  return DecoderConfig(
    **dict(
      vocab_size=args.vocab,
      num_layers=args.layers,
      embed_dim=args.embed,
      num_heads=args.heads,
      num_kv_heads=args.kv_heads,
      head_dim=args.head_dim,
      mlp_dim=args.mlp,
      max_length=length,
      tie_embeddings=not args.untied,
      dtype=args.dtype,
      param_dtype=args.dtype,
      attention=args.attention,
    )
    | fields
  )


def parameters(model: DecoderConfig, mesh: jax.sharding.Mesh) -> Any:
  """Random weights on the mesh."""
  where = jax.tree.map(lambda x: x.sharding, policies.abstract(model, mesh))
  key = jax.random.key(0, impl='threefry2x32')
  make = jax.jit(lambda key: policies.unboxed(model, key), out_shardings=where)
  return jax.block_until_ready(make(key))


def mesh() -> jax.sharding.Mesh:
  """All devices, the weights split over them."""
  return partitioning.make_mesh(partitioning.MeshConfig())
