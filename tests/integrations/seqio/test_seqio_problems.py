"""SeqIO tasks as a run's problems: a user's own, in a module of theirs."""

import collections
import dataclasses

import pytest

from rest_jax.config import configuration
from rest_jax.integrations.seqio import seqio_problems, seqio_rows
from rest_jax.tasks.benchmarks import catalogue

# A SeqIO task as a user would register it; its text features are not named as
# ours are.
MODULE = """
import seqio
import tensorflow as tf

def rows(split):
  for i in range({number}):
    yield {{
      'inputs': f'What is {{i}} plus one?',
      'targets': str(i + 1) if i != 3 else '',
      'solution': f'{{i}}+1={{i + 1}}. The answer is {{i + 1}}.',
      'level': 'even' if i % 2 == 0 else 'odd',
      'problem_id': f'p/{{i}}' if split == 'train' else '',
    }}

def dataset(split, shuffle_files, seed=None):
  names = ('inputs', 'targets', 'solution', 'level', 'problem_id')
  signature = {{name: tf.TensorSpec([], tf.string) for name in names}}
  return tf.data.Dataset.from_generator(
    lambda: rows(split), output_signature=signature
  )

seqio.TaskRegistry.add(
  '{name}',
  source=seqio.FunctionDataSource(dataset, splits=['train', 'test']),
  preprocessors=[
    seqio.preprocessors.tokenize,
    seqio.preprocessors.append_eos,
  ],
  output_features={{
    'inputs': seqio.Feature(seqio.ByteVocabulary(), add_eos=False),
    'targets': seqio.Feature(seqio.ByteVocabulary()),
  }},
)
"""


@pytest.fixture(scope='module')
def module(tmp_path_factory):
  """The name of a module that registers own_sums with SeqIO."""
  import sys

  folder = tmp_path_factory.mktemp('module')
  text = MODULE.format(name='own_sums', number=60)
  (folder / 'own_sums_task.py').write_text(text)
  sys.path.insert(0, str(folder))
  yield 'own_sums_task'
  sys.path.remove(str(folder))


def config(module, **fields):
  fields = {'train': True, 'num_shots': 2, 'dval_share': 0.3} | fields
  return seqio_problems.SeqioConfig(task='own_sums', module=module, **fields)


def keys(texts):
  return {s.split: [row.key for row in s.rows] for s in texts.sets}


def test_a_users_seqio_task_becomes_problems(module):
  texts = config(module).read(seed=0)
  assert [(s.task, s.split) for s in texts.sets] == config(module).folders()
  found = keys(texts)
  assert len(texts.exemplars) == 2
  shown = [row.key for row in texts.exemplars]
  ids = [f'p%2F{i}' for i in range(60) if i != 3]
  assert sorted([*found['train'], *found['dval'], *shown]) == sorted(ids)
  assert found['test'] == [f'{i:06d}' for i in range(60) if i != 3]
  row = texts.sets[2].rows[5]
  assert row.question == 'What is 6 plus one?' and row.answer == '7'
  assert row.level == 'even' and row.tests is None
  train, _, test = texts.sets
  assert train.skipped == {'no answer': 1} == test.skipped
  assert train.skipped_rows == {'no answer': ['p%2F3']}


def test_dval_is_a_seeded_share_of_train(module):
  found = [keys(config(module).read(seed)) for seed in (0, 0, 1)]
  assert found[0] == found[1] != found[2]
  counts = collections.Counter(len(f['dval']) for f in found)
  assert all(8 <= n <= 28 for n in counts)  # 57 draws of 0.3: odds 1e-4


def test_limits_and_levels_choose_among_the_problems(module):
  texts = config(
    module, max_train=5, max_dval=3, max_eval=7, levels=('odd',), num_shots=0
  ).read(seed=0)
  assert [len(s.rows) for s in texts.sets] == [5, 3, 7]
  assert {r.level for s in texts.sets for r in s.rows} == {'odd'}
  whole = config(module, levels=('odd',), num_shots=0).read(seed=0)
  assert set(keys(texts)['train']) <= set(keys(whole)['train'])


def test_named_exemplars_stand_in_their_order_and_in_no_set(module):
  texts = config(module, exemplars=('p/9', 'p/5')).read(seed=0)
  wanted = ['p%2F9', 'p%2F5']
  assert [row.key for row in texts.exemplars] == wanted
  found = keys(texts)
  assert not set(wanted) & {*found['train'], *found['dval']}
  with pytest.raises(configuration.ConfigurationError, match="'nothing'"):
    config(module, exemplars=('p/9', 'nothing')).read(seed=0)


def test_answers_only_shows_no_solution(module):
  texts = config(module, answers_only=True, exemplars=('p/9', 'p/5')).read(0)
  assert [row.solution for row in texts.exemplars] == ['10', '6']


def test_exemplars_by_type_go_to_their_type(module):
  texts = config(module, exemplars_by_type=True).read(seed=0)
  row = dataclasses.replace(texts.sets[0].rows[0], type=None)
  assert len(texts.exemplars_of(row)) == 2
  other = dataclasses.replace(row, type='another')
  assert texts.exemplars_of(other) == []


def test_inputs_follow_the_data(module):
  digests = config(module).inputs()
  assert set(digests) == {'own_sums/train', 'own_sums/test'}
  problems = seqio_rows.read('own_sums', 'train', module=module)
  first, *others = problems.rows
  rows = (dataclasses.replace(first, answer='7'), *others)
  changed = dataclasses.replace(problems, rows=rows)
  assert problems.digest() == digests['own_sums/train'] != changed.digest()


def test_what_is_not_there_is_named(module):
  cases = {
    'no split': {'eval_splits': ('tset',)},
    'cannot be imported': {'module': 'no_such_module'},
  }
  for match, fields in cases.items():
    with pytest.raises(configuration.ConfigurationError, match=match):
      config(**{'module': module} | fields).read(seed=0)
  with pytest.raises(configuration.ConfigurationError, match='knows no task'):
    seqio_problems.SeqioConfig(task='no_such_task', module=module).read(0)
  with pytest.raises(configuration.ConfigurationError, match='Nearest: gsm8k'):
    seqio_problems.SeqioConfig(task='gsm8')
  with pytest.raises(configuration.ConfigurationError, match='eval_splits'):
    config(module, eval_splits=('train',))


def task_of(*bindings, file='tasks/math.gin'):
  from rest_jax.config import gin_parser

  _, bound = gin_parser.parse(
    'prepare',
    gin_files=[file],
    bindings=['RUN_DIR=x', 'VOCABULARY=bytes', *bindings],
  )
  [found] = bound['tasks']
  return found


@pytest.mark.parametrize('name', sorted(catalogue.CATALOGUE))
def test_the_gin_file_of_a_published_task_names_its_row(name):
  """And binds nothing that the row says: it would stand there twice."""
  row = catalogue.get(name)
  found = task_of('MAX_EVAL=7', file=f'tasks/{name}.gin')
  assert (found.task, found.grader) == (name, row.grader)
  assert (found.prompt, found.exemplars) == (row.template, row.exemplars)
  assert (found.num_shots, found.train) == (row.num_shots, row.trainable)
  assert found.max_eval == 7


def test_a_run_may_change_a_published_tasks_prompt():
  where = 'math/seqio_problems.PublishedConfig.'
  found = task_of(f'{where}lead=Solve it. ', f'{where}num_shots=0')
  assert found.prompt == dataclasses.replace(
    catalogue.get('math').template, lead='Solve it.'
  )
  assert found.num_shots == 0
  # As prepare does with a chat template: the last prompt counts.
  chat = dataclasses.replace(found.prompt, lead='<user>')
  assert dataclasses.replace(found, prompt=chat).prompt == chat
