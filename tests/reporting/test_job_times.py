"""The table of times: every job once, in the order of the plan."""

from rest_jax.reporting import job_times


def test_every_job_is_in_its_cell_and_the_sums_agree():
  seconds = {
    'iteration_10/train': 7.0,
    'iteration_02/train': 5.0,
    'iteration_02/sample': 3.0,
    'base/odd_stage': 2.0,
    'models/ours/sample_eval': 11.0,
    'prepare': 1.0,
  }
  rates = {'iteration_02/train': 70.0, 'base/sample_eval': 90.0}
  table = job_times.job_times(seconds, rates)
  assert table.stages == ['sample', 'train', 'sample_eval', 'odd_stage']
  assert table.rows == [
    ('prepare', [None, None, None, None, 1.0]),
    ('base', [None, None, None, 2.0, 2.0]),
    ('iteration_02', [3.0, 5.0, None, None, 8.0]),
    ('iteration_10', [None, 7.0, None, None, 7.0]),
    ('models/ours', [None, None, 11.0, None, 11.0]),
    ('total', [3.0, 12.0, 11.0, 2.0, sum(seconds.values())]),
  ]
  assert table.rated == ['train', 'sample_eval']
  assert table.rates == [
    ('base', [None, 90.0]),
    ('iteration_02', [70.0, None]),
  ]


def test_no_jobs_give_no_rows():
  assert job_times.job_times({}, {}).rows == []
