"""A SeqIO preprocessor: a problem's texts become `inputs` and `targets`."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from rest_jax.integrations.seqio import seqio_rows
from rest_jax.integrations.seqio.seqio_vocabularies import SeqioVocabulary
from rest_jax.tasks import encoding, problem_sets, prompts, splits
from rest_jax.tasks.benchmarks import (
  builders,  # also registers them with TFDS
  catalogue,
  published_task,
)
from rest_jax.tasks.benchmarks.published_task import Benchmark

FEW_SHOT, ZERO_SHOT = 'few_shot', 'zero_shot'


def source(row: Benchmark, names: Sequence[str]) -> seqio.TfdsDataSource:
  """The TFDS source of a benchmark's splits.

  Args:
    row: the benchmark.
    names: of the splits.
  """
  name = f'{row.builder}:{builders.BenchmarkBuilder.VERSION}'
  return seqio.TfdsDataSource(name, splits=names)


def encoded(
  dataset: tf.data.Dataset,
  *,
  row: Benchmark,
  only: tuple[str, str] | None,
  vocabulary: SeqioVocabulary,
  prefix: str,
  beside: seqio.TfdsDataSource,
) -> tf.data.Dataset:
  """Adds `inputs` and `targets` (without EOS), and keeps the texts.

  Args:
    dataset: of texts, published_task.FIELDS.
    row: the benchmark.
    only: (field, value) of the problems that are kept; None for all.
    vocabulary: encodes.
    prefix: FEW_SHOT, ZERO_SHOT, or a text: see seqio_tasks.register.
    beside: the source of `dataset`; the exemplars come from the same folder. If
      the benchmark is trainable, problems with an exemplar's question are
      dropped.
  """
  template, shown = row.template, []
  if prefix == FEW_SHOT:
    shown = _exemplars(row, beside)
  elif prefix != ZERO_SHOT:
    template = dataclasses.replace(template, lead=template.lead + prefix)
  if only is not None:
    field, value = only
    dataset = dataset.filter(lambda example: example[field] == value)
  if shown and row.trainable:
    questions = tf.constant([exemplar.question for exemplar in shown])
    dataset = dataset.filter(
      lambda example: tf.reduce_all(example['question'] != questions)
    )
  parts_of = encoding.prompt_parts(
    template,
    vocabulary.vocabulary,
    problem_sets.TaskTexts(
      sets=(), exemplars=shown, exemplars_by_type=not row.exemplars
    ),
  )

  def encode(*texts: bytes) -> tuple[np.ndarray, np.ndarray]:
    fields = zip(published_task.FIELDS, texts, strict=True)
    [problem] = seqio_rows.of_examples([dict(fields)]).rows
    solution = problem.answer if row.answers_only else problem.solution
    targets = []
    if solution:
      targets = prompts.encode_solution(
        template, vocabulary.vocabulary, solution
      )
    inputs = sum(parts_of(problem), [])
    return np.array(inputs, np.int32), np.array(targets, np.int32)

  def add(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    ids = tf.numpy_function(
      encode,
      [example[name] for name in published_task.FIELDS],
      [tf.int32, tf.int32],
      stateful=False,
    )
    for value in ids:
      value.set_shape([None])
    return {**example, 'inputs': ids[0], 'targets': ids[1]}

  return dataset.map(add, num_parallel_calls=tf.data.AUTOTUNE)


def _exemplars(
  row: Benchmark, beside: seqio.TfdsDataSource
) -> list[problem_sets.Row]:
  """The exemplars of a benchmark's prompt, from the TFDS data."""
  if not row.num_shots:
    return []
  owner = catalogue.get(row.exemplars_from or row.name)
  texts = source(owner, [row.exemplars_split])
  # The folder that the task's own data is in, however that was chosen.
  texts.tfds_dataset.override_data_dir(beside.tfds_dataset.data_dir)
  found = texts.get_dataset(row.exemplars_split, shuffle=False)
  rows = seqio_rows.of_examples(found.as_numpy_iterator()).rows
  return splits.exemplars(
    rows,
    row.num_shots,
    keys=row.exemplars,
    by_type=not row.exemplars,
    answers_only=row.answers_only,
    where=f'{row.name}: in {owner.name}/{row.exemplars_split}',
  )
