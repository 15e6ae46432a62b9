"""Registers tasks and mixtures with SeqIO; refuses a name that is taken.

Registering the same content under the same name again does nothing.
"""

from collections.abc import Callable
from typing import Any

import seqio

from rest_jax.config import configuration

_CONTENT = 'rest_jax_content'  # what a registered task or mixture is made of


def add(
  name: str,
  content: Any,
  make: Callable[[str], seqio.Task | seqio.Mixture],
  *,
  instead: str = 'another name',
) -> str:
  """Registers a task or a mixture, unless the same one is registered.

  Args:
    name: in SeqIO's registry; letters, digits, '.', ':' and '_'.
    content: what it is made of; compared with what the name stands for.
    make: makes the task or mixture of this name.
    instead: for the message: what to choose if the name is taken.

  Returns:
    The name.

  Raises:
    ConfigurationError: the name is registered with another content.
  """
  for registry in (seqio.TaskRegistry, seqio.MixtureRegistry):
    if name in registry.names():
      known = getattr(registry.get(name), _CONTENT, None)
      if known == content:
        return name
      raise configuration.ConfigurationError(
        f'SeqIO name {name!r}: stands for '
        f'{"a task of somebody else" if known is None else known}, asked for '
        f'{content}. Choose {instead}.'
      )
  made = make(name)
  setattr(made, _CONTENT, content)
  task = isinstance(made, seqio.Task)
  registry = seqio.TaskRegistry if task else seqio.MixtureRegistry
  registry.add_provider(name, made)
  return name
