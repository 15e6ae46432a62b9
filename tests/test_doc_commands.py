"""Every command that README and docs show is run here, or says why not.

Commands of the launcher and of stages run with --dry_run, which resolves every
binding and starts nothing.
"""

import json
import pathlib
import re
import shlex

import published_llama as published
import pytest

from rest_jax import main
from rest_jax.artifacts import stage_work
from rest_jax.config import configuration
from rest_jax.models.architecture import DecoderConfig
from rest_jax.pipeline import launch_checks, launcher

# Not run here, by how the command begins; and why.
ELSEWHERE = {
  'bash launch/quickstart.sh': 'minutes; the run itself is tests/launch',
  'bash tests/run.sh': 'runs this',
  'bash .ci/run': 'runs this',
  'pip install': 'what tests/run.sh does, in an environment of its own',
  '. .venv/bin/activate': 'of the shell',
  'tensorboard': "TensorBoard's own; tests/training reads what it reads",
  'rest-jax prepare --task=': 'needs the published files; tests/tasks has some',
  'rest-jax prepare --input=': 'tests/test_docs.py runs it',
  'rest-jax prepare --gin_file=palindromes.gin': 'tests/test_docs.py runs it',
  'rest-jax view': 'tests/commands starts a server',
  'rest-jax status': 'needs a run; tests/commands',
  'rest-jax stop': 'needs a run; tests/commands',
  'python3 -m venv .xm': 'makes an environment; tests/launch',
  'rest-jax run …': 'a form; tests/commands has --detach',
  'rest-jax run --gin_file=runs/arithmetic.gin --gin.RUN_DIR=runs/sweep': (
    'several runs; tests/commands has --sweep'
  ),
  'rest-jax run --executor=gke': 'needs a cluster; tests/executors has one',
  'rest-jax run --executor=tpu_vm': 'needs a cloud; tests/executors has one',
  'rest-jax compare': 'needs finished runs; tests/commands',
  'rest-jax rescore': 'needs a run; tests/commands',
  'rest-jax import': 'needs a published model; tests/commands',
  'rest-jax export': 'needs a finished run; tests/commands',
  'rest-jax run --model=gs://': 'needs what rest-jax import writes',
  'rest-jax models': 'tests below',
  'rest-jax tasks': 'tests below',
  'rest-jax preflight': 'needs libtpu',
  'rest-jax evaluate --gin.VERDICTS_DIRS': 'tests/test_evaluate.py has it',
  'rest-jax grading-sheet': 'needs samples; tests/commands',
  'rest-jax check-task': 'needs problems of APPS; tests/commands',
  'python -c': 'one line of Python',
  'rest-jax STAGE': 'a form, no command',
}
_COMMAND = re.compile(
  r'^ *((?:rest-jax|python|bash|pip|tensorboard|\. \.venv) ?[^\n\\]*'
  r'(?:\\\n[^\n\\]*)*)$',
  re.M,
)


def commands(root):
  """(page, command) of every line of README and docs that is one."""
  pages = [root / 'README.md', root / 'CONTRIBUTING.md']
  for page in [*pages, *sorted((root / 'docs').glob('*.md'))]:
    text = page.read_text()
    blocks = re.findall(r'^```\w*\n(.*?)^```', text, re.M | re.S)
    blocks += re.findall(r'(?:^ {4}.*\n)+', text, re.M)
    for block in blocks:
      for found in _COMMAND.findall(block):
        line = re.sub(r'\s+#.*', '', found.replace('\\\n', ' '))
        line = re.sub(r'\[--[^]]*\]', '', line)  # what may be left out
        yield page.name, ' '.join(line.split())


@pytest.fixture
def folder(tmp_path, monkeypatch, bucket):
  """A folder with the files that the commands name."""
  monkeypatch.chdir(tmp_path)
  pytest.importorskip('gguf')
  matrices = published.matrices(tied=True)
  for name in ('SmolLM2-135M-Instruct.gguf', 'SmolLM2.gguf'):
    published.write_gguf(tmp_path / name, matrices)
  pathlib.Path('models').mkdir()
  published.write_safetensors(
    tmp_path / 'models' / 'Llama-3.1-8B',
    matrices,
    config={'max_position_embeddings': 8192},
  )
  rows = [{'question': f'{i} + 1?', 'answer': i + 1} for i in range(30)]
  pathlib.Path('problems.jsonl').write_text(
    ''.join(json.dumps(row) + '\n' for row in rows)
  )
  pathlib.Path('completions.jsonl').write_text(
    '{"id": 1, "completion": "\\\\boxed{3}", "reference": "3"}\n'
  )
  for path in _checkpoints():
    with stage_work.work_on(
      tmp_path / path,
      stage='train',
      kind=None,
      semantic={
        'model': DecoderConfig(**published.SIZES),
        'iteration': 1,
      },
      inputs={},
      version=1,
    ) as work:
      work.finish(statistics={'chosen': 'lr/1'})
  return tmp_path


def _checkpoints():
  root = pathlib.Path(__file__).resolve().parent.parent
  for _, command in commands(root):
    yield from re.findall(r"'([\w./-]+/checkpoints)'", command)


def _run(command):
  words = shlex.split(command)
  if words[:2] == ['python', 'launch/rest_em.py']:
    return launcher.run([*words[2:], '--dry_run'])
  if words[:3] == ['python', '-m', 'rest_jax.main']:
    words = ['rest-jax', *words[3:]]
  assert words[0] == 'rest-jax', command
  more = [] if words[1] == 'grade' else ['--dry_run']
  return main.run([*words[1:], *more])


def test_every_command_of_the_pages_runs_or_says_why_not(
  root, folder, monkeypatch, capsys
):
  # In processes of their own, and tested in tests/pipeline.
  monkeypatch.setattr(launch_checks, 'check_bindings', lambda *_: None)
  ran, failed = 0, []
  for page, command in commands(root):
    if any(command.startswith(start) for start in ELSEWHERE):
      continue
    try:
      code = _run(command)
    except (configuration.ConfigurationError, SystemExit) as error:
      code = error
    ran += 1
    if code != 0:
      failed.append(f'{page}: {command}\n    {code}')
  capsys.readouterr()
  assert ran > 5 and not failed, '\n'.join(failed)


def test_tasks_and_models_are_listed(folder, capsys):
  assert main.run(['tasks']) == 0
  assert 'tasks/math.gin' in capsys.readouterr().out
  assert main.run(['models', 'SmolLM2-135M-Instruct.gguf']) == 0
  assert 'embed_dim = 32' in capsys.readouterr().out
  assert main.run(['models']) == 0
  assert '.gguf' in capsys.readouterr().out
