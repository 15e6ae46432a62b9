"""Rows that share prompts: nothing is lost, and what is learned is the same."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_networks
import tiny_run
from meshes import mesh

from rest_jax.artifacts import records
from rest_jax.config import configuration
from rest_jax.models.segments import BLOCK
from rest_jax.training import (
  batches,
  optimizers,
  packing,
  shared_rows,
  train_step,
)
from rest_jax.training.hyperparameters import OptimizerConfig

MODEL = small_networks.network(max_length=128)
EOS = 2
SHOTS = 40  # tokens of the few-shot prompt


def example(problem, index, prompt, solution, weight=1.0):
  return records.Example(
    problem_id=problem,
    sample_index=index,
    token_ids=[*map(int, prompt), *map(int, solution), EOS],
    weight=weight,
    segment_types=[records.PROMPT] * len(prompt)
    + [records.TARGET] * (len(solution) + 1),
  )


@functools.cache
def examples(shots=SHOTS, seed=0):
  """Ten problems with one to three solutions; some of weight 0, some not 1."""
  rng = np.random.default_rng(seed)
  ids = lambda number: rng.integers(3, 32, number)  # noqa: E731
  lead, found = ids(shots), []
  for problem in range(10):
    prompt = [*lead, *ids(1 + problem % 5)]
    for index in range(1 + problem % 3):
      weight = (1.0, 0.25, 2.0, 0.0)[(problem + index) % 4]
      solution = ids(1 + (3 * problem + index) % 9)
      found.append(example(f'p{problem}', index, prompt, solution, weight))
  return found


def pack(rows, make=shared_rows.SharedPacker, row_length=64, **fields):
  table = records.to_table(records.Example, rows)
  return make(table, **({'row_length': row_length, 'seed': 0} | fields))


def unpacked(made, rows):
  """(ids, weights of the targets) of every example, read from the rows."""
  found = []
  for row in range(len(rows.tokens)):
    lead = []
    if rows.prefixes is not None and rows.prefixes[row] >= 0:
      index = rows.prefixes[row]
      lead = made.prefixes.tokens_FP[index, : made.prefixes.lengths_F[index]]
    ids, parents = rows.segment_ids[row], np.full(rows.tokens.shape[1], -1)
    if rows.parents is not None:
      parents = rows.parents[row]
    is_parent = set(parents.tolist())
    for segment in range(1, ids.max(initial=0) + 1):
      if segment in is_parent:
        continue
      (places,) = np.nonzero(ids == segment)
      assert places.tolist() == list(range(places[0], places[-1] + 1))
      [parent] = set(parents[places].tolist())
      (question,) = np.nonzero(ids == parent) if parent > 0 else ((),)
      assert not rows.loss_weights[row, question].any()
      seen = [*lead, *rows.tokens[row, question], *rows.tokens[row, places]]
      at = [*rows.positions[row, question], *rows.positions[row, places]]
      assert [*range(len(lead)), *at] == list(range(len(seen)))
      targets = rows.targets[row, places]
      assert targets[:-1].tolist() == rows.tokens[row, places[1:]].tolist()
      weights = rows.loss_weights[row, places]
      found.append(
        (tuple(map(int, [*seen, targets[-1]])), tuple(weights.tolist()))
      )
  return found


@pytest.mark.parametrize('shots', [SHOTS, 0])
@pytest.mark.parametrize('row_length', [13, 64, 300])
def test_every_example_is_whole_once_in_every_epoch(shots, row_length):
  made = pack(examples(shots), row_length=row_length)
  expected = collections.Counter()
  for row in examples(shots):
    learned = [t == records.TARGET for t in row.segment_types]
    weights = tuple(np.float32(row.weight * w) for w in learned[1:])
    expected[tuple(row.token_ids), sum(weights)] += 1
  for epoch in range(2):
    first = epoch * made.rows_per_epoch
    rows = made.batch(range(first, first + made.rows_per_epoch))
    found = collections.Counter(
      (ids, sum(weights)) for ids, weights in unpacked(made, rows)
    )
    assert found == expected
  assert made.num_examples == len(examples(shots)) and not made.num_too_long
  filled = sum(made.tokens_in(row, 1) for row in range(made.rows_per_epoch))
  assert filled == int((rows.segment_ids > 0).sum())


def test_a_question_stands_once_a_row_and_the_shots_in_none():
  made = pack(examples(), row_length=300)
  assert made.rows_per_epoch == 1
  assert made.prefixes.lengths_F.tolist() == [SHOTS]
  plain = pack(examples(), packing.Packer, row_length=64)
  solutions = sum(len(r.token_ids) - 1 for r in examples())
  whole = sum(map(len, plain.rows))
  assert made.tokens_in(0, 1) < solutions - SHOTS * whole
  [row] = made.rows
  problems = [made._items[item].examples for item in row]
  assert sorted(map(len, problems)) == sorted(1 + p % 3 for p in range(10))


def test_a_problem_lies_in_one_row_unless_none_holds_it():
  rng = np.random.default_rng(0)
  long = [
    example('long', i, [5, 6, 7], rng.integers(3, 32, 20)) for i in range(7)
  ]
  made = pack([*examples(0), *long], row_length=64)
  of_problem = collections.Counter()
  for items in made.rows:
    for item in items:
      [problem] = {
        made_of.problem_id
        for made_of in (
          [*examples(0), *long][e] for e in made._items[item].examples
        )
      }
      of_problem[problem] += 1
  assert of_problem.pop('long') == 4  # of 21 places, behind a question of 2
  assert set(of_problem.values()) == {1}


@pytest.mark.parametrize(('solutions', 'is_split'), [(4, False), (6, True)])
def test_problems_are_split_where_that_takes_fewer_rows(solutions, is_split):
  """Rows of 64: of problems of 43 places each has its own, of 29 two fit."""
  rng = np.random.default_rng(0)
  rows = [
    example(f'p{problem}', index, [5, 6, problem + 7], rng.integers(3, 9, 6))
    for problem in range(24)
    for index in range(solutions)
  ]
  made = pack(rows, row_length=64)
  places = 2 + 7 * solutions
  whole = 24 if 2 * places > 64 else 12
  assert (made.rows_per_epoch < whole) == is_split
  pieces = collections.Counter(
    rows[item.examples[0]].problem_id for item in made._items
  )
  assert len(pieces) == 24 and (set(pieces.values()) != {1}) == is_split
  found = unpacked(made, made.batch(range(made.rows_per_epoch)))
  assert sorted(ids for ids, _ in found) == sorted(
    tuple(row.token_ids) for row in rows
  )


def test_what_no_row_holds_is_counted_and_nothing_at_all_is_an_error():
  long = example('p', 0, [3] * 10, [4] * 60)
  made = pack([*examples(), long], row_length=64)
  assert made.num_too_long == 1 and made.num_examples == len(examples())
  # Behind shared shots more fits than with all of them in each row.
  assert pack(examples(), row_length=30).num_too_long == 0
  for rows, make in ((examples(), packing.Packer), ([long], None)):
    with pytest.raises(configuration.ConfigurationError, match='ROW_LENGTH'):
      pack(rows, make or shared_rows.SharedPacker, row_length=30)


def test_each_kind_of_prompt_has_its_own_prefix():
  rng = np.random.default_rng(0)
  leads = [[1, *rng.integers(3, 32, length)] for length in (60, 90)]
  rows = [
    example(f't{task}/{p}', 0, [*lead, *rng.integers(3, 32, 3)], [5, 6])
    for p in range(12)
    for task, lead in enumerate(leads)
  ]
  made = pack(rows)
  assert sorted(made.prefixes.lengths_F.tolist()) == [61, 91]
  batch = made.batch(range(made.rows_per_epoch))
  expected = {tuple(row.token_ids) for row in rows}
  assert {ids for ids, _ in unpacked(made, batch)} == expected
  assert set(batch.prefixes.tolist()) == {0, 1}


def test_prompts_of_their_own_have_no_prefix():
  rng = np.random.default_rng(0)
  rows = [
    example(f'p{p}', i, [1, *np.random.default_rng(p).integers(3, 32, 50)], s)
    for p in range(12)
    for i, s in enumerate(rng.integers(3, 32, (3, 4)))
  ]
  made = pack(rows, row_length=80)
  assert made.prefixes is None and 'prefixes' not in made.fields
  assert made.rows_per_epoch == 12


def test_a_text_without_a_prompt_is_a_row_as_in_plain_packing():
  rows = [
    records.Example(
      problem_id=f'd{i}',
      sample_index=-1,
      token_ids=list(range(3, 9 + i)),
      weight=1.0,
      segment_types=[records.TARGET] * (6 + i),
    )
    for i in range(5)
  ]
  shared, plain = pack(rows), pack(rows, packing.Packer)
  a, b = shared.batch([0]), plain.batch([0])
  assert shared.fields == plain.fields and shared.spans == plain.spans
  for name in packing.PLAIN_FIELDS:
    np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_lone_solutions_are_packed_as_rows_that_share_nothing():
  rng = np.random.default_rng(0)
  rows = [
    example(f'p{p}', 0, rng.integers(3, 32, 5 + p), rng.integers(3, 32, 9 - p))
    for p in range(7)
  ]
  shared, plain = pack(rows), pack(rows, packing.Packer)
  assert shared.fields == plain.fields and shared.spans == plain.spans
  a, b = (made.batch(range(plain.rows_per_epoch)) for made in (shared, plain))
  for name in packing.PLAIN_FIELDS:
    np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_lone_solution_behind_a_prefix_has_no_parent():
  lone = [row for row in examples() if row.sample_index == 0]
  made = pack(lone)
  assert made.prefixes is not None and 'parents' not in made.fields
  rows = made.batch(range(made.rows_per_epoch))
  found = {ids for ids, _ in unpacked(made, rows)}
  assert found == {tuple(map(int, row.token_ids)) for row in lone}


def test_spans_bound_what_tokens_look_at():
  rng = np.random.default_rng(1)
  rows = [
    example(
      f'p{p}', i, [p, *range(3, 20)], rng.integers(3, 32, rng.integers(5, 70))
    )
    for p in range(40)
    for i in range(5)
  ]
  made = pack(rows, row_length=512)
  batch = made.batch(range(made.rows_per_epoch))
  longest = most = 0
  for ids, parents in zip(batch.segment_ids, batch.parents, strict=True):
    longest = max(longest, np.bincount(ids)[1:].max())
    for low in range(0, 512, BLOCK):
      seen = set(parents[low : low + BLOCK].tolist()) - {-1}
      most = max(most, sum(int((ids == parent).sum()) for parent in seen))
  assert made.spans.segment == longest
  assert most <= made.spans.parents <= most + 40


@functools.cache
def params():
  made = tiny_run.fresh(MODEL, seed=1)
  return jax.tree.map(lambda w: np.asarray(w) * 1.5, made)


ADAMW = optimizers.make(
  OptimizerConfig(learning_rate=0.01, schedule='constant', clip_norm=0), 10
)


@functools.cache
def compiled(plan, axes, microbatches):
  on = mesh(*axes)
  _, where = train_step.shardings(MODEL, ADAMW, on)
  step = train_step.make_step(MODEL, ADAMW, on, plan, microbatches=microbatches)
  return jax.jit(step, out_shardings=(where, None)), where


def step_of(make, shots, normalizer, axes=(1, 1, 1), microbatches=1, epochs=1):
  """(gradients, parameters after a step, loss) of all examples."""
  made = pack(examples(shots), make, loss_normalizer=normalizer)
  rows = epochs * made.rows_per_epoch
  plan = batches.Plan.of(made)
  step, where = compiled(plan, axes, microbatches)
  placed = jax.device_put(params(), where.params)
  opt_state = jax.jit(ADAMW.init, out_shardings=where.opt_state)(placed)
  places = batches.batch_shardings(mesh(*axes), rows, plan)
  batch = batches.put_batch(made, 0, rows, places)
  state, metrics = step(
    train_step.TrainState(jnp.int32(0), placed, opt_state), batch
  )
  # Adam's first moment after one step: a tenth of the gradient.
  moment = optax.tree_utils.tree_get(state.opt_state, 'mu')
  gradients = jax.tree.map(lambda m: 10 * np.asarray(m), moment)
  return gradients, jax.device_get(state.params), float(metrics['loss'])


def assert_same_step(shared, plain):
  """Loss within 1e-6; each gradient within 1e-5 of its array's largest."""
  assert shared[2] == pytest.approx(plain[2], rel=1e-6)
  for a, b, after, expected in zip(
    *map(jax.tree.leaves, (shared[0], plain[0], shared[1], plain[1])),
    strict=True,
  ):
    largest = np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest)
    # Adam divides by the gradient's size: where that is next to nothing, the
    # direction of a step is noise.
    known = np.abs(b) > 1e-3 * largest
    np.testing.assert_allclose(after[known], expected[known], rtol=0, atol=1e-4)


@pytest.mark.parametrize('shots', [SHOTS, 0])
@pytest.mark.parametrize(
  'normalizer', ['token', 'sequence_sum', 'sequence_mean']
)
def test_loss_gradient_and_step_are_those_of_plain_rows(shots, normalizer):
  shared = step_of(shared_rows.SharedPacker, shots, normalizer)
  assert_same_step(shared, step_of(packing.Packer, shots, normalizer))


@pytest.mark.parametrize('axes', [(2, 1, 1), (1, 4, 1), (2, 2, 2)], ids=str)
def test_a_mesh_changes_nothing_either(axes):
  shared = step_of(shared_rows.SharedPacker, SHOTS, 'token', axes, 1, 8)
  assert_same_step(shared, step_of(packing.Packer, SHOTS, 'token'))


@pytest.mark.parametrize('axes', [(1, 1, 1), (1, 2, 1)], ids=str)
def test_micro_batches_change_nothing(axes):
  shared = step_of(shared_rows.SharedPacker, SHOTS, 'token', axes, 2, 4)
  assert_same_step(shared, step_of(packing.Packer, SHOTS, 'token'))
