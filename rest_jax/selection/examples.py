"""Example records from prompts and targets, without a Python object a token."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from rest_jax.artifacts import records
from rest_jax.selection.filtering import KEY


def build(
  rows: pa.Table,
  targets: Sequence[np.ndarray],
  prompts: Mapping[str, np.ndarray],
  eos_id: int,
) -> tuple[pa.Table, int]:
  """Prompt, target and EOS as one sequence, for each row.

  Args:
    rows: problem_id, sample_index and weight.
    targets: (rows,) the ids to learn, without EOS.
    prompts: problem id to the ids of its prompt.
    eos_id: ends each target, and is learned.

  Returns:
    (Example records, the number of their target tokens, EOS included).
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
  return table.select(schema.names).cast(schema), sum(lengths[2::2])
