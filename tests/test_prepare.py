"""The stage `prepare`: folders that later stages read without encoding."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest

from rest_jax import prepare
from rest_jax.artifacts import (
  fingerprints,
  manifests,
  records,
  storage,
  task_card,
)
from rest_jax.config import configuration
from rest_jax.tasks import jsonl, prompts
from rest_jax.tasks.synthetic import arithmetic
from rest_jax.tokenizers import sentencepiece_vocabularies, vocabulary_files

TINY = arithmetic.ArithmeticConfig(
  num_train=12,
  num_dval=6,
  num_test=8,
  num_hard=5,
  num_shots=2,
  vocab_size=400,
  corpus=arithmetic.Corpus(num_documents=60),
)
FOLDERS = (
  'arithmetic/train',
  'arithmetic/dval',
  'arithmetic/test',
  'arithmetic_hard/test',
)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  run_dir = tmp_path_factory.mktemp('run')
  prepare.prepare(run_dir=str(run_dir), tasks=[TINY], seed=0)
  return run_dir


def contents(run_dir):
  return {
    os.path.relpath(os.path.join(root, name), run_dir): open(
      os.path.join(root, name), 'rb'
    ).read()
    for root, _, names in os.walk(run_dir)
    for name in names
    if not name.endswith('.lease')
  }


def write_jsonl(path, number, *, solutions=False):
  rows = [
    {
      'id': i,
      'question': f'{i} plus one?',
      'answer': i + 1,
      'solution': f'It is {i + 1}.' if solutions else '',
    }
    for i in range(number)
  ]
  path.write_text('\n'.join(json.dumps(row) for row in rows))
  return str(path)


def test_prompt_parts_are_the_encodings_of_their_texts(run):
  texts = TINY.read(0)
  shots = [(row.question, row.solution) for row in texts.exemplars]
  for folder in FOLDERS:
    manifest = manifests.load(run / 'problems' / folder, stage='prepare')
    card = task_card.of(manifest)
    vocabulary = vocabulary_files.load(card.vocabulary, base=manifest.folder)
    problems = manifest.records()
    assert card.num_problems == len(problems) > 0
    assert card.task == folder.split('/')[0]
    assert card.stop == ('\n\n',)
    assert (card.eos_id, card.bos_id) == (vocabulary.eos_id, None)
    assert card.eos_ids == (vocabulary.eos_id,)
    assert card.vocab_size == vocabulary.size
    for problem in problems:
      assert problem.id.startswith(folder + '/')
      ids = [token for part in problem.prompt_parts for token in part]
      prompt = f'Q: {problem.question}\nA:'
      text = prompts.document_text(TINY.prompt, shots) + prompt
      assert vocabulary.decode(ids) == text
      assert vocabulary.decode(problem.prompt_parts[2]) == prompt
      assert len(problem.prompt_parts) == 3
      if folder == 'arithmetic/train':
        decoded = vocabulary.decode(problem.solution_ids)
        assert decoded == f' {problem.solution}'
      else:
        assert problem.solution is None and problem.solution_ids is None


def test_the_corpus_is_whole_documents_all_of_them_targets(run):
  manifest = manifests.load(run / 'base' / 'examples')
  vocabulary = vocabulary_files.load(str(run / 'problems' / 'vocabulary.model'))
  examples = manifest.records()
  assert len(examples) == TINY.corpus.num_documents
  pages = TINY.documents(0, 0, len(examples))
  for number, (example, page) in enumerate(zip(examples, pages, strict=True)):
    assert example.problem_id == f'arithmetic/corpus/{number:06d}'
    assert example.sample_index == -1 and example.weight == 1
    assert set(example.segment_types) == {records.TARGET}
    assert len(example.segment_types) == len(example.token_ids)
    assert example.token_ids[-1] == vocabulary.eos_id
    assert vocabulary.eos_id not in example.token_ids[:-1]
    text = prompts.document_text(TINY.prompt, page)
    assert vocabulary.decode(example.token_ids) == text
    # A solution sampled behind a prompt is tokenised as one in a document.
    assert vocabulary.encode(text) == list(example.token_ids[:-1])


def test_of_a_corpus_of_solutions_the_questions_are_only_read(run, tmp_path):
  corpus = dataclasses.replace(TINY.corpus, solutions_only=True)
  config = dataclasses.replace(TINY, corpus=corpus, whole_numbers=20)
  prepare.prepare(run_dir=str(tmp_path), tasks=[config], seed=0)
  examples = manifests.load(tmp_path / 'base' / 'examples').records()
  path = tmp_path / 'problems' / 'vocabulary.model'
  vocabulary = vocabulary_files.load(str(path))
  assert len(vocabulary.encode('20')) == 1 < len(vocabulary.encode('21'))
  pages = config.documents(0, 0, len(examples))
  for example, page in zip(examples, pages, strict=True):
    learned = [
      token
      for token, kind in zip(
        example.token_ids, example.segment_types, strict=True
      )
      if kind == records.TARGET
    ]
    text = ''.join(f' {solution}\n\n' for _, solution in page)
    assert vocabulary.decode(learned) == text
    whole = prompts.document_text(config.prompt, page)
    assert vocabulary.decode(example.token_ids) == whole
    assert learned[-1] == example.token_ids[-1] == vocabulary.eos_id


def test_no_problem_is_in_the_corpus_nor_in_the_prompt(run):
  corpus = {q for page in TINY.documents(0, 0, 60) for q, _ in page}
  questions = [
    problem.question
    for folder in FOLDERS
    for problem in manifests.load(run / 'problems' / folder).records()
  ]
  questions += [row.question for row in TINY.read(0).exemplars]
  assert len(set(questions)) == len(questions)
  assert not corpus & set(questions)


def test_running_again_changes_nothing_and_says_the_same(run, capsys):
  before = contents(run)
  prepare.prepare(run_dir=str(run), tasks=[TINY], seed=0)
  assert contents(run) == before
  line = capsys.readouterr().out.strip().split('\n')[-1]
  assert 'arithmetic/train 12' in line and 'longest prompt' in line


def test_the_same_seed_gives_the_same_parts_in_another_folder(run, tmp_path):
  prepare.prepare(run_dir=str(tmp_path), tasks=[TINY], seed=0)
  names = ['base/examples', *(f'problems/{folder}' for folder in FOLDERS)]
  for name in names:
    here, there = manifests.load(run / name), manifests.load(tmp_path / name)
    assert here.digest == there.digest
    assert [p['sha256'] for p in here.parts] == [
      p['sha256'] for p in there.parts
    ]


def test_missing_pieces_are_made_again_alike(run, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(run, copy)
  before = contents(copy)
  (copy / 'problems/vocabulary.model').unlink()
  (copy / 'problems/manifest.json').unlink()
  (copy / 'base/examples/manifest.json').unlink()
  (copy / 'base/examples/part-00000-of-00001.parquet').write_bytes(b'PAR1')
  shutil.rmtree(copy / 'problems/arithmetic/test')
  prepare.prepare(run_dir=str(copy), tasks=[TINY], seed=0)
  after = contents(copy)
  assert set(after) == set(before)
  changed = {name for name in before if before[name] != after[name]}
  # Manifests also record where the vocabulary was.
  assert all(name.endswith('manifest.json') for name in changed), changed
  for folder in FOLDERS:
    name = f'problems/{folder}'
    assert (
      manifests.load(copy / name).digest == manifests.load(run / name).digest
    )


@pytest.mark.parametrize(
  'change',
  [
    {'num_test': 9},
    {'corpus': dataclasses.replace(TINY.corpus, human_share=0.9)},
    {'num_shots': 1},
  ],
)
def test_another_configuration_is_refused_and_nothing_is_lost(run, change):
  before = contents(run)
  other = dataclasses.replace(TINY, **change)
  with pytest.raises(fingerprints.FingerprintError, match=list(change)[0]):
    prepare.prepare(run_dir=str(run), tasks=[other], seed=0)
  with pytest.raises(fingerprints.FingerprintError, match='seed'):
    prepare.prepare(run_dir=str(run), tasks=[TINY], seed=1)
  assert contents(run) == before


def test_a_run_can_grow_by_a_task_with_its_vocabulary(run, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(run, copy)
  own = jsonl.JsonlConfig(
    name='mine', input=write_jsonl(tmp_path / 'p.jsonl', 40), num_shots=0
  )
  before = contents(copy)
  prepare.prepare(run_dir=str(copy), tasks=[TINY, own], seed=0)
  after = contents(copy)
  before.pop('problems/overlap.json')  # of all tasks: tests/tasks/test_overlap
  assert {name: after[name] for name in before} == before
  manifest = manifests.load(copy / 'problems/mine/train')
  spec = task_card.of(manifest).vocabulary
  assert vocabulary_files.load(spec, base=manifest.folder).size == 400


def test_own_problems_need_no_corpus_and_keep_their_counts(tmp_path, capsys):
  path = tmp_path / 'p.jsonl'
  write_jsonl(path, 40)
  path.write_text('nonsense\n' + path.read_text())
  own = jsonl.JsonlConfig(input=str(path), vocabulary='bytes')
  prepare.prepare(run_dir=str(tmp_path / 'r'), tasks=[own], seed=0)
  manifest = manifests.load(tmp_path / 'r/problems/own/train')
  card = task_card.of(manifest)
  assert card.skipped == {'not valid JSON': 1}
  assert card.vocabulary == 'bytes' and card.grader == 'number'
  assert not (tmp_path / 'r/base').exists()
  out = capsys.readouterr().out
  assert 'line 1' in out and '0 exemplars' in out
  path.write_text(path.read_text() + '\n{"question": "a", "answer": 1}')
  with pytest.raises(fingerprints.FingerprintError, match='input_sha256'):
    prepare.prepare(run_dir=str(tmp_path / 'r'), tasks=[own], seed=0)


def own_manifests(tmp_path, rows, **fields):
  """Prepares rows, after what stands was set aside; manifests by split."""
  folder = storage.path(tmp_path) / 'r' / 'problems'
  if folder.exists():
    storage.set_aside(folder)
  path = tmp_path / 'p.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  own = jsonl.JsonlConfig(
    input=str(path), vocabulary='bytes', num_shots=0, **fields
  )
  prepare.prepare(run_dir=str(tmp_path / 'r'), tasks=[own], seed=0)
  return {
    split: manifests.load(folder / 'own' / split)
    for split in ('train', 'dval', 'test')
  }


def identities(found, of):
  return {split: of(manifest) for split, manifest in found.items()}


def test_an_edit_changes_only_the_splits_and_the_parts_that_it_touches(
  tmp_path,
):
  rows = [{'id': i, 'question': f'{i}?', 'answer': i} for i in range(40)]
  first = own_manifests(tmp_path, rows)
  touched = next(int(p.id.rpartition('/')[2]) for p in first['train'].records())

  def differing(found, of):
    before, after = identities(first, of), identities(found, of)
    return {split for split in before if before[split] != after[split]}

  def digest(manifest):
    return manifest.digest

  # Other bytes, the same rows.
  found = own_manifests(tmp_path, [*rows[::-1]][::-1] + [{'id': 'no question'}])
  assert differing(found, digest) == set()
  # An answer: the prompts stay, and with them the samples.
  rows[touched]['answer'] = 99
  found = own_manifests(tmp_path, rows)
  assert differing(found, digest) == {'train'}
  assert differing(found, task_card.prompts) == set()
  # A grader and a stop string are on every card; the stop ends a sample.
  found = own_manifests(tmp_path, rows, grader='exact')
  assert differing(found, digest) == {'train', 'dval', 'test'}
  assert differing(found, task_card.prompts) == set()
  stop = prompts.PromptTemplate(stop=('!',))
  found = own_manifests(tmp_path, rows, prompt=stop)
  assert differing(found, task_card.prompts) == {'train', 'dval', 'test'}
  # A question.
  rows[touched]['question'] = 'another one?'
  found = own_manifests(tmp_path, rows)
  assert 'train' in differing(found, task_card.prompts)


def test_problems_of_an_earlier_version_keep_their_samples(tmp_path):
  """Their manifests name no digest of the prompts, and samples another one."""
  rows = [{'id': i, 'question': f'{i}?', 'answer': i} for i in range(40)]
  first = own_manifests(tmp_path, rows)
  for manifest in first.values():
    path = manifest.folder / 'manifest.json'
    value = json.loads(path.read_text())
    del value['statistics']['prompts']
    path.write_text(json.dumps(value))
  again = own_manifests(tmp_path, rows)
  assert identities(again, task_card.prompts) == identities(
    first, lambda manifest: manifest.digest
  )


def test_only_the_training_split_keeps_human_solutions(tmp_path):
  path = write_jsonl(tmp_path / 'p.jsonl', 60, solutions=True)
  own = jsonl.JsonlConfig(input=path, vocabulary='bytes')
  prepare.prepare(run_dir=str(tmp_path / 'r'), tasks=[own], seed=0)
  for split in ('train', 'dval', 'test'):
    problems = manifests.load(tmp_path / 'r/problems/own' / split).records()
    kept = [problem.solution is not None for problem in problems]
    assert kept and all(kept) == any(kept) == (split == 'train')


def test_tasks_that_do_not_fit_together_are_refused(tmp_path):
  path = write_jsonl(tmp_path / 'p.jsonl', 40)
  own = jsonl.JsonlConfig(input=path)
  bytes_too = dataclasses.replace(own, name='b', vocabulary='bytes')
  for tasks, message in (
    ([], 'none'),
    ([own], 'no vocabulary'),
    ([TINY, bytes_too], 'one vocabulary'),
    ([bytes_too, bytes_too], 'two of them'),
  ):
    with pytest.raises(configuration.ConfigurationError, match=message):
      prepare.prepare(run_dir=str(tmp_path / 'r'), tasks=tasks, seed=0)
  assert not (tmp_path / 'r').exists()


def test_an_edited_vocabulary_is_noticed(run, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(run, copy)
  sentencepiece_vocabularies.train(
    ['other text 1 2 3'] * 9, 272, copy / 'problems/vocabulary.model'
  )
  with pytest.raises(records.CorruptPartError, match='vocabulary.model'):
    prepare.prepare(run_dir=str(copy), tasks=[TINY], seed=0)


def test_prepare_of_these_tasks_imports_neither_jax_nor_tensorflow():
  code = (
    'import sys\n'
    'import rest_jax.prepare\n'
    'from rest_jax.tasks import jsonl\n'
    'from rest_jax.tasks.synthetic import arithmetic\n'
    "print([m for m in ('jax', 'tensorflow', 'tokenizers') if m in "
    'sys.modules])'
  )
  result = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == '[]'


@pytest.mark.parametrize(
  'file, bindings, folders',
  [
    ('tasks/arithmetic.gin', [], [f.split('/') for f in FOLDERS]),
    (
      'tasks/own_problems.gin',
      ['INPUT=p.jsonl', 'VOCABULARY=bytes', 'TASK=mine'],
      [['mine', 'train'], ['mine', 'dval'], ['mine', 'test']],
    ),
  ],
)
def test_the_gin_files_build_their_tasks(file, bindings, folders):
  from rest_jax.config import gin_parser

  function, arguments = gin_parser.parse(
    'prepare',
    gin_files=[file],
    bindings=['RUN_DIR=x', 'MODEL=None', 'NUM_SHOTS=3', *bindings],
  )
  assert function is prepare.prepare
  (config,) = arguments['tasks']
  assert [list(folder) for folder in config.folders()] == folders
  assert config.num_shots == 3 and config.prompt.separator == '\n\n'


def test_the_noise_of_the_corpus_is_one_dial():
  from rest_jax.config import gin_parser

  (config,) = gin_parser.parse(
    'prepare',
    gin_files=['tasks/arithmetic.gin'],
    bindings=[
      'RUN_DIR=x',
      'MODEL=None',
      'CORPUS_NOISE=0.5',
      'CORPUS_SKIPPED_STEP=[0.0, 0.2, 0.4]',
    ],
  )[1]['tasks']
  assert config.corpus.flaws.rates(2)['skipped_step'] == 0.1
  assert config.corpus.flaws.rates(7)['skipped_step'] == 0.2


def test_rows_left_out_are_a_warning_that_names_them(tmp_path, capsys):
  source = write_jsonl(tmp_path / 'p.jsonl', 40)
  bad = ['{"id": 40, "question": bad', '[]', '{"id": 1}', '{"id": 2}']
  with open(source, 'a') as file:
    file.write('\n' + '\n'.join(bad))
  config = jsonl.JsonlConfig(
    input=source, num_shots=0, vocabulary='bytes', max_train=5
  )
  for _ in range(2):  # a stage that is done says it, too
    prepare.prepare(run_dir=str(tmp_path / 'run'), tasks=[config], seed=0)
    [warning] = [
      line
      for line in capsys.readouterr().out.split('\n')
      if line.startswith('warning: ')
    ]
    # Of the file's rows, not of the five that MAX_TRAIN leaves.
    assert warning.startswith('warning: 4 of 44 rows left out (')
    assert 'line 41: not valid JSON' in warning
    assert 'lines 43, 44: no question' in warning
    assert warning.endswith('of own/train')


def test_the_prompt_of_one_problem_is_shown_and_stands_in_the_card(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.setenv('REST_JAX_JOB', 'prepare')  # as the launcher sets it
  config = jsonl.JsonlConfig(
    input=write_jsonl(tmp_path / 'p.jsonl', 40, solutions=True),
    num_shots=1,
    vocabulary='bytes',
    prompt=prompts.PromptTemplate(lead='<eos>Count.\n'),
  )
  prepare.prepare(run_dir=str(tmp_path / 'run'), tasks=[config], seed=0)
  manifest = manifests.load(tmp_path / 'run/problems/own/train')
  card, problem = task_card.of(manifest), manifest.records()[0]
  assert card.shown_problem == problem.id
  assert card.shown_prompt.startswith('<eos>Count.\nQ: ')  # a special token
  assert card.shown_prompt.endswith(f'Q: {problem.question}\nA:')
  assert 'A: It is ' in card.shown_prompt  # the exemplar
  shown = [
    line.removeprefix('@show ')
    for line in capsys.readouterr().out.split('\n')
    if line.startswith('@show ')
  ]
  assert shown[0] == f'the prompt of {problem.id}, as the model sees it:'
  body = '\n'.join(line.removeprefix('  | ') for line in shown[1:-1])
  assert body == card.shown_prompt
  assert shown[-1].startswith('  a completion ends at the token 256, or at')
