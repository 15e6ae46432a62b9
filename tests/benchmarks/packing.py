"""Speed of the packing plan: tokens a second, and how long a seek takes.

    python tests/benchmarks/packing.py [--examples=75000] [--row_length=2048]

An M-step's examples at MATH's size: each training problem ten times, prompt
and human solution, in SentencePiece's ids where ../shared/data holds MATH and
a model, in bytes where it holds MATH alone; else lengths drawn like those.
One process, CPU time of all its threads, so that other work beside it says
nothing.

SeqIO's own packing (trim_and_pack_dataset, as its feature converters use it)
packs a share of the same examples in the same run, tokens alone: no weights,
which it could not keep, and no order of its own.

Aim: 100,000 tokens a second; a batch at place 10^6 of the training in the time
of the first one. Measured: see LOG.md.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from rest_jax.artifacts import records  # noqa: E402
from rest_jax.selection import examples  # noqa: E402
from rest_jax.tasks import prompts  # noqa: E402
from rest_jax.tasks.benchmarks import catalogue  # noqa: E402
from rest_jax.tokenizers import vocabulary_files  # noqa: E402
from rest_jax.training.packing import Packer  # noqa: E402

SHARED = ROOT.parent / 'shared' / 'data'
BATCH_ROWS = 32
PLACES = (0, 10**6, 10**9)  # rows since the start of the training
ROUNDS = 31  # of seeks


def texts() -> list[tuple[list[int], list[int]]] | None:
  """(prompt, solution) of every training problem of MATH, as ids."""
  path = SHARED / 'math' / 'train.jsonl'
  if not path.exists():
    return None
  model = SHARED / 'tokenizers' / 'mistral-v1.model'
  vocabulary = vocabulary_files.load(str(model) if model.exists() else 'bytes')
  template = catalogue.get('math').template
  rows = map(json.loads, path.read_text().splitlines())
  print(f'MATH in ids of {vocabulary.spec}')
  return [
    (
      prompts.encode_lead(template, vocabulary)
      + prompts.encode_question(template, vocabulary, row['problem']),
      prompts.encode_solution(template, vocabulary, row['solution']),
    )
    for row in rows
  ]


def drawn(number: int) -> list[tuple[list[int], list[int]]]:
  """The same in lengths only: log-normal, 105 and 230 tokens in the mean."""
  print('lengths drawn like those of MATH: its text is not here')
  draw = np.random.default_rng(0)

  def ids(mean):
    lengths = draw.lognormal(np.log(mean) - 0.32, 0.8, number)
    return [draw.integers(3, 32000, int(n) + 2).tolist() for n in lengths]

  return list(zip(ids(105), ids(230), strict=True))


def example_table(number: int) -> pa.Table:
  """Example records; the first problem's ten solutions come first."""
  pairs = texts() or drawn(7500)
  chosen = [pairs[i // 10 % len(pairs)] for i in range(number)]
  rows = pa.table(
    {
      'problem_id': [f'math/train/{i // 10}' for i in range(number)],
      'sample_index': pa.array(np.arange(number) % 10, pa.int32()),
      'weight': pa.array(np.ones(number), pa.float32()),
    }
  )
  part = examples.build(
    rows,
    [np.array(target, np.int32) for _, target in chosen],
    {
      f'math/train/{i}': np.array(pairs[i % len(pairs)][0], np.int32)
      for i in range(-(-number // 10))
    },
    eos_id=2,
  )
  return part.table.select(['token_ids', 'weight', 'segment_types'])


def seconds(work) -> float:
  """CPU time of this process, in all threads."""
  start = time.process_time()
  work()
  return time.process_time() - start


def of_plan(table: pa.Table, row_length: int) -> tuple[Packer, float]:
  """Prints the plan's own speeds; returns its tokens a second."""
  make = functools.partial(Packer, table, row_length=row_length, seed=0)
  packer = make()
  composed = seconds(make)
  rows = packer.rows_per_epoch
  tokens = packer.tokens_in(0, rows)

  def epoch():
    for first in range(0, rows, BATCH_ROWS):
      packer.batch(range(first, min(first + BATCH_ROWS, rows)))

  spent = seconds(epoch)
  rate = tokens / (composed + spent)
  print(
    f'plan: {packer.num_examples:,} examples ({packer.num_too_long} too long), '
    f'{tokens:,} tokens, {rows:,} rows of {row_length}, {packer.fill:.1%} full'
  )
  print(
    f'  composed in {composed:.2f} s, an epoch of batches of {BATCH_ROWS} in '
    f'{spent:.2f} s: {tokens / spent:,.0f} tokens a second, {rate:,.0f} with '
    'the composing'
  )
  return packer, rate


def of_seeks(packer: Packer) -> None:
  """Prints the wall clock of a batch at each place, in turns.

  Each place is of another epoch than the one before, so that no order of an
  epoch is known when it is asked for.
  """
  found = {place: [] for place in PLACES}
  for _ in range(ROUNDS):
    for place in PLACES:
      start = time.perf_counter()
      packer.batch(range(place, place + BATCH_ROWS))
      found[place].append(time.perf_counter() - start)
  first = statistics.median(found[0])
  for place, times in found.items():
    middle = statistics.median(times)
    print(
      f'  batch at row {place:>13,}: {middle * 1e3:6.2f} ms (median of '
      f'{ROUNDS}), {middle / first:.2f} times the first'
    )


def of_seqio(table: pa.Table, number: int, row_length: int) -> float:
  """Prints the peer's speed; returns its tokens a second."""
  import seqio
  import tensorflow as tf

  order = np.random.default_rng(0).permutation(table.num_rows)[:number]
  ids = table['token_ids'].take(order).to_pylist()
  dataset = tf.data.Dataset.from_tensor_slices(
    tf.ragged.constant(ids, dtype=tf.int32)
  ).map(lambda row: {'targets': row})
  options = tf.data.Options()
  options.threading.private_threadpool_size = 1
  options.threading.max_intra_op_parallelism = 1
  dataset = seqio.trim_and_pack_dataset(dataset, {'targets': row_length})
  dataset = dataset.batch(BATCH_ROWS).with_options(options)
  next(iter(dataset.take(1)))  # the graph is built once
  counts = [0, 0]

  def run():
    for batch in dataset.as_numpy_iterator():
      counts[0] += int((batch['targets_segment_ids'] > 0).sum())
      counts[1] += batch['targets'].size

  spent = seconds(run)
  rate = counts[0] / spent
  print(
    f"SeqIO's trim_and_pack_dataset: {number:,} of them, {counts[0]:,} tokens, "
    f'{counts[0] / counts[1]:.1%} full, in {spent:.2f} s: {rate:,.0f} tokens a '
    'second'
  )
  return rate


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--examples', type=int, default=75_000)
  parser.add_argument('--row_length', type=int, default=2048)
  parser.add_argument(
    '--seqio', type=int, default=8192, help="examples of SeqIO's; 0: none"
  )
  args = parser.parse_args()
  table = example_table(args.examples)
  assert set(table.column_names) < set(records.schema(records.Example).names)
  packer, rate = of_plan(table, args.row_length)
  of_seeks(packer)
  if args.seqio:
    number = min(args.seqio, table.num_rows)
    peer = of_seqio(table, number, args.row_length)
    print(f'the plan delivers {rate / peer:,.0f} times as many')


if __name__ == '__main__':
  main()
