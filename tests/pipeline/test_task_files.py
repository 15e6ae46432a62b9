"""Tasks by their names: which files are read, and which cannot be together."""

import pytest

from rest_jax.config import configuration, gin_names, gin_parser
from rest_jax.pipeline import task_files
from rest_jax.tasks.benchmarks import catalogue

TASK = """
from __gin__ import dynamic_registration
from rest_jax.tasks import jsonl
from rest_jax.tasks import prompts
{macro} = @{name}/jsonl.JsonlConfig()
{name}/jsonl.JsonlConfig:
  name = '{name}'
  input = 'x.jsonl'
  num_shots = %NUM_SHOTS
  prompt = @{prompt}prompts.PromptTemplate()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
  """Writes tasks/NAME.gin in the working directory."""
  (tmp_path / 'tasks').mkdir()
  monkeypatch.chdir(tmp_path)

  def write(name, *more, macro=None, prompt='', file=None):
    macro = macro or f'{name.upper()}_TASK'
    text = TASK.format(name=name, macro=macro, prompt=prompt)
    path = tmp_path / 'tasks' / f'{file or name}.gin'
    path.write_text('\n'.join([text, *more]))

  return write


def expand(tasks, *bindings, gin_files=()):
  return task_files.expand(
    gin_files=list(gin_files),
    bindings=['RUN_DIR=x', f'TASKS={tasks}', *bindings],
    search_paths=[],
  )


def refused(message, tasks, *bindings, **fields):
  with pytest.raises(configuration.ConfigurationError, match=message):
    expand(tasks, *bindings, **fields)


def test_files_are_read_for_the_tasks_that_the_users_files_lack(place):
  place('one')
  place('two')
  files, bindings = expand(['two', 'one'], gin_files=['tasks/one.gin'])
  assert files == ['tasks/two.gin', 'tasks/one.gin']
  assert bindings[0] == 'TASK_CONFIGS=[%TWO_TASK, %ONE_TASK]'
  _, bound = gin_parser.parse('prepare', gin_files=files, bindings=bindings)
  assert [config.name for config in bound['tasks']] == ['two', 'one']


def test_a_task_is_found_by_the_name_that_its_configuration_bears(place):
  place('mine', macro='OTHER_TASK', file='other')
  files, bindings = expand(['mine/dval'], gin_files=['tasks/other.gin'])
  assert (files, bindings[0]) == (
    ['tasks/other.gin'],
    'TASK_CONFIGS=[%OTHER_TASK]',
  )
  own = ['INPUT=x.jsonl', 'TASK=quiz']
  files, _ = expand(['quiz'], *own, gin_files=['tasks/own_problems.gin'])
  assert files == ['tasks/own_problems.gin']


@pytest.mark.parametrize('task', ['arithmetic', 'programs'])
def test_two_sets_of_one_configuration_are_prepared_once(task):
  _, bindings = expand([task, f'{task}_hard'])
  assert bindings[0] == f'TASK_CONFIGS=[%{task.upper()}_TASK]'


def test_the_users_own_list_of_configurations_wins(place):
  place('one')
  _, bindings = expand(['one'], 'TASK_CONFIGS=[%ONE_TASK]')
  assert bindings[0] == bindings[-1] == 'TASK_CONFIGS=[%ONE_TASK]'


def test_a_file_that_would_change_another_task_is_refused(place):
  place('one', 'NUM_SHOTS = 2')
  place('two')
  place('three', 'prompts.PromptTemplate.lead = "!"', prompt='three/')
  expand(['one'])
  refused('NUM_SHOTS: 4 in tasks/two.gin alone, 2 with', ['one', 'two'])
  refused('NUM_SHOTS', ['two', 'one'])
  # An unscoped field reaches whoever leaves the template unscoped.
  refused(r'PromptTemplate.lead: None in tasks/two.gin', ['two', 'three'])
  # The user's word is meant for all.
  _, bindings = expand(['one', 'two'], 'NUM_SHOTS=3')
  assert bindings[0] == 'TASK_CONFIGS=[%ONE_TASK, %TWO_TASK]'


def test_all_published_tasks_can_share_a_run():
  names = [*catalogue.CATALOGUE]
  files, bindings = expand(names, 'VOCABULARY=bytes')
  assert files == [f'tasks/{name}.gin' for name in names]
  _, bound = gin_parser.parse('prepare', gin_files=files, bindings=bindings)
  alone = [
    gin_parser.parse(
      'prepare',
      gin_files=[file],
      bindings=['RUN_DIR=x', 'VOCABULARY=bytes'],
    )[1]['tasks'][0]
    for file in files
  ]
  assert list(bound['tasks']) == alone


@pytest.mark.parametrize(
  ('tasks', 'message'),
  [
    ([], 'TASKS must be set'),
    (['gsm8'], "got 'gsm8'.*Nearest: gsm8k. Known: .*math500"),
    (['math/trial'], 'prepare writes no math/trial. It writes: math/train'),
  ],
)
def test_a_task_that_is_not_there_is_named(tasks, message):
  refused(message, tasks, 'VOCABULARY=bytes')


def test_a_file_without_the_macro_of_its_name_is_refused(place):
  place('one', macro='ELSE_TASK', file='two')
  refused('tasks/two.gin: defines no TWO_TASK', ['two'])


def test_what_a_text_reaches_is_followed_through_macros_and_classes():
  bound = {
    'A': '%B',
    'B': '@models.Net()',
    'C': '1',
    'D': '2',
    '/pkg.models.Net.width': '%C',
    'deep/pkg.models.Net.width': '3',
    '/pkg.models.Other.width': '%D',
  }
  found = gin_names.reached('x = %A', bound)
  assert set(found) == set(bound) - {'D', '/pkg.models.Other.width'}
  assert found['C'] == '1'
  assert gin_names.reached('nothing %X', bound) == {}
