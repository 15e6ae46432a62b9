"""The worked examples of docs/tasks.md do what they say."""

import re
import shlex
import sys

import pytest

from rest_jax import main, score
from rest_jax.artifacts import manifests, records

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
  with manifests.work_on(
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
