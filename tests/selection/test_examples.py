"""Example records against a plain loop over tokens."""

import numpy as np
import pyarrow as pa

from rest_jax.artifacts import records
from rest_jax.selection import examples


def test_an_example_is_prompt_target_and_eos_and_only_these_are_learned():
  generator = np.random.default_rng(0)
  prompts = {
    'a': np.array([1, 5, 6], np.int32),
    'b': np.array([1], np.int32),
    'c': np.array([], np.int32),
  }
  names = ['a', 'a', 'b', 'c', 'a']
  targets = [
    generator.integers(10, 99, n).astype(np.int32) for n in (3, 0, 5, 1, 2)
  ]
  rows = pa.table(
    {
      'problem_id': names,
      'sample_index': pa.array([0, 4, 2, 1, 9], pa.int32()),
      'weight': pa.array([1, 0.5, 1, 1, 1], pa.float32()),
    }
  )
  part = examples.build(rows, targets, prompts, 2)
  table, tokens = part.table, part.target_tokens
  assert table.schema == records.schema(records.Example)
  assert tokens == 3 + 0 + 5 + 1 + 2 + 5  # EOS is learned too
  found = records.to_records(records.Example, table)
  for example, name, target in zip(found, names, targets, strict=True):
    prompt = prompts[name].tolist()
    learned = [*target.tolist(), 2]
    assert example.problem_id == name
    assert example.token_ids == prompt + learned
    assert example.segment_types == (
      [records.PROMPT] * len(prompt) + [records.TARGET] * len(learned)
    )
  assert [example.weight for example in found] == [1, 0.5, 1, 1, 1]


def test_no_rows_give_an_empty_table_of_the_schema():
  rows = pa.table(
    {
      'problem_id': pa.array([], pa.string()),
      'sample_index': pa.array([], pa.int32()),
      'weight': pa.array([], pa.float32()),
    }
  )
  part = examples.build(rows, [], {}, 2)
  table, tokens = part.table, part.target_tokens
  assert table.num_rows == tokens == 0
  assert table.schema == records.schema(records.Example)
