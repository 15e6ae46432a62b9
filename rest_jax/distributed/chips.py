"""The memory of TPU chips, by the names that jax gives them.

What a program of a chip may hold is decided while it is traced, for chips that
are here and for those that `rest-jax preflight` compiles for, which jax cannot
ask. Loads no jax: the launcher must not take the devices from its jobs.
"""

_GIB = 2**30
HBM_BYTES = {
  'TPU v4': 32 * _GIB,
  **dict.fromkeys(('TPU v5 lite', 'TPU v5e'), 16 * _GIB),
  **dict.fromkeys(('TPU v5', 'TPU v5p'), 95 * _GIB),
  **dict.fromkeys(('TPU v6 lite', 'TPU v6e'), 32 * _GIB),
}
