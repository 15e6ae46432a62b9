"""The charts of a run that is small enough to count by hand."""

import pytest

from rest_jax.artifacts import run_paths
from rest_jax.evaluation import results
from rest_jax.reporting import (
  accuracy_charts,
  difficulty_charts,
  m_step_data,
  run_data,
  training_charts,
)

BOOTSTRAP = {'resamples': 100, 'seed': 0}


def graded(stream, correct, *, samples=1, heat=0.0, split='test'):
  """correct: of `samples` samples of problems 0, 1, ...; None: not graded."""
  problems = {
    f't/{split}/{i}': (c, samples)
    for i, c in enumerate(correct)
    if c is not None
  }
  return run_data.GradedStream(
    task='t',
    split=split,
    stream=stream,
    key=stream,
    folder=None,
    temperature=heat,
    num_samples=samples,
    problems=problems,
    outcomes={},
  )


def model(name, greedy=(), sampled=(), **more):
  """A model with greedy verdicts, one a problem, and their pass@1."""
  value = sum(greedy) / len(greedy) if greedy else None
  row = {'task': 't', 'split': 'test', 'metric': results.GREEDY, 'k': 1}
  row |= {'value': value, 'ci_low': 0.0, 'ci_high': 1.0, 'n': len(greedy)}
  streams = [graded(run_paths.GREEDY, greedy)]
  if sampled:
    streams.append(graded('eval/sampled', sampled, samples=4, heat=1.0))
  return run_data.Model(
    name=name, results_json={'rows': [row]}, evaluation=streams, **more
  )


def heights(series):
  return {point.x: point.y for point in series.points}


def test_a_problem_counts_in_the_bin_of_the_bases_own_samples():
  # Of four samples the base solves 0, 1, 1, 2, 3 and 4.
  base = model('base', [0, 0, 1, 1, 1, 0], sampled=[0, 1, 1, 2, 3, 4])
  last = model('iteration_01', [1, 1, 0, 1, 0, 1])
  run = run_data.Run(name='r', models=[base, last])
  [chart] = difficulty_charts.by_difficulty(run, BOOTSTRAP)
  names = [text for _, text in chart.x.ticks]
  assert names == ['very hard (1)', 'hard (2)', 'medium (1)', 'easy (2)']
  assert [one.name for one in chart.series] == [
    'base, greedy',
    'iteration 1, greedy',
  ]
  before, after = map(heights, chart.series)
  assert before == {0: 0.0, 1: 0.5, 2: 1.0, 3: 0.5}
  assert after == {0: 1.0, 1: 0.5, 2: 1.0, 3: 0.5}


def test_an_empty_bin_has_no_bar_and_no_problem_at_all_no_chart():
  base = model('base', [0, 1], sampled=[0, 0])
  run = run_data.Run(name='r', models=[base])
  [chart] = difficulty_charts.by_difficulty(run, BOOTSTRAP)
  assert heights(chart.series[0]) == {0: 0.5}
  ungraded = model('base', [0, 1], sampled=[None, None])
  run = run_data.Run(name='r', models=[ungraded])
  assert difficulty_charts.by_difficulty(run, BOOTSTRAP) == []


def test_the_train_curve_stands_at_the_model_that_drew_the_samples():
  e_step = graded('e_step', [3, 1], samples=4, heat=0.7, split='train')
  run = run_data.Run(
    name='r',
    models=[
      model('base', [0, 1]),
      model(run_paths.SFT_HUMAN, [1, 1]),
      model('iteration_01', [1, 1], e_step=[e_step]),
    ],
  )
  [chart] = accuracy_charts.by_iteration(run, BOOTSTRAP)
  test, train, sft = chart.series
  assert heights(test) == {0: 0.5, 1: 1.0}
  assert heights(train) == {0: 0.5}
  assert sft.horizontal and sft.points[0].y == 1.0
  assert 'T = 0.7, n = 2 × 4 samples' in chart.detail


@pytest.mark.parametrize('largest', [1, 16, 17, 40, 100])
def test_every_problem_is_in_one_bar_of_the_kept_solutions(largest):
  kept = {size: size + 1 for size in range(largest + 1)}
  selection = run_data.Selection(
    counts={}, kept_per_problem={'t': kept}, overlap=None
  )
  run = run_data.Run(
    name='r', models=[run_data.Model(name='iteration_01', selection=selection)]
  )
  [chart] = training_charts.kept_solutions(run)
  assert len(chart.x.ticks) <= 17
  assert chart.x.ticks[0] == (0, '0')
  assert sum(heights(chart.series[0]).values()) == sum(kept.values())
  assert heights(chart.series[0])[0] == 1  # those of which none was kept


@pytest.mark.parametrize(
  ('rewards', 'shown'), [([0.5, 0.71], '71.0%'), ([0.5, 2.5], '2.5')]
)
def test_rewards_are_percentages_only_if_all_are_shares(rewards, shown):
  training = m_step_data.Training(
    name='lr_0.001', losses=[(10, 0.3)], rewards=list(enumerate(rewards))
  )
  m_step = m_step_data.MStep(
    trainings=[training], chosen_step=1, learning_rate=0.001, reward=rewards[1]
  )
  run = run_data.Run(
    name='r', models=[run_data.Model(name='iteration_01', m_step=m_step)]
  )
  [[loss, dval]] = training_charts.m_steps(run)
  assert loss.series[0].is_marked  # logged once: a line would not be seen
  _, rows = dval.table
  assert rows[-1] == ['1', shown]


def trained(name, *rates, chosen, scale=1.0):
  trainings = [
    m_step_data.Training(
      name=f'lr_{rate:g}',
      losses=[(10, scale * rate), (20, scale)],
      rewards=[(0, 0.1), (20, 0.3)],
    )
    for rate in rates
  ]
  m_step = m_step_data.MStep(
    trainings=trainings, chosen_step=20, learning_rate=chosen
  )
  return run_data.Model(name=name, m_step=m_step)


def test_one_chart_has_the_losses_of_all_m_steps():
  """The chosen learning rate of each; pretraining and grids stand apart."""
  run = run_data.Run(
    name='r',
    models=[
      trained('base', 0.5, chosen=0.5, scale=9.0),
      trained(run_paths.SFT_HUMAN, 0.5, chosen=0.5),
      trained('iteration_01', 0.5, chosen=0.5, scale=2.0),
      trained('iteration_02', 0.25, 0.5, chosen=0.5, scale=3.0),
    ],
  )
  every, pretraining, grid = training_charts.m_steps(run)
  assert {one.name: heights(one)[10] for one in every[0].series} == {
    'SFT on human solutions': 0.5,
    'iteration 1': 1.0,
    'iteration 2': 1.5,
  }
  [base] = pretraining[0].series
  assert heights(base) == {10: 4.5, 20: 9.0}
  names = [one.name for one in grid[1].series]
  assert names == ['learning rate 0.25', 'learning rate 0.5']
  # Rings: step 20 of the chosen training and nothing else.
  rings = [
    (one.name, point.x)
    for chart in (every[1], grid[1])
    for one in chart.series
    for point in one.points
    if point.ringed
  ]
  assert rings == [
    ('SFT on human solutions', 20),
    ('iteration 1', 20),
    ('iteration 2', 20),
    ('learning rate 0.5', 20),
  ]
  styles = [one.style for one in every[0].series]
  assert len(set(styles)) == len(styles)
