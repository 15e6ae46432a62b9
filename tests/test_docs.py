"""The commands of docs/tasks.md do what they say; named files exist."""

import ast
import io
import pathlib
import re
import shlex
import sys
import tokenize

import pytest

from rest_jax import main, score
from rest_jax.artifacts import manifests, records, stage_work

_BLOCK = re.compile(
  r'(?:^`(?P<name>[\w.]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```',
  re.M | re.S,
)


@pytest.fixture
def example(root, tmp_path, monkeypatch):
  """The files of docs/tasks.md in a folder; returns its bash commands."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  commands = []
  for block in _BLOCK.finditer((root / 'docs' / 'tasks.md').read_text()):
    if block['name']:
      (tmp_path / block['name']).write_text(block['text'])
    elif block['kind'] == 'bash':
      commands.append(shlex.split(block['text'].replace('\\\n', '')))
  return commands


def counts(folder):
  return {
    split: len(manifests.load(folder / split).records())
    for split in ('train', 'dval', 'test')
  }


def test_the_commands_of_the_page_prepare_every_row(example, tmp_path):
  rows = {}
  for command in example:
    program, *arguments = command
    assert program == 'rest-jax'
    assert main.run(arguments) == 0
  for run, task, exemplars in (
    ('own', 'own', 1),
    ('programs_own', 'own', 1),
    ('palindromes', 'palindromes', 0),
  ):
    found = counts(tmp_path / 'runs' / run / 'problems' / task)
    rows[run] = sum(found.values()) + exemplars
    assert min(found.values()) > 0
  assert rows == {'own': 6, 'programs_own': 6, 'palindromes': 8}


def test_the_grader_of_the_page_scores_a_run(example, tmp_path):
  assert main.run(example[2][1:]) == 0
  problems = tmp_path / 'runs/palindromes/problems/palindromes/train'
  [problem, *_] = manifests.load(problems).records()
  texts = [f'It is {problem.answer}zz.', problem.answer[:1], '']
  if problem.answer == problem.answer[::-1]:
    texts[1] = problem.answer
  write_samples(tmp_path / 'samples', problem.id, texts)
  score.score(
    samples_dirs=[str(tmp_path / 'samples')],
    problems_dirs=[str(problems)],
    verdicts_dirs=[str(tmp_path / 'verdicts')],
    num_workers=1,
  )
  found = manifests.load(tmp_path / 'verdicts').records()
  right = problem.answer == problem.answer[::-1]
  outcomes = [row.outcome for row in found]
  assert outcomes == ['wrong', 'correct' if right else 'wrong', 'no_answer']
  assert found[0].detail.endswith(f'is no palindrome with {problem.answer!r}')


def write_samples(folder, problem_id, texts):
  """A finished folder of samples of one problem."""
  with stage_work.work_on(
    folder,
    stage='sample',
    kind=records.Sample,
    semantic={'stream': {'name': 'e_step', 'temperature': 1.0}},
    inputs={},
    version=1,
  ) as work:
    rows = [
      records.Sample(
        problem_id=problem_id,
        sample_index=index,
        stream='e_step',
        policy_digest='p',
        prompt_digest='d',
        token_ids=[2],
        target_length=0,
        text=text,
        logprobs=[0.0],
        sampling_logprobs=[0.0],
        finish_reason='eos',
        engine_fingerprint='e',
      )
      for index, text in enumerate(texts)
    ]
    work.write(records.part_name(0, 1), rows, source='test')
    work.finish()


# Files of a user's, and of other projects, that pages and docstrings name.
_NOT_OURS = frozenset(
  {
    'my_tasks.py',  # docs/tasks.md: registers a user's SeqIO task
    'palindromes.py',  # docs/tasks.md: a user's grader
    'palindromes.gin',
    'starter_code.py',  # of a problem of APPS
    'config.gin',  # the launcher writes both into RUN_DIR
    'automatic.gin',
  }
)
_PATH = re.compile(r'(?<![\w./*<-])(?:[\w-]+/)*[\w-]+\.(?:py|gin|sh)\b')
_IN_LAUNCH = re.compile(r'(?<![\w./-])launch/[\w./-]*\w')


def paths_of(root):
  """Every source file, as a path within the repository."""
  found = set()
  for folder in ('rest_jax', 'gin', 'launch', 'tests'):
    for path in (root / folder).rglob('*'):
      if path.is_file() and '__pycache__' not in path.parts:
        found.add(path.relative_to(root).as_posix())
  for path in root.iterdir():
    found.add(path.name)
  return found


def unknown_names(text, paths):
  """Names of files in a text that no file of the repository ends with.

  A name may leave out the folders at its beginning, as 'sampling/streams.py'
  does. Words in capitals stand for a name that the reader chooses.
  """
  ends = {'/'.join(path.split('/')[i:]) for path in paths for i in range(6)}
  return {
    name
    for name in _PATH.findall(text)
    if name not in ends
    and name not in _NOT_OURS
    and not re.search(r'\b[A-Z][A-Z_]+\b', name)
  }


def prose_of(source):
  """The docstrings and comments of a Python file."""
  tree = ast.parse(source)
  kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
  texts = [
    ast.get_docstring(node) or ''
    for node in ast.walk(tree)
    if isinstance(node, kinds)
  ]
  texts += [
    token.string
    for token in tokenize.generate_tokens(io.StringIO(source).readline)
    if token.type == tokenize.COMMENT
  ]
  return '\n'.join(texts)


def test_unknown_names_are_found_and_known_ones_are_not():
  paths = {'rest_jax/sampling/streams.py', 'gin/defaults.gin', 'setup.py'}
  text = (
    'rest_jax/sampling/streams.py sampling/streams.py streams.py setup.py '
    '(tasks/streams.py) gin/defaults.gin, gin/tasks/NAME.gin; rest_jax/gone.py.'
  )
  assert unknown_names(text, paths) == {'tasks/streams.py', 'rest_jax/gone.py'}
  source = '"""Of a.py."""\n\n\ndef f():\n  return "b.py"  # c.py\n'
  assert unknown_names(prose_of(source), paths) == {'a.py', 'c.py'}


def test_every_file_that_a_page_names_exists(root):
  paths = paths_of(root)
  folders = {str(pathlib.PurePosixPath(path).parent) for path in paths}
  pages = [*sorted((root / 'docs').glob('*.md')), root / 'README.md']
  pages.append(root / 'CONTRIBUTING.md')
  stale = {}
  for page in pages:
    text = page.read_text()
    names = unknown_names(text, paths)
    names |= {*_IN_LAUNCH.findall(text)} - paths - folders
    if names:
      stale[page.name] = sorted(names)
  assert len(pages) > 10 and not stale


def test_every_file_that_a_docstring_or_comment_names_exists(root):
  paths = paths_of(root)
  stale = {}
  for path in sorted(paths):
    if path.startswith('rest_jax/') and path.endswith('.py'):
      names = unknown_names(prose_of((root / path).read_text()), paths)
    elif path.endswith('.gin'):
      text = (root / path).read_text()
      names = unknown_names('\n'.join(re.findall('#.*', text)), paths)
    else:
      continue
    if names:
      stale[path] = sorted(names)
  assert not stale
