"""ReST^EM self-training of language models on TPUs, in JAX.

Importing this package imports nothing else: see rest_jax.main for the command
line, and README.md for the map of the stages.
"""

__version__ = '0.1.0'
