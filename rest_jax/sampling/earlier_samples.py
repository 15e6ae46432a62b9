"""Samples of a folder that was set aside because its problems have changed.

A sample is a function of its policy, stream, prompt and index, whatever its
neighbours are (identity.py). Where a problem was added, only its samples are
drawn; those of the other problems are taken from the folder that stood before.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.artifacts import manifests, records, stage_work, task_card, twins
from rest_jax.sampling import requests

TEXT = 'text'  # of a manifest's `recorded`: the digest of task_card.text


class EarlierSamples:
  """The samples that need not be drawn again."""

  def __init__(
    self, work: stage_work.Work, problems: manifests.Manifest, few_shot: bool
  ):
    """Reads the ids of the samples that were set aside last, if they fit.

    Args:
      work: the folder of samples that is being made.
      problems: what is sampled.
      few_shot: whether the prompts show the exemplars.
    """
    self._few_shot = few_shot
    self._manifest = _usable(work, problems)
    self._parts: dict[str, list[str]] = {}  # problem id to names of parts
    for row in self._manifest.parts if self._manifest else ():
      name = row['name']
      try:
        table = self._manifest.table(part=name, columns=['problem_id'])
      except records.CorruptPartError:
        continue  # its samples are drawn again
      for problem_id in pc.unique(table['problem_id']).to_pylist():
        self._parts.setdefault(problem_id, []).append(name)
    self._table = functools.lru_cache(4)(self._read)

  def split(
    self, problems: Sequence[records.Problem], indices: range
  ) -> tuple[list[records.Sample], list[records.Problem]]:
    """What is there already, and what must be drawn.

    Args:
      problems: of one part.
      indices: the sample indices that each of them gets.

    Returns:
      (the samples of the problems that have all of them, with the prompt of
      today; the other problems).
    """
    kept: list[records.Sample] = []
    missing = []
    for problem in problems:
      found = self._samples(problem, indices)
      if len(found) == len(indices):
        kept += found
      else:
        missing.append(problem)
    return kept, missing

  def _samples(
    self, problem: records.Problem, indices: range
  ) -> list[records.Sample]:
    prompt = requests.prompt_of(problem, self._few_shot)
    digest = records.prompt_digest([prompt])
    found = []
    for name in self._parts.get(problem.id, ()):
      table = self._table(name)
      table = table.filter(pc.equal(table['problem_id'], problem.id))
      found += records.to_records(records.Sample, table)
    return [
      sample
      for sample in found
      if sample.sample_index in indices and sample.prompt_digest == digest
    ]

  def _read(self, part: str) -> pa.Table:
    return self._manifest.table(part=part)


def _usable(
  work: stage_work.Work, problems: manifests.Manifest
) -> manifests.Manifest | None:
  """The folder that was set aside last, if it differs in its problems alone."""
  aside = twins.superseded(work.folder)
  if not aside or aside[0].stage != work.stage:
    return None
  ours, theirs = map(_conditions, (work.fingerprint, aside[0].fingerprint))
  same_text = aside[0].recorded.get(TEXT) == task_card.text(problems)
  # With the same problems it was set aside by --redo, to be drawn anew.
  changed = work.fingerprint['inputs'] != aside[0].fingerprint['inputs']
  return aside[0] if ours == theirs and same_text and changed else None


def _conditions(fingerprint: Mapping[str, Any]) -> list[Any]:
  """All that a sample depends on beside its problem and index."""
  semantic = dict(fingerprint['semantic'])
  semantic.pop('num_samples')
  # Where parts are cut is no part of a sample.
  semantic.pop('problems_per_part', None)
  return [semantic, fingerprint['inputs']['policy'], fingerprint['code']]
