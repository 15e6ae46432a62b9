"""Builds Example records from the token ids of prompts and solutions.

It works on whole columns: a Python object for each token would be too slow.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from rest_jax.artifacts import records
from rest_jax.selection.filtering import KEY


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of the examples.

  Attributes:
    table: Example records.
    target_tokens: number of tokens that are trained on, EOS included.
  """

  table: pa.Table
  target_tokens: int


def build(
  rows: pa.Table,
  targets: Sequence[np.ndarray],
  prompts: Mapping[str, np.ndarray],
  eos_id: int,
) -> Part:
  """Joins prompt, target and EOS to one sequence, for each row.

  Args:
    rows: columns problem_id, sample_index and weight.
    targets: for each row the ids to train on, without EOS.
    prompts: problem id to the ids of its prompt.
    eos_id: stands behind each target, and is trained on.
  """
  eos = np.array([eos_id], np.int32)
  names = rows['problem_id'].to_pylist()
  pieces, lengths = [np.empty(0, np.int32)], [0]
  for name, target in zip(names, targets, strict=True):
    pieces += [prompts[name], target, eos]
    lengths += [len(prompts[name]), len(target) + 1]
  offsets = np.cumsum(lengths)[0::2].astype(np.int32)
  segments = np.array([records.PROMPT, records.TARGET], np.int8)
  types = np.repeat(np.tile(segments, len(names)), lengths[1:])
  ids = np.concatenate(pieces).astype(np.int32)
  table = pa.table(
    {
      **{name: rows[name] for name in (*KEY, 'weight')},
      'token_ids': pa.ListArray.from_arrays(offsets, ids),
      'segment_types': pa.ListArray.from_arrays(offsets, types),
    }
  )
  schema = records.schema(records.Example)
  return Part(table.select(schema.names).cast(schema), sum(lengths[2::2]))
