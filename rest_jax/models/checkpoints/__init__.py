"""Weights of a policy: GGUF, safetensors and Orbax, onto a mesh."""
