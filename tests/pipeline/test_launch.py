"""What a launch says before its jobs and at its end."""

from unittest import mock

from rest_jax.executors.jobs import Job
from rest_jax.pipeline import launch_lines


def test_the_end_of_a_run_says_how_its_policy_is_exported(tmp_path):
  assert launch_lines.export(tmp_path) == []
  made = tmp_path / 'iteration_01' / 'checkpoints'
  made.mkdir(parents=True)
  assert launch_lines.export(tmp_path) == []  # it is not trained yet
  (made / 'manifest.json').write_text('{}')
  lines = launch_lines.export(tmp_path)
  assert any(f'export --from={tmp_path} --to=FOLDER' in line for line in lines)
  assert any('--to=FILE.gguf' in line for line in lines)


def test_a_job_behind_one_to_do_is_not_called_done():
  planned = [
    Job(name=name, stage='train', needs=needs)
    for name, needs in {'a': (), 'b': ('a',), 'c': ('b',), 'd': ('a',)}.items()
  ]
  ledger = mock.Mock(is_done=lambda job: job.name in 'acd')
  states = [
    line.split('  ')[0].split()[0]
    for line in launch_lines.plan(planned, ledger, mock.Mock(kind='cpu'))
  ]
  assert states == ['done', 'to', 'done?', 'done', 'done?']
