"""The parts of a folder of samples: a few problems, and some of their samples.

A *block* is a range of sample indices. A folder that has grown from 8 samples
of each problem to 32 has the blocks 0-8 and 8-32, each with parts of its own.
"""

from collections.abc import Iterator, Sequence

from rest_jax.artifacts import records, stage_work


def planned(
  problems: Sequence[records.Problem], size: int, blocks: Sequence[int]
) -> Iterator[tuple[str, Sequence[records.Problem], range]]:
  """(name, problems, sample indices) of every part of a folder.

  Args:
    problems: of the folder, in order.
    size: problems of a part.
    blocks: ascending; where each block of sample indices begins, and the end.
  """
  chunks = [problems[i : i + size] for i in range(0, len(problems), size)]
  for low, high in zip(blocks, blocks[1:], strict=False):
    for number, chunk in enumerate(chunks):
      name = records.part_name(number, len(chunks), first_sample=low)
      yield name, chunk, range(low, high)


def counts(work: stage_work.Work) -> tuple[dict[str, int], int]:
  """(samples by finish reason, tokens) of all parts."""
  reasons: dict[str, int] = {}
  total = 0
  for row in work.parts():
    table = records.read_part(
      work.folder / row['name'],
      records.Sample,
      expected=row,
      columns=['finish_reason', 'logprobs'],
    )
    for entry in table['finish_reason'].value_counts().to_pylist():
      reasons[entry['values']] = (
        reasons.get(entry['values'], 0) + (entry['counts'])
      )
    total += len(table['logprobs'].combine_chunks().values)
  return reasons, total


def in_order(rows: Sequence[records.Sample]) -> list[records.Sample]:
  """Samples in the order in which a part holds them."""
  return sorted(rows, key=lambda row: (row.problem_id, row.sample_index))
