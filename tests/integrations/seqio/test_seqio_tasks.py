"""The published tasks in SeqIO: their names, texts, ids, mixtures, metrics."""

import contextlib
import functools
import io
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
import seqio

from rest_jax.config import configuration
from rest_jax.integrations.seqio import seqio_problems, seqio_rows, seqio_tasks
from rest_jax.integrations.seqio.seqio_vocabularies import SeqioVocabulary
from rest_jax.rewards.code.program_tests import Tests
from rest_jax.tasks import encoding, splits
from rest_jax.tasks.benchmarks import (
  builders,
  catalogue,
  parsed_dataset,
  published_files,
  published_task,
)
from rest_jax.tasks.problem_sets import Row
from rest_jax.tokenizers import vocabularies, vocabulary_files

MATH = pathlib.Path(__file__).resolve().parents[4] / 'shared/data/math'
CODE = 'def f{i}(x):\n\tif x > {i}:\n\t\treturn "ß"\n    \n\treturn x + {i}\n'


def code_row(i, split):
  tests = Tests.stdin([f'{i}\n'], [f'{i}\n']).to_json()
  return Row(
    key=str(i),
    question=f'Write f{i}, of {split}.',
    tests=tests,
    solution=CODE.format(i=i),
    level='introductory' if i % 2 else 'interview',
  )


def bbh_row(subtask, i, split):
  return Row(
    key=f'{subtask}-{i:03d}',
    question=f'Is {i} even? ({split})',
    answer='Yes' if i % 2 == 0 else 'No',
    type=subtask,
    solution=f'{i} is what it is. So the answer is {"YN"[i % 2]}.'
    if split == 'prompts'
    else None,
    lead=f'About {subtask}.\n\n',
  )


def data():
  """Benchmark to split to rows: the sets in small, with made-up problems."""
  subtasks = ('navigate', 'snarks')
  return {
    'mbpp': {
      'prompt': [code_row(i, 'prompt') for i in range(1, 6)],
      'train': [code_row(i, 'train') for i in range(20, 26)],
      'test': [code_row(i, 'test') for i in range(40, 44)],
    },
    'apps': {
      'train': [code_row(i, 'train') for i in (1, 2, 3, 4, 5, 2366, 2403)],
      'test': [code_row(i, 'test') for i in (7, 8, 2366)],
    },
    'bbh': {
      'prompts': [bbh_row(s, i, 'prompts') for s in subtasks for i in range(3)],
      'test': [bbh_row(s, i, 'test') for s in subtasks for i in range(5)],
    },
    'math': math_rows(),
  }


def math_rows():
  """Of MATH, where it is there: the prompt's examples and a few others."""
  if not MATH.exists():
    return None
  rows = published_files.read('math', MATH).rows
  shown = catalogue.get('math').exemplars
  few = [row for row in rows['train'] if row.key in shown]
  return {'train': [*few, *rows['train'][:30]], 'test': rows['test'][:10]}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """A TFDS folder with the small sets, for all of our tasks and runs."""
  folder = str(tmp_path_factory.mktemp('tfds'))
  builders.tfds.disable_progress_bar()
  for name, rows in data().items():
    if rows is not None:
      builders.builder(
        name,
        data_dir=folder,
        allow_partial=True,
        dataset=parsed_dataset.ParsedDataset(
          rows=rows, skipped={}, where='', files={}
        ),
      ).download_and_prepare()
  with taken_from(folder):
    yield folder


@contextlib.contextmanager
def taken_from(folder):
  seqio.set_tfds_data_dir_override(folder)
  yield
  seqio.set_tfds_data_dir_override(None)
  seqio_rows.read.cache_clear()
  for name in seqio.TaskRegistry.names():
    source = seqio.TaskRegistry.get(name).source
    if isinstance(source, seqio.TfdsDataSource):
      source.tfds_dataset.override_data_dir(None)  # each has kept it


@pytest.fixture
def registered():
  """Undoes what a test registers."""
  registries = seqio.TaskRegistry, seqio.MixtureRegistry
  before = [set(registry.names()) for registry in registries]
  yield
  for registry, names in zip(registries, before, strict=True):
    for name in set(registry.names()) - names:
      registry.remove(name)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A vocabulary whose pieces lie across the borders of a prompt's parts."""
  path = tmp_path_factory.mktemp('vocabulary') / 'pieces-1.model'
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(['A: Yes', 'A: No', 'Solution: We have'] * 50),
    model_writer=model,
    model_type='bpe',
    vocab_size=300,
    hard_vocab_limit=False,
    split_by_whitespace=False,
    normalization_rule_name='identity',
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    byte_fallback=True,
    minloglevel=2,
  )
  path.write_bytes(model.getvalue())
  return str(path)


def examples(name, split, **fields):
  """problem_id to example."""
  dataset = seqio.get_mixture_or_task(name).get_dataset(
    None, split=split, shuffle=False, num_epochs=1, **fields
  )
  found = list(dataset.as_numpy_iterator())
  by_id = {example['problem_id'].decode(): example for example in found}
  assert len(by_id) == len(found)
  return by_id


def prepared(name, vocabulary, data_dir, splits):
  """problem_id to Problem, as the stage prepare writes them."""
  config = seqio_problems.PublishedConfig(
    task=name,
    vocabulary=vocabulary,
    data_dir=data_dir,
    dval_share=0.5,
    allow_partial=True,
  )
  texts = config.read(seed=0)
  return {
    problem.id.rpartition('/')[2]: problem
    for one in texts.sets
    if one.split in splits
    for problem in encoding.problems(
      one, texts, config, vocabulary_files.load(vocabulary)
    )
  }


@pytest.mark.parametrize('name', ['mbpp', 'apps', 'bbh', 'bbh_direct', 'math'])
def test_few_shot_ids_are_those_that_prepare_writes(
  name, data_dir, trained, registered
):
  if name == 'math' and not MATH.exists():
    pytest.skip('../shared/data/math is not here')
  vocabulary = vocabulary_files.load(trained)
  task = seqio_tasks.register(trained, task=name)
  assert task == f'{name}_pieces_1'
  trainable, joint = catalogue.get(name).trainable, []
  for split in ['train', 'test'] if trainable else ['test']:
    parts = ('train', 'dval') if split == 'train' else ('test',)
    expected = prepared(name, trained, data_dir, parts)
    found = examples(task, split)
    assert found.keys() == expected.keys() != set()
    for key, problem in expected.items():
      inputs, targets = (found[key][f].tolist() for f in ('inputs', 'targets'))
      assert inputs == sum(problem.prompt_parts, [])
      assert len(problem.prompt_parts[1]) > 0  # there are exemplars
      assert targets[-1] == vocabulary.eos_id
      if problem.solution_ids is not None:
        assert targets[:-1] == problem.solution_ids
      joint.append(inputs == vocabulary.encode(vocabulary.decode(inputs)))
  if name in ('bbh_direct', 'math'):  # elsewhere parts end in newlines
    assert not all(joint)  # encoding the whole text would give other ids


def test_an_exemplar_is_no_problem_of_its_own_split(data_dir, registered):
  plain = set(examples('mbpp', 'prompt')) - set(
    examples(seqio_tasks.register('bytes', task='mbpp'), 'prompt')
  )
  assert plain == {'2', '3', '4'}
  # The same number in another split of APPS is another problem.
  assert '2366' in examples('apps_bytes', 'test')
  assert '2366' not in examples('apps_bytes', 'train')
  assert seqio.get_mixture_or_task('bbh_bytes').splits == ('test',)


def test_plain_tasks_keep_every_text_and_prompt_in_bytes(data_dir):
  rows = {row.key: row for row in data()['apps']['train']}
  template = catalogue.get('apps').template
  found = examples('apps', 'train')
  assert found.keys() == rows.keys()
  for key, example in found.items():
    row = rows[key]
    texts = {name: example[name].decode() for name in published_task.FIELDS}
    assert texts.pop('problem_id') == key
    assert texts == {
      name: getattr(row, name) or '' for name in published_task.FIELDS[1:]
    }
    inputs = bytes(example['inputs'].tolist()).decode()
    assert inputs == template.question.format(question=row.question)
    *solution, eos = example['targets'].tolist()
    assert eos == 256 and bytes(solution).decode() == row.solution


def test_prefixes_stand_before_every_question(data_dir, registered):
  words = 'Think of $2^{10}$.\n'
  zero = seqio_tasks.register(
    'bytes', name='zero', prefix='zero_shot', task='bbh'
  )
  worded = seqio_tasks.register(('words', 'bytes'), prefix=words, task='bbh')
  assert (zero, worded) == ('bbh_zero', 'bbh_words')
  plain, before = examples(zero, 'test'), examples(worded, 'test')
  for key, row in examples('bbh', 'test').items():
    lead, question = (row[name].decode() for name in ('lead', 'question'))
    expected = f"{lead}Q: {question}\nA: Let's think step by step."
    assert bytes(plain[key]['inputs'].tolist()).decode() == expected
    assert bytes(before[key]['inputs'].tolist()).decode() == words + expected
    assert row['solution'] == b'' and plain[key]['targets'].tolist() == [256]


def test_subsets_hold_the_problems_of_their_type_or_level(data_dir):
  assert len(seqio_tasks.SUBTASKS) == 27
  for subtask in seqio_tasks.SUBTASKS:
    assert f'bbh_{subtask}' in seqio.TaskRegistry.names()
  snarks = examples('bbh_snarks', 'test')
  assert sorted(snarks) == [f'snarks-{i:03d}' for i in range(5)]
  apps = examples('apps_introductory', 'train')
  assert sorted(apps) == ['1', '2403', '3', '5']
  assert {e['level'] for e in apps.values()} == {b'introductory'}


def test_every_published_task_is_registered_with_its_metrics():
  for name, row in catalogue.CATALOGUE.items():
    task = seqio.get_mixture_or_task(name)
    assert set(task.splits) == set(row.counts)
    by_hand = row.grader == seqio_tasks.BY_HAND
    assert len(task.metric_fns) == (0 if by_hand else 1)
    assert task.source.tfds_dataset.name == f'{row.builder}:1.0.0'


def test_seqio_evaluates_a_task_with_its_grader_and_stop_strings(data_dir):
  vocabulary = SeqioVocabulary('bytes')
  written = vocabulary.encode(' Yes\n\nQ: more')
  evaluator = seqio.Evaluator(
    'bbh_direct', seqio.EncDecFeatureConverter(pack=False), eval_split='test'
  )
  found, _ = evaluator.evaluate(
    compute_metrics=True,
    predict_fn=lambda examples: [
      (int(index), written) for index, _ in examples.as_numpy_iterator()
    ],
  )
  rows = examples('bbh_direct', 'test').values()
  share = np.mean([row['answer'] == b'Yes' for row in rows])
  assert 0 < share < 1
  found = found.result()['bbh_direct']
  assert found['pass@1'] == pytest.approx(share)
  assert found['rate/wrong'] == pytest.approx(1 - share)


def test_the_mixture_draws_by_its_rates_and_keeps_texts(data_dir, registered):
  if not MATH.exists():
    pytest.skip('../shared/data/math is not here')
  name = seqio_tasks.register('bytes', task='math_apps')
  mixture = seqio.get_mixture_or_task(name)
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  assert rates == {'math_bytes': 7500, 'apps_introductory_bytes': 2342}
  dataset = mixture.get_dataset(
    None,
    split='train',
    shuffle=False,
    seed=0,
    passthrough_features=['problem_id'],
  )
  drawn = [
    example['problem_id'].decode()
    for example in dataset.take(1000).as_numpy_iterator()
  ]
  share = np.mean([not key.isdigit() or len(key) > 4 for key in drawn])
  assert share == pytest.approx(7500 / 9842, abs=0.06)  # odds of 1e-5


def test_own_rates_make_a_mixture_of_another_name(data_dir, registered):
  name = seqio_tasks.mix(
    'even', {'apps': 1, 'mbpp': lambda task: 3.0}, vocabulary='bytes'
  )
  mixture = seqio.get_mixture_or_task(name)
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  assert name == 'even' and rates == {'apps_bytes': 1, 'mbpp_bytes': 3}
  assert seqio_tasks.mix('one', {'apps': 1}) == seqio_tasks.mix(
    'one', {'apps': 1}
  )
  with pytest.raises(configuration.ConfigurationError, match='another name'):
    seqio_tasks.mix('one', {'apps': 2})
  with pytest.raises(configuration.ConfigurationError, match='not know'):
    seqio_tasks.mix('two', {'appps': 2})
  rate = functools.wraps(seqio.mixing_rate_num_examples)
  for _ in range(2):  # as gin wraps it, each time anew
    seqio_tasks.mix('sized', {'apps': rate(lambda task: 3.0)})


def test_registering_again_is_fine_and_other_content_is_not(
  registered, trained, tmp_path
):
  copy = tmp_path / 'pieces-1.model'
  with open(trained, 'rb') as file:
    copy.write_bytes(file.read())
  first = seqio_tasks.register(trained)
  assert seqio_tasks.register(str(copy)) == first
  assert (
    seqio_tasks.register(SeqioVocabulary(trained), name='pieces_1') == first
  )
  assert len(first) == len(seqio_tasks.published()) + 1
  with pytest.raises(configuration.ConfigurationError, match='name=…'):
    seqio_tasks.register(trained, prefix='zero_shot')
  with pytest.raises(configuration.ConfigurationError, match='name=…'):
    seqio_tasks.register('bytes', name='pieces_1')
  with pytest.raises(configuration.ConfigurationError, match='Nearest: gsm8k'):
    seqio_tasks.register('bytes', task='gsm8')
  for wrong in (('a', 'b', 'c'), 17, None):
    with pytest.raises(configuration.ConfigurationError, match='r.vocabulary'):
      seqio_tasks.register(wrong)


def test_a_name_that_somebody_else_has_is_refused(registered):
  seqio.TaskRegistry.add(
    'mbpp_theirs',
    seqio.FunctionDataSource(lambda split, shuffle_files: None, ['train']),
    output_features={},
  )
  with pytest.raises(configuration.ConfigurationError, match='somebody else'):
    seqio_tasks.register('bytes', name='theirs')


def test_vocabularies_are_named_by_their_files(registered, tmp_path):
  table = [bytes([byte]) for byte in range(256)] + [b'']
  for spec, name in (
    ('/models/My-Model.v2/tokenizer.json', 'My_Model_v2'),
    ('/models/smol.gguf', 'smol'),
    ('gs://bucket/smollm2', 'smollm2'),
  ):
    vocabulary = vocabularies.Vocabulary(
      spec=spec,
      encoder=lambda text: text.encode(),
      table=table,
      eos_id=256,
      bos_id=None,
      specials={},
      digest=spec,
    )
    assert seqio_tasks.register(vocabulary, task='math') == f'math_{name}'


def blocks(root, kind):
  """The examples of docs/seqio.md in this language."""
  text = (root / 'docs' / 'seqio.md').read_text()
  return re.findall(rf'^```{kind}\n(.*?)^```', text, re.M | re.S)


def test_the_python_of_the_page_runs(
  root, data_dir, trained, registered, tmp_path, monkeypatch, capsys
):
  if not MATH.exists():
    pytest.skip('../shared/data/math is not here')
  monkeypatch.chdir(tmp_path)
  shutil.copy(trained, 'tokenizer.model')
  names = {}
  for block in blocks(root, 'python'):
    exec(compile(block, 'docs/seqio.md', 'exec'), names)
  assert capsys.readouterr().out.count('tf.Tensor') == 6


def test_the_gin_of_the_page_registers_and_names_a_task(
  root, trained, registered, tmp_path, monkeypatch
):
  import gin
  import tiny_run

  monkeypatch.chdir(tmp_path)
  shutil.copy(trained, 'tokenizer.model')
  tiny_run.examples('runs/math/iteration_01/examples', [('Q:', ' 7')] * 3)
  expected = ['math_apps_tokenizer', 'mostly_code', 'iteration_01']
  for block, name in zip(blocks(root, 'gin'), expected, strict=True):
    gin.clear_config()
    gin.parse_config(
      f'{block}import seqio\n'
      'seqio.get_mixture_or_task.task_or_mixture_name = %MIXTURE_OR_TASK_NAME'
    )
    get = gin.get_configurable(seqio.get_mixture_or_task)
    assert get().name == get().name == name  # a macro is called at each use
  gin.clear_config()
  rates = seqio.get_mixture_or_task('mostly_code').rate_per_task_name
  assert rates == {
    'math_tokenizer': 1,
    'apps_tokenizer': 2,
    'mbpp_tokenizer': 1,
  }


def test_the_tasks_are_there_once_their_module_is_imported():
  script = (
    'import importlib, seqio\n'
    'from rest_jax.integrations.seqio import seqio_problems\n'
    'assert "math" not in seqio.TaskRegistry.names()\n'
    'from rest_jax.integrations.seqio import seqio_tasks\n'
    'importlib.reload(seqio_tasks)  # registering twice is fine\n'
    'task = seqio.get_mixture_or_task("math")\n'
    'print(task.name, sorted(task.splits), list(seqio.MixtureRegistry.names()))'
  )
  out = subprocess.check_output([sys.executable, '-c', script], text=True)
  assert out == "math ['test', 'train'] ['math_apps']\n"


def test_bbh_shows_its_worked_examples_in_the_order_of_its_file(data_dir):
  whole = seqio.get_mixture_or_task('bbh').get_dataset(
    split='test', shuffle=False
  )
  kept = [example['problem_id'] for example in whole.as_numpy_iterator()]
  assert kept != sorted(kept)  # TFDS shuffles: the order has to be made
  texts = seqio_problems.PublishedConfig(
    task='bbh', data_dir=data_dir, allow_partial=True
  ).read(0)
  [test] = texts.sets
  assert [row.key.encode() for row in test.rows] == sorted(kept)
  for row in test.rows:
    shown = [exemplar.key for exemplar in texts.exemplars_of(row)]
    assert shown == [f'{row.type}-{i:03d}' for i in range(3)]


def test_keys_are_in_the_order_of_their_numbers():
  keys = ['10', '9', 'b-2', 'b-10', 'a-3', '100', '88e5ad', 'p%2F7']
  rows = splits.in_order([Row(key=key, question='?') for key in keys])
  assert [row.key for row in rows] == [
    *('9', '10', '88e5ad', '100', 'a-3', 'b-2', 'b-10', 'p%2F7')
  ]


def test_a_split_that_a_partial_set_lacks_is_named(data_dir):
  config = seqio_problems.PublishedConfig(
    task='mbpp',
    data_dir=data_dir,
    allow_partial=True,
    eval_splits=('validation',),
  )
  with pytest.raises(configuration.ConfigurationError, match='eval_splits'):
    config.read(0)
  rest = seqio_problems.PublishedConfig(
    task='mbpp', data_dir=data_dir, allow_partial=True, eval_splits=()
  )
  assert [s.split for s in rest.read(0).sets] == ['train', 'dval']
