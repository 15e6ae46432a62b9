"""What a launch says at its end."""

from rest_jax.pipeline import launch


def test_the_end_of_a_run_says_how_its_policy_is_exported(tmp_path):
  assert launch.export_lines(tmp_path) == []
  made = tmp_path / 'iteration_01' / 'checkpoints'
  made.mkdir(parents=True)
  assert launch.export_lines(tmp_path) == []  # it is not trained yet
  (made / 'manifest.json').write_text('{}')
  lines = launch.export_lines(tmp_path)
  assert any(f'export --from={tmp_path} --to=FOLDER' in line for line in lines)
  assert any('--to=FILE.gguf' in line for line in lines)
