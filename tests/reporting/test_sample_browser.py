"""The sample browser: every problem is reached, with what it asked and got."""

import re

import pytest
from test_report import Reader, Writer, page_of, write_run

from rest_jax import report
from rest_jax.artifacts import records, run_paths, storage
from rest_jax.reporting import (
  page,
  prompt_texts,
  run_reader,
  run_samples,
  sample_browser,
)
from rest_jax.reporting.articles import Article, problem_of
from rest_jax.tokenizers import vocabularies


def read(folder):
  found = run_reader.find(folder)
  run = run_reader.read(folder, found)
  return run_samples.Samples(run, found)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  made = storage.path(tmp_path_factory.mktemp('browser') / 'run')
  write_run(made, iterations=2, size=30)
  return made


def correct(folder, model):
  """{problem id: whether its greedy sample is correct}, read independently."""
  where = folder / model / 'evaluation/arithmetic/greedy/verdicts'
  rows = []
  for part in sorted(where.glob('*.parquet')):
    rows += records.read_part(part, records.Verdict).to_pylist()
  return {row['problem_id']: row['outcome'] == 'correct' for row in rows}


def test_changes_are_those_between_the_base_and_the_last_iteration(folder):
  before, after = correct(folder, 'base'), correct(folder, 'iteration_02')
  samples = read(folder)
  for change, wanted in (('gained', (0, 1)), ('lost', (1, 0))):
    expected = {k for k in before if (before[k], after[k]) == wanted}
    query = run_samples.Query(split='arithmetic/test', change=change)
    found = samples.ids(query)
    assert {key for _, key in found} == expected
    assert len(found) == len(expected)
  assert len(set(samples.changes('arithmetic/test').values())) == 2


def test_every_problem_is_reached_and_each_filter_only_narrows(folder):
  samples = read(folder)
  everything = samples.ids(run_samples.Query())
  assert len(everything) == len(set(everything)) == 90  # 3 sets of 30
  keys = [key for split, key in everything if split == 'arithmetic/test']
  assert keys == sorted(keys)
  for query in (
    run_samples.Query(source='base, greedy', outcome='wrong'),
    run_samples.Query(split='arithmetic/train', outcome='no_answer'),
    run_samples.Query(words='has 3 APPLES'),
  ):
    some = samples.ids(query)
    assert 0 < len(some) < 90 and set(some) <= set(everything), query
  # What is asked for is there: a completion of that class by that model.
  for split, key in samples.ids(
    run_samples.Query(source='base, sampled', outcome='wrong')
  ):
    [article] = samples.articles(
      split, [key], completions=4, source='base, sampled', outcome='wrong'
    )
    [(model, rows)] = article.models
    assert model == 'base' and rows
    assert {(r.source, r.outcome) for r in rows} == {('base, sampled', 'wrong')}


def test_words_are_looked_for_in_id_question_and_answer(folder):
  samples = read(folder)
  for words in ('TEST/0007', 'has 7 apples', '16'):
    ids = samples.ids(run_samples.Query(words=words))
    assert 'arithmetic/test/0007' in {key for _, key in ids}, words
  assert samples.ids(run_samples.Query(words='nowhere%')) == []


def test_all_completions_of_a_problem_can_be_had(folder):
  samples = read(folder)
  key = 'arithmetic/test/0003'
  [few] = samples.articles('arithmetic/test', [key], completions=2)
  [all_] = samples.articles('arithmetic/test', [key], completions=None)
  count = lambda one: sum(len(rows) for _, rows in one.models)  # noqa: E731
  # base and iteration 2: greedy and 8 samples; SFT and iteration 1: greedy.
  assert (count(all_), all_.left_out) == (20, 0)
  assert (count(few), few.left_out) == (8, 12)
  names = [name for name, _ in all_.models]
  assert names == [
    'base',
    'SFT on human solutions',
    'iteration 1',
    'iteration 2',
  ]


@pytest.mark.parametrize(
  'problem_id',
  ['t/test/1', 't/test/a b#c?d&e', 't/test/~2F', 't/test/%2F', 't/ü/"<x>\''],
)
def test_the_anchor_of_a_problem_leads_back_to_it(problem_id):
  article = Article(
    id=problem_id,
    problems='t/test',
    facts='',
    question='q',
    reference='r',
    start='',
    prompt='p',
    change='',
    models=[],
    left_out=0,
  )
  assert re.fullmatch(r'p/[\w/.~-]+', article.anchor, re.ASCII)
  assert problem_of(article.anchor) == problem_id
  text = page.render_macro('article', 'article', article, 100)
  links = [v for _, k, v in Reader(text).attributes if k == 'href']
  assert links == [f'#{article.anchor}']


def test_anchors_of_different_problems_differ():
  ids = ['t/a b', 't/a~20b', 't/a%20b', 't/a+b', 't/A b', 't/a/b']
  anchors = {Article.anchor.fget(type('A', (), {'id': one})()) for one in ids}
  assert len(anchors) == len(ids)


def test_a_prompt_is_shown_with_its_special_tokens():
  vocabulary = vocabularies.utf8_bytes()
  ids = [*'é<b>'.encode(), vocabulary.eos_id, *b' Q: 1']
  assert prompt_texts.decoded(vocabulary, ids) == 'é<b><eos> Q: 1'


def with_prompts(folder):
  """A run whose problems have a readable prompt: exemplars, then a question."""
  writer = Writer(storage.path(folder), size=3)
  rows = [
    records.Problem(
      id=key,
      prompt_parts=[
        list(b'<sys>'),
        list(b'EXAMPLE '),
        list(f'ask {i}'.encode()),
      ],
      question=f'question {i}',
      answer='1',
    )
    for i, key in enumerate(writer.ids('t', 'test'))
  ]
  writer.skill = dict.fromkeys(writer.ids('t', 'test'), 0.5)
  card = {
    'task': 't',
    'split': 'test',
    'num_problems': 3,
    'vocabulary': 'bytes',
  }
  writer.write(
    'problems/t/test',
    stage='prepare',
    kind=records.Problem,
    rows=rows,
    statistics={'task': card},
  )
  writer.evaluation('base', 0.5, sampled=False, tasks=['t'])
  return writer


def test_the_page_shows_prompts_and_what_they_share_once(tmp_path):
  with_prompts(tmp_path / 'run')
  text = page_of(tmp_path / 'run')
  browser = text.partition('<section id="browser"')[2].partition('</section>')[
    0
  ]
  assert browser.count('&lt;sys&gt;EXAMPLE ') == 1
  for i in range(3):
    assert f'>ask {i}</pre>' in browser


def test_a_vocabulary_that_is_gone_costs_the_prompts_alone(tmp_path):
  writer = with_prompts(tmp_path / 'run')
  where = writer.folder / 'problems/t/test/manifest.json'
  text = where.read_text().replace(
    '"vocabulary": "bytes"', '"vocabulary": "nowhere/x.model"'
  )
  assert 'nowhere' in text
  where.write_text(text)
  seen = page_of(tmp_path / 'run')
  assert 'ask 1' not in seen and 'question 1' in seen


def test_a_vocabulary_that_was_replaced_shows_no_wrong_prompts(tmp_path):
  writer = with_prompts(tmp_path / 'run')
  writer.write('problems', stage='prepare', statistics={'digest': 'bytes'})
  assert 'ask 1' in page_of(writer.folder)
  path = writer.folder / 'problems/manifest.json'
  path.write_text(path.read_text().replace('"bytes"', '"of another file"'))
  (writer.folder / 'report/index.html').unlink()
  seen = page_of(writer.folder)
  assert 'ask 1' not in seen and 'question 1' in seen


def test_the_static_page_holds_gained_and_lost_problems(folder):
  """However few problems it shows: those are what a reader looks for."""
  limits = sample_browser.Limits(problems=1, changed=2)
  browser = sample_browser.browse(read(folder), limits)
  kept = [a.change for a in browser.articles if a.problems == 'arithmetic/test']
  assert kept.count('gained') >= 2 and kept.count('lost') >= 1
  assert browser.ends == ('base', 'iteration 2')
  found = run_reader.find(folder)
  run = run_reader.read(folder, found)
  bootstrap = {'resamples': 10, 'seed': 0}
  text = report.render(run, found, [], bootstrap, limits)
  assert 'base wrong → iteration 2 right' in text


def test_a_batch_compares_its_first_checkpoint_with_its_last(tmp_path):
  writer = Writer(storage.path(tmp_path / 'run'), size=8)
  writer.problems('arithmetic', 'test')
  for name in ('step_2', 'step_10'):
    writer.evaluation(
      f'models/{name}', 0.5, sampled=False, tasks=['arithmetic']
    )
  samples = read(writer.folder)
  assert sample_browser.choices(samples).ends == ('step_2', 'step_10')
  assert run_paths.GREEDY in {
    one.graded.stream for one in samples.members['arithmetic/test']
  }
  assert samples.changes('arithmetic/test')
