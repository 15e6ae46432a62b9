"""Problems: where they come from, how they are prompted.

Importing this registers the published tasks with SeqIO, at once where SeqIO is
imported already, otherwise as soon as it is; it never imports SeqIO itself.
"""

import importlib

from rest_jax.tasks.import_hook import when_imported


def register(
  vocabulary, prefix='few_shot', name=None, task=None
) -> tuple[str, ...] | str:
  """Adds `<task>_<name>` to SeqIO's registry for every published task.

  Its `inputs` and `targets` are the ids that the stage prepare writes with
  this vocabulary. See seqio_tasks.register, which it is.
  """
  from rest_jax.tasks import seqio_tasks

  return seqio_tasks.register(vocabulary, prefix=prefix, name=name, task=task)


def mix(name, rates, vocabulary=None, prefix='few_shot') -> str:
  """Adds a mixture to SeqIO's registry. See seqio_tasks.mix, which it is."""
  from rest_jax.tasks import seqio_tasks

  return seqio_tasks.mix(name, rates, vocabulary=vocabulary, prefix=prefix)


when_imported(
  'seqio', lambda: importlib.import_module('rest_jax.tasks.seqio_tasks')
)
