"""The stage select on small folders, against a plain reading of them."""

import collections
import dataclasses
import os

import pytest

from rest_jax import select_examples
from rest_jax.artifacts import fingerprints, manifests, records, stage_work
from rest_jax.config import configuration
from rest_jax.rewards import verdicts

EOS = 2
CARD = {
  'task': 't',
  'split': 'train',
  'grader': 'number',
  'vocabulary': 'bytes',
  'eos_id': EOS,
}


def write(folder, stage, kind, parts, *, inputs=None, **more):
  """Writes a stage's folder with one part per list of records."""
  with stage_work.work_on(
    folder,
    stage=stage,
    kind=kind,
    semantic={},
    inputs={'content': manifests.digest_of(str(parts))} | (inputs or {}),
    version=1,
  ) as work:
    for number, rows in enumerate(parts):
      name = records.part_name(number, 8)
      work.write(name, rows, source=str(manifests.digest_of(str(rows))))
    work.finish(**more)
  return os.fspath(folder)


def prompt(key):
  return [[1, 10], [11, 12], [20 + ord(key)]]


def target(key, index):
  return [100 + ord(key), 200 + index]


def write_evaluated(folder, questions, *, task='e'):
  """Writes {key: question} as the test set of a task."""
  rows = [
    records.Problem(
      id=f'{task}/test/{key}', prompt_parts=[[1]], question=question, answer='1'
    )
    for key, question in questions.items()
  ]
  statistics = {'task': CARD | {'task': task, 'split': 'test'}}
  return write(
    folder, 'prepare', records.Problem, [rows], statistics=statistics
  )


def write_problems(folder, keys, *, task='t', card=None, solutions=()):
  rows = [
    records.Problem(
      id=f'{task}/train/{key}',
      prompt_parts=prompt(key),
      question='?',
      answer='1',
      solution=f'The solution of {key}.' if key in solutions else None,
      solution_ids=[90, ord(key)] if key in solutions else None,
    )
    for key in keys
  ]
  card = CARD | {'task': task} | (card or {})
  statistics = {'task': card}
  parts = [rows[:2], rows[2:]]
  return write(folder, 'prepare', records.Problem, parts, statistics=statistics)


def write_samples(folder, parts, *, task='t', stream='e_step', texts=None):
  """parts: [[(key, index, outcome[, finish reason])]]."""
  made = [
    [
      records.Sample(
        problem_id=f'{task}/train/{key}',
        sample_index=index,
        stream=stream,
        policy_digest='p',
        prompt_digest='d',
        token_ids=[*target(key, index), 77, EOS],  # 77: of the stop string
        target_length=2,
        text=(texts or {}).get((key, index), f'solution {index % 2}'),
        logprobs=[0.0] * 4,
        sampling_logprobs=[0.0] * 4,
        finish_reason=reason[0] if reason else 'stop',
        engine_fingerprint='e',
      )
      for key, index, _, *reason in part
    ]
    for part in parts
  ]
  return write(folder, 'sample', records.Sample, made)


def write_verdicts(folder, samples, parts, *, task='t', stream='e_step'):
  made = [
    [
      records.Verdict(
        problem_id=f'{task}/train/{key}',
        sample_index=index,
        stream=stream,
        outcome=outcome,
        # A reward on a harness error: selection must not trust it.
        reward=float(outcome in (verdicts.CORRECT, verdicts.HARNESS_ERROR)),
        answer=None,
        detail='',
        grader='number/1',
      )
      for key, index, outcome, *_ in reversed(part)  # joined by id, not order
    ]
    for part in parts
  ]
  return write(
    folder,
    'score',
    records.Verdict,
    made,
    inputs={'samples': manifests.load(samples).digest},
  )


@pytest.fixture
def run(tmp_path):
  """Selects from [[(key, index, outcome)]]; returns examples, statistics."""

  def run(
    parts,
    *,
    keys='abc',
    name='',
    difficulty=None,
    texts=None,
    evaluated=(),
    ngram=13,
    **fields,
  ):
    root = tmp_path / f'run{name}'
    samples = write_samples(root / 'samples', parts, texts=texts)
    select_examples.select(
      select_from='samples',
      problems_dirs=[write_problems(root / 'problems', keys)],
      samples_dirs=[samples],
      verdicts_dirs=[write_verdicts(root / 'verdicts', samples, parts)],
      examples_dir=os.fspath(root / 'examples'),
      difficulty_dir=difficulty,
      eval_problems_dirs=evaluated,
      overlap_ngram=ngram,
      config=select_examples.SelectionConfig(**fields),
    )
    manifest = manifests.load(root / 'examples', stage='select')
    return manifest.records(), manifest

  return run


PARTS = [
  [('a', 0, 'correct'), ('a', 1, 'wrong'), ('b', 0, 'correct')],
  [('a', 2, 'correct'), ('b', 1, 'timeout'), ('c', 0, 'no_answer')],
]


def test_only_rewarded_samples_become_examples(run):
  examples, manifest = run(PARTS)
  assert {(e.problem_id[8:], e.sample_index) for e in examples} == {
    ('a', 0),
    ('a', 2),
    ('b', 0),
  }
  for example in examples:
    key, index = example.problem_id[8:], example.sample_index
    read = [token for part in prompt(key) for token in part]
    learned = [*target(key, index), EOS]  # no stop string, EOS once
    assert example.token_ids == read + learned
    assert example.segment_types == (
      [records.PROMPT] * len(read) + [records.TARGET] * len(learned)
    )
    assert example.weight == 1


def test_zero_shot_leaves_out_the_worked_examples_alone(run):
  examples, _ = run(PARTS, train_prompt='zero_shot')
  for example in examples:
    key, index = example.problem_id[8:], example.sample_index
    lead, _, question = prompt(key)
    assert example.token_ids == [*lead, *question, *target(key, index), EOS]


def test_statistics_count_what_happened(run):
  _, manifest = run(PARTS)
  found = manifest.statistics
  expected = {
    'samples': 6,
    'correct': 3,
    'unique': 2,  # a 0 and a 2 are one text
    'kept': 3,
    'problems': 3,
    'solved_problems': 2,
    'weight_sum': 3,
    'target_tokens': 9,
    'mean_target_tokens': 3,
    'kept_per_problem': {'0': 1, '1': 1, '2': 1},
    'by_difficulty': {},
  }
  assert {key: found[key] for key in expected} == expected
  assert found['classes']['timeout'] == 1
  assert found['tasks']['t']['kept'] == 3


@pytest.mark.parametrize('reason', ['length', 'prompt'])
def test_an_unfinished_sample_is_never_kept_even_if_it_was_rewarded(
  run, reason
):
  parts = [[('a', 0, 'correct'), ('a', 1, 'correct', reason)]]
  examples, _ = run(parts)
  assert [example.sample_index for example in examples] == [0]


def test_a_harness_error_is_never_kept(run):
  parts = [[('a', 0, 'correct'), ('a', 1, 'harness_error')]]
  examples, _ = run(parts)
  assert [example.sample_index for example in examples] == [0]


def test_a_problems_samples_may_lie_in_several_parts(run):
  one = [[('a', i, 'correct') for i in range(20)]]
  many = [
    [('a', i, 'correct') for i in range(j, j + 5)] for j in (0, 5, 10, 15)
  ]
  whole, _ = run(one, name='-one', max_solutions_per_problem=7)
  split, manifest = run(many, name='-many', max_solutions_per_problem=7)
  assert sorted(e.sample_index for e in whole) == sorted(
    e.sample_index for e in split
  )
  assert len(split) == 7 and len(manifest.parts) == 4


def test_dedupe_is_by_text_within_a_problem(run):
  parts = [[('a', i, 'correct') for i in range(6)] + [('b', 0, 'correct')]]
  examples, _ = run(parts, dedupe=True)
  kept = sorted((e.problem_id[8:], e.sample_index) for e in examples)
  assert kept == [('a', 0), ('a', 1), ('b', 0)]


def test_other_streams_are_never_trained_on(tmp_path):
  samples = write_samples(tmp_path / 's', PARTS, stream='eval/greedy')
  with pytest.raises(configuration.ConfigurationError, match='stream e_step'):
    select_examples.select(
      select_from='samples',
      problems_dirs=[write_problems(tmp_path / 'p', 'abc')],
      samples_dirs=[samples],
      verdicts_dirs=[
        write_verdicts(tmp_path / 'v', samples, PARTS, stream='eval/greedy')
      ],
      examples_dir=os.fspath(tmp_path / 'e'),
      config=select_examples.SelectionConfig(),
    )


def test_no_correct_sample_ends_with_the_class_rates_and_loses_nothing(
  run, tmp_path
):
  parts = [[('a', 0, 'wrong'), ('a', 1, 'no_answer'), ('b', 0, 'no_answer')]]
  with pytest.raises(configuration.ConfigurationError) as caught:
    run(parts)
  message = str(caught.value)
  assert 'no sample is correct' in message
  assert 'no_answer 66.7%' in message and 'wrong 33.3%' in message
  assert 'NUM_SAMPLES' in message
  assert manifests.load_if_done(tmp_path / 'run' / 'examples') is None
  assert len(manifests.load(tmp_path / 'run' / 'samples').records()) == 3
  examples, _ = run([*parts, [('a', 2, 'correct')]])  # after more were drawn
  assert len(examples) == 1


def test_a_finished_selection_is_not_made_again(run, capsys):
  _, first = run(PARTS)
  _, second = run(PARTS)
  assert first.digest == second.digest
  assert 'done already' in capsys.readouterr().out
  with pytest.raises(fingerprints.FingerprintError, match='weighting'):
    run(PARTS, weighting='literal')


def test_difficulty_bins_follow_the_base_models_own_success(run, tmp_path):
  rates = {'a': (3, 4), 'b': (2, 4), 'c': (0, 4)}
  rows = [
    (key, i, 'correct' if i < right else 'wrong')
    for key, (right, n) in rates.items()
    for i in range(n)
  ]
  samples = write_samples(tmp_path / 'ds', [rows], stream='difficulty')
  folder = write_verdicts(tmp_path / 'dv', samples, [rows], stream='difficulty')
  _, manifest = run(PARTS, keys='abcd', difficulty=folder)
  assert manifest.statistics['by_difficulty'] == {
    'easy': {'problems': 1, 'solved': 1, 'kept': 2},
    'medium': {'problems': 1, 'solved': 1, 'kept': 1},
    'very_hard': {'problems': 1, 'solved': 0, 'kept': 0},
    'unknown': {'problems': 1, 'solved': 0, 'kept': 0},
  }
  _, without = run(PARTS, keys='abcd', name='-without')
  assert [p['content'] for p in without.parts] == [
    p['content'] for p in manifest.parts
  ]


def test_human_solutions_give_one_example_each(tmp_path):
  problems = write_problems(tmp_path / 'p', 'abcd', solutions='acd')
  select_examples.select(
    select_from='human',
    problems_dirs=[problems],
    samples_dirs=[],
    verdicts_dirs=[],
    examples_dir=os.fspath(tmp_path / 'e'),
    config=select_examples.SelectionConfig(),
  )
  manifest = manifests.load(tmp_path / 'e')
  examples = manifest.records()
  assert [example.problem_id[8:] for example in examples] == ['a', 'c', 'd']
  for example in examples:
    key = example.problem_id[8:]
    read = [token for part in prompt(key) for token in part]
    assert example.token_ids == [*read, 90, ord(key), EOS]
    assert (example.sample_index, example.weight) == (-1, 1)
  assert manifest.statistics['kept'] == 3
  assert manifest.statistics['kept_per_problem'] == {'0': 1, '1': 3}


def test_no_human_solution_is_an_error_that_names_the_switch(tmp_path):
  with pytest.raises(configuration.ConfigurationError, match='SFT_BASELINE'):
    select_examples.select(
      select_from='human',
      problems_dirs=[write_problems(tmp_path / 'p', 'ab')],
      samples_dirs=[],
      verdicts_dirs=[],
      examples_dir=os.fspath(tmp_path / 'e'),
      config=select_examples.SelectionConfig(),
    )


WORDS = ' '.join(f'w{i}' for i in range(20))
TEXTS = {
  ('a', 0): f'So: {WORDS.upper()}, which is 7.',
  ('a', 1): f'{WORDS} of a wrong one',
  ('b', 0): f'and {WORDS}',
}
QUESTIONS = {'1': f'What is {WORDS}?', '2': f'{WORDS} twice', '3': 'other'}


def test_kept_solutions_that_repeat_an_evaluated_problem_are_counted(
  run, tmp_path, capsys
):
  one = write_evaluated(tmp_path / 'e', QUESTIONS)
  two = write_evaluated(tmp_path / 'f', {'1': 'nothing of the kind'}, task='f')
  parts = [*PARTS, [('c', 1, 'correct')]]
  _, manifest = run(parts, texts=TEXTS, evaluated=[one, two])
  shown = manifest.statistics['overlap']
  assert shown['ngram'] == 13 and set(shown['found']) == {'e/test', 'f/test'}
  found = shown['found']['e/test']
  # Kept: a 0, a 2, b 0 and c 1; the wrong a 1 is not looked through.
  assert (found['training'], found['training_shared']) == (4, 2)
  assert (found['problems'], found['shared'], found['half_covered']) == (
    3,
    2,
    2,
  )
  assert [(e['id'], e['with']) for e in found['examples']] == [
    ('e/test/2', 't/train/a sample 0'),
    ('e/test/1', 't/train/a sample 0'),
  ]
  assert shown['found']['f/test']['shared'] == 0
  out = capsys.readouterr().out
  assert (
    'overlap: 2 of 4 kept solutions share a 13-gram with e/test (2 of its 3 '
    'problems)\n' in out
  )
  assert 'f/test' not in out


def test_what_is_evaluated_changes_neither_examples_nor_their_digest(
  run, tmp_path
):
  folder = write_evaluated(tmp_path / 'e', QUESTIONS)
  _, without = run(PARTS, texts=TEXTS, name='-a')
  _, compared = run(PARTS, texts=TEXTS, name='-b', evaluated=[folder])
  _, off = run(PARTS, texts=TEXTS, name='-c', evaluated=[folder], ngram=0)
  assert compared.digest == without.digest == off.digest
  assert 'overlap' in compared.statistics
  assert 'overlap' not in without.statistics | off.statistics


def test_a_finished_selection_is_compared_with_sets_that_came_later(
  run, tmp_path, capsys
):
  one = write_evaluated(tmp_path / 'e', QUESTIONS)
  two = write_evaluated(tmp_path / 'f', {'9': WORDS}, task='f')
  _, first = run(PARTS, texts=TEXTS, evaluated=[one])
  part = first.folder / first.parts[0]['name']
  before = os.stat(part).st_mtime_ns
  capsys.readouterr()
  _, grown = run(PARTS, texts=TEXTS, evaluated=[one, two])
  assert 'kept solutions share a 13-gram with f/test' in capsys.readouterr().out
  assert grown.digest == first.digest and os.stat(part).st_mtime_ns == before
  found = grown.statistics['overlap']['found']
  assert found['f/test']['training_shared'] == 2
  assert found['e/test'] == first.statistics['overlap']['found']['e/test']
  _, at_once = run(PARTS, texts=TEXTS, evaluated=[one, two], name='-once')
  assert at_once.statistics == grown.statistics
  # Nothing new: not a byte is written, and nothing is said again.
  file = grown.folder / manifests.MANIFEST
  before = os.stat(file).st_mtime_ns
  run(PARTS, texts=TEXTS, evaluated=[one, two])
  assert os.stat(file).st_mtime_ns == before


def test_an_evaluated_folder_without_problems_is_refused_before_any_work(
  run, tmp_path
):
  wrong = write_samples(tmp_path / 'wrong', PARTS)
  for folder, message in (
    (wrong, 'EVAL_PROBLEMS_DIRS must name'),
    (os.fspath(tmp_path / 'none'), 'not there'),
  ):
    with pytest.raises(configuration.ConfigurationError, match=message):
      run(PARTS, evaluated=[folder])
  assert not (tmp_path / 'run/examples').exists()


def test_samples_of_other_streams_are_not_compared(tmp_path):
  parts = [[('a', 0, 'correct'), ('b', 0, 'correct')]]
  drawn = manifests.load(write_samples(tmp_path / 's', parts)).records()
  others = [
    dataclasses.replace(one, stream='difficulty', text=WORDS) for one in drawn
  ]
  both = write(tmp_path / 'b', 'sample', records.Sample, [[*drawn, *others]])
  select_examples.select(
    select_from='samples',
    problems_dirs=[write_problems(tmp_path / 'p', 'ab')],
    samples_dirs=[both],
    verdicts_dirs=[write_verdicts(tmp_path / 'v', both, parts)],
    examples_dir=os.fspath(tmp_path / 'x'),
    config=select_examples.SelectionConfig(),
    eval_problems_dirs=[write_evaluated(tmp_path / 'e', QUESTIONS)],
  )
  found = manifests.load(tmp_path / 'x').statistics['overlap']['found']
  assert found['e/test']['training'] == 2 and found['e/test']['shared'] == 0


def test_human_solutions_are_compared_as_well(tmp_path):
  evaluated = write_evaluated(
    tmp_path / 'e', {'1': 'What is the solution of x?', '2': 'solution of c!'}
  )
  select_examples.select(
    select_from='human',
    problems_dirs=[write_problems(tmp_path / 'p', 'abcd', solutions='acd')],
    samples_dirs=[],
    verdicts_dirs=[],
    examples_dir=os.fspath(tmp_path / 'x'),
    config=select_examples.SelectionConfig(),
    eval_problems_dirs=[evaluated],
    overlap_ngram=3,
  )
  found = manifests.load(tmp_path / 'x').statistics['overlap']['found']
  found = found['e/test']
  assert (found['training'], found['training_shared']) == (3, 3)
  assert found['shared'] == 2
  best = found['examples'][0]
  assert (best['id'], best['with']) == ('e/test/2', 't/train/c')


def two_tasks(tmp_path, config):
  """Selects from the same verdicts on the tasks t and u; the manifest."""
  folders = {'problems_dirs': [], 'samples_dirs': [], 'verdicts_dirs': []}
  for task, eos in (('t', EOS), ('u', 3)):
    root = tmp_path / task
    samples = write_samples(root / 's', PARTS, task=task)
    folders['samples_dirs'].append(samples)
    folders['problems_dirs'].append(
      write_problems(root / 'p', 'abc', task=task, card={'eos_id': eos})
    )
    folders['verdicts_dirs'].append(
      write_verdicts(root / 'v', samples, PARTS, task=task)
    )
  select_examples.select(
    select_from='samples',
    examples_dir=os.fspath(tmp_path / 'e'),
    config=config,
    **folders,
  )
  return manifests.load(tmp_path / 'e')


def test_each_task_has_its_own_cap(tmp_path):
  caps = {'t': 1, 'u': 2}
  config = select_examples.SelectionConfig(max_solutions_per_problem=caps)
  kept = collections.Counter(
    e.problem_id for e in two_tasks(tmp_path, config).records()
  )
  most = {
    task: max(n for i, n in kept.items() if i[0] == task) for task in 'tu'
  }
  assert most == caps


def test_a_task_without_a_cap_of_its_own_is_named(tmp_path):
  config = select_examples.SelectionConfig(max_solutions_per_problem={'t': 1})
  with pytest.raises(configuration.ConfigurationError, match="the task 'u'"):
    two_tasks(tmp_path, config)


def test_several_tasks_are_put_together(tmp_path):
  manifest = two_tasks(tmp_path, select_examples.SelectionConfig())
  assert len(manifest.parts) == 4
  assert manifest.statistics['kept'] == 6
  assert manifest.statistics['kept_per_problem'] == {'0': 2, '1': 2, '2': 2}
  ends = {e.problem_id[0]: e.token_ids[-1] for e in manifest.records()}
  assert ends == {'t': EOS, 'u': 3}


def select_broken(tmp_path, *, keys='abc', card=None, verdicts_of=None):
  samples = write_samples(tmp_path / 's', PARTS)
  graded = write_samples(tmp_path / 's2', verdicts_of or PARTS)
  select_examples.select(
    select_from='samples',
    problems_dirs=[write_problems(tmp_path / 'p', keys, card=card)],
    samples_dirs=[samples],
    verdicts_dirs=[write_verdicts(tmp_path / 'v', graded, PARTS)],
    examples_dir=os.fspath(tmp_path / 'e'),
    config=select_examples.SelectionConfig(),
  )


def test_verdicts_of_other_samples_are_refused(tmp_path):
  with pytest.raises(configuration.ConfigurationError, match='Run score again'):
    select_broken(tmp_path, verdicts_of=PARTS[:1])


def test_a_sample_of_an_unknown_problem_is_named(tmp_path):
  with pytest.raises(configuration.ConfigurationError, match="'t/train/b'"):
    select_broken(tmp_path, keys='ac')


def test_a_vocabulary_without_eos_is_refused(tmp_path):
  with pytest.raises(configuration.ConfigurationError, match='eos_id'):
    select_broken(tmp_path, card={'eos_id': None})
