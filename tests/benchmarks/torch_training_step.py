"""The step of training.py by transformers and torch: one a line of stdin.

    python tests/benchmarks/torch_training_step.py [training.py's flags]

transformers' Llama in float32, torch.optim.AdamW on all weights, the gradient
clipped to norm 1; each example with its whole prompt, none padded.
"""

import argparse

import random_networks  # isort: skip
import torch
import training_examples
import transformers


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  random_networks.add_flags(parser)
  training_examples.add_flags(parser)
  args = parser.parse_args()
  torch.manual_seed(0)
  network = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=args.vocab,
      hidden_size=args.embed,
      intermediate_size=args.mlp,
      num_hidden_layers=args.layers,
      num_attention_heads=args.heads,
      num_key_value_heads=args.kv_heads,
      head_dim=args.head_dim,
      tie_word_embeddings=not args.untied,
      max_position_embeddings=args.prefix + args.question + args.solution,
    )
  )
  optimizer = torch.optim.AdamW(
    network.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0
  )
  found = training_examples.examples(args)
  ids = torch.tensor([prompt + solution for _, prompt, solution in found])
  labels = ids.clone()
  labels[:, : args.prefix + args.question] = -100
  size = training_examples.microbatch(args)
  pieces = list(zip(ids.split(size), labels.split(size), strict=True))

  def step() -> float:
    total = 0.0
    optimizer.zero_grad()
    for piece, wanted in pieces:
      loss = network(input_ids=piece, labels=wanted).loss / len(pieces)
      loss.backward()
      total += loss.item()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return total

  training_examples.serve(step, ids.numel() - len(found))


if __name__ == '__main__':
  main()
