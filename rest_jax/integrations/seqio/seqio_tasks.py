"""Registers the published tasks with SeqIO.

    math, math500, apps, gsm8k, humaneval, mbpp, bbh, …   each of the catalogue
    bbh_<subtask>                     27 of them
    apps_introductory                 the part that the paper trains on
    math_apps                         a mixture, in the paper's proportion

    <each>_<vocabulary>               what `register` adds

Importing this module registers the names without a vocabulary. Every example
has the texts of published_task.FIELDS, and token ids in `inputs` and `targets`.
Tasks without a vocabulary in their name have bytes as ids and no exemplars; the
others are encoded as `register` was told.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import seqio

from rest_jax.config import configuration
from rest_jax.integrations.seqio import (
  seqio_metrics,
  seqio_prompts,
  seqio_registry,
)
from rest_jax.integrations.seqio.seqio_prompts import FEW_SHOT, ZERO_SHOT
from rest_jax.integrations.seqio.seqio_vocabularies import SeqioVocabulary
from rest_jax.tasks import prompts
from rest_jax.tasks.benchmarks import catalogue
from rest_jax.tasks.benchmarks.published_task import Benchmark
from rest_jax.tokenizers import vocabularies

BY_HAND = 'by_hand'  # the grader's name of tasks that a person grades
SUBTASKS = (  # of BIG-Bench Hard
  'boolean_expressions',
  'causal_judgement',
  'date_understanding',
  'disambiguation_qa',
  'dyck_languages',
  'formal_fallacies',
  'geometric_shapes',
  'hyperbaton',
  'logical_deduction_five_objects',
  'logical_deduction_seven_objects',
  'logical_deduction_three_objects',
  'movie_recommendation',
  'multistep_arithmetic_two',
  'navigate',
  'object_counting',
  'penguins_in_a_table',
  'reasoning_about_colored_objects',
  'ruin_names',
  'salient_translation_error_detection',
  'snarks',
  'sports_understanding',
  'temporal_sequences',
  'tracking_shuffled_objects_five_objects',
  'tracking_shuffled_objects_seven_objects',
  'tracking_shuffled_objects_three_objects',
  'web_of_lies',
  'word_sorting',
)
# Training problems of the paper (section 4): APPS's are introductory ones.
MIXTURES = {'math_apps': {'math': 7500, 'apps_introductory': 2342}}

Rate = float | Callable[[seqio.Task], float]
Named = str | vocabularies.Vocabulary | SeqioVocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """A task to register: a benchmark, or a part of its problems.

  Attributes:
    name: of the task.
    benchmark: its row of the catalogue.
    only: (field, value) of the problems that belong to it; None for all.
  """

  name: str
  benchmark: Benchmark
  only: tuple[str, str] | None = None


def published() -> list[Published]:
  """All published tasks, without the mixtures."""
  rows = catalogue.CATALOGUE
  parts = [
    *((f'bbh_{name}', 'bbh', ('type', name)) for name in SUBTASKS),
    ('apps_introductory', 'apps', ('level', 'introductory')),
  ]
  return [
    *(Published(name=name, benchmark=row) for name, row in rows.items()),
    *(
      Published(name=name, benchmark=rows[whole], only=only)
      for name, whole, only in parts
    ),
  ]


@configuration.checked
def register(
  vocabulary: Named | tuple[str, Named],
  *,
  prefix: str = FEW_SHOT,
  name: str | None = None,
  task: str | None = None,
) -> tuple[str, ...] | str:
  """Registers `<task>_<name>` for every published task and mixture.

  `inputs` are the ids of the prompt as the stage prepare writes them, each part
  encoded by itself. `targets` are the ids of the human solution, and EOS.

  Args:
    vocabulary: a spec for `vocabulary_files.load`, or a loaded vocabulary; or a
      pair (name, vocabulary).
    prefix: what stands before a question: 'few_shot', the task's
      exemplars; 'zero_shot', nothing; or a text. A problem's own instruction
      (BBH) always does.
    name: of the vocabulary; None for its file's, or its folder's where the
      file is a tokenizer.json.
    task: the published task or mixture whose new name is returned; None for
      all of them.

  Returns:
    The new names; with `task`, the one of that task.

  Raises:
    ConfigurationError: there is no such vocabulary or task, or a name is
      registered with another content.
  """
  name, vocabulary = _named(vocabulary, name)
  whole = tuple(
    _add(one, vocabulary, prefix, f'{one.name}_{name}') for one in published()
  )
  mixtures = tuple(
    mix(f'{one}_{name}', {f'{part}_{name}': r for part, r in rates.items()})
    for one, rates in MIXTURES.items()
  )
  if task is None:
    return whole + mixtures
  if f'{task}_{name}' not in whole + mixtures:
    catalogue.get(task)  # raises, with the nearest
  return f'{task}_{name}'


@configuration.checked
def mix(
  name: str,
  rates: Mapping[str, Rate],
  *,
  vocabulary: Named | tuple[str, Named] | None = None,
  prefix: str = FEW_SHOT,
) -> str:
  """Registers a mixture.

  Args:
    name: of the mixture.
    rates: task (or mixture) to its rate: a number, or a function of the task
      such as seqio.mixing_rate_num_examples.
    vocabulary: None if `rates` has names that are registered. Otherwise `rates`
      has published tasks, which are first registered with this vocabulary.
    prefix: see `register`.

  Returns:
    The name.

  Raises:
    ConfigurationError: there is no such task, or the name is registered with
      another content.
  """
  if vocabulary is not None:
    rates = {
      register(vocabulary, prefix=prefix, task=task): rate
      for task, rate in rates.items()
    }
  for part in rates:
    try:
      seqio.get_mixture_or_task(part)
    except ValueError as error:
      raise configuration.ConfigurationError(
        f'mix: {name!r} of {part!r}, which SeqIO does not know. Register it '
        'before, with seqio_tasks.register or in a module of yours.'
      ) from error
  return seqio_registry.add(
    name,
    {'rates': {part: _identity(rate) for part, rate in rates.items()}},
    lambda name: seqio.Mixture(name, list(rates.items())),
  )


def _identity(rate: Rate) -> Any:
  """A value that equal rates share.

  Gin wraps a function again at each reference, so that two references to one
  function are not equal; their qualified names are.
  """
  name = getattr(rate, '__qualname__', '<')
  return rate if '<' in name else f'{rate.__module__}.{name}'


def _named(
  vocabulary: Named | tuple[str, Named], name: str | None
) -> tuple[str, SeqioVocabulary]:
  if isinstance(vocabulary, tuple):
    named, vocabulary = vocabulary
    name = name or named
  if not isinstance(vocabulary, SeqioVocabulary):
    vocabulary = SeqioVocabulary(vocabulary)
  if name is None:
    path, file = os.path.split(vocabulary.vocabulary.spec.rstrip('/'))
    name = os.path.splitext(file)[0]
    if file == 'tokenizer.json':
      name = os.path.basename(path)
  return re.sub(r'\W', '_', name), vocabulary


def _add(
  one: Published, vocabulary: SeqioVocabulary, prefix: str, name: str
) -> str:
  row = one.benchmark
  by_type = prefix == FEW_SHOT and row.num_shots and not row.exemplars
  source = seqio_prompts.source(
    row,
    # With exemplars in the prompt, the split that they come from is left out if
    # it has no other problems (BBH's prompts).
    [s for s in row.counts if not (by_type and s == row.exemplars_split)],
  )
  graded = row.grader != BY_HAND
  return seqio_registry.add(
    name,
    {'task': one.name, 'vocabulary': vocabulary, 'prefix': prefix},
    lambda name: seqio.Task(
      name,
      source,
      preprocessors=[
        functools.partial(
          seqio_prompts.encoded,
          row=row,
          only=one.only,
          vocabulary=vocabulary,
          prefix=prefix,
          beside=source,
        ),
        seqio.preprocessors.append_eos,
      ],
      output_features={
        'inputs': seqio.Feature(vocabulary, add_eos=False),
        'targets': seqio.Feature(vocabulary),
      },
      postprocess_fn=seqio_metrics.postprocessor(
        row.grader, prompts.stop_strings(row.template, vocabulary.vocabulary)
      )
      if graded
      else None,
      metric_fns=[seqio_metrics.metric_fn(row.grader)] if graded else [],
    ),
    instead='a name for the vocabulary with register(name=…)',
  )


def _register_published() -> None:
  vocabulary = SeqioVocabulary(vocabularies.BYTES)
  for one in published():
    _add(one, vocabulary, ZERO_SHOT, one.name)
  for name, rates in MIXTURES.items():
    mix(name, rates)


_register_published()
