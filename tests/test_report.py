"""The report of a synthetic run: complete, bounded, and safe to open."""

import html.parser
import json
import math
import random
import re
from collections import Counter

import pytest

from rest_jax import evaluate, report
from rest_jax.artifacts import records, stage_work, storage
from rest_jax.artifacts.records import Problem, Sample, Verdict
from rest_jax.config import configuration
from rest_jax.reporting import outcome_charts, run_reader, sample_browser
from rest_jax.rewards import verdicts

HOSTILE = (
  '</script><script>alert(1)</script></pre><img src=x onerror=alert(2)>'
  '"\'> \u202eevil\u2066 \x00\x1b[31m <!-- ]]> &lt;'
)


class Writer:
  """Writes a small run as the stages do, with made-up outcomes."""

  def __init__(self, folder, *, size=30, hostile=False):
    self.folder, self.size, self.hostile = folder, size, hostile
    self.random = random.Random(0)
    self.skill = {}  # of a problem: its own difficulty

  def write(
    self,
    where,
    *,
    stage,
    kind=None,
    rows=(),
    statistics=None,
    semantic=None,
    inputs=None,
  ):
    with stage_work.work_on(
      self.folder / where,
      stage=stage,
      kind=kind,
      semantic=semantic or {},
      inputs=inputs or {},
      version=1,
    ) as work:
      if kind is not None:
        half = max(1, len(rows) // 2)
        parts = [rows[i : i + half] for i in range(0, len(rows), half)]
        for i, part in enumerate(parts):
          name = records.part_name(i, len(parts))
          work.write(name, part, source=str(i))
      return work.finish(statistics=statistics)

  def ids(self, task, split):
    return [f'{task}/{split}/{i:04d}' for i in range(self.size)]

  def problems(self, task, split):
    rows = []
    for i, problem_id in enumerate(self.ids(task, split)):
      self.skill[problem_id] = self.random.random()
      rows.append(
        Problem(
          id=problem_id,
          prompt_parts=[[1], [2, 3], [4]],
          question=HOSTILE
          if self.hostile
          else f'Mia has {i} apples and '
          f'buys {i + 2} more. How many apples has she now?',
          answer=str(2 * i + 2),
          level=str(2 + i % 3),
          type='buying',
        )
      )
    card = {'task': task, 'split': split, 'num_problems': len(rows)}
    self.write(
      f'problems/{task}/{split}',
      stage='prepare',
      kind=Problem,
      rows=rows,
      statistics={'task': card},
    )

  def graded(self, where, task, split, *, stream, samples, skill, heat):
    """Samples and verdicts; returns {problem id: [outcomes]}."""
    outcomes, drawn, judged = {}, [], []
    suffix = where.partition('|')[2]
    where = where.partition('|')[0]
    for problem_id in self.ids(task, split):
      for index in range(samples):
        chance = min(1.0, max(0.0, skill + self.skill[problem_id] - 0.5))
        outcome = (
          'correct'
          if self.random.random() < chance
          else (
            self.random.choices(
              ['wrong', 'no_answer', 'truncated'], weights=[7, 2, 1]
            )[0]
          )
        )
        outcomes.setdefault(problem_id, []).append(outcome)
        text = f'She has 3 + 5 = 8 apples.\nThe answer is {index}.'
        drawn.append(
          Sample(
            problem_id=problem_id,
            sample_index=index,
            stream=stream,
            policy_digest='p',
            prompt_digest='q',
            token_ids=[5, 6, 7],
            target_length=2,
            text=HOSTILE if self.hostile else text,
            logprobs=[-1.0] * 3,
            sampling_logprobs=[-1.0] * 3,
            finish_reason='length' if outcome == 'truncated' else 'eos',
            engine_fingerprint='e',
          )
        )
        judged.append(
          Verdict(
            problem_id=problem_id,
            sample_index=index,
            stream=stream,
            outcome=outcome,
            reward=float(outcome == 'correct'),
            answer=None if outcome == 'no_answer' else f'{index}',
            detail=HOSTILE if self.hostile else '',
            grader='number/1',
          )
        )
    semantic = {
      'stream': {'name': stream, 'temperature': heat},
      'num_samples': samples,
    }
    drawn = self.write(
      f'{where}/samples{suffix}',
      stage='sample',
      kind=Sample,
      rows=drawn,
      semantic=semantic,
    )
    counts = Counter(row.outcome for row in judged)
    self.write(
      f'{where}/verdicts{suffix}',
      stage='score',
      kind=Verdict,
      rows=judged,
      inputs={'samples': drawn},
      statistics={'task': task, 'split': split, 'classes': {stream: counts}},
    )
    return outcomes

  def evaluation(self, model, skill, *, sampled, tasks):
    rows = []
    for task in tasks:
      streams = [('greedy', 1, 0.0)] + [('sampled', 8, 1.0)] * sampled
      for name, samples, heat in streams:
        outcomes = self.graded(
          f'{model}/evaluation/{task}/{name}',
          task,
          'test',
          stream=f'eval/{name}',
          samples=samples,
          skill=skill,
          heat=heat,
        )
        rows += self.rows(model, task, outcomes, samples, heat)
    self.results(model, rows)

  def rows(self, model, task, outcomes, samples, heat):
    iteration = 0 if model == 'base' else None
    if model.startswith('iteration_'):
      iteration = int(model[-2:])
    for k in [2**i for i in range(samples.bit_length())]:
      values = []
      for several in outcomes.values():
        c = several.count('correct')
        values.append(1 - math.comb(samples - c, k) / math.comb(samples, k))
      value = sum(values) / len(values)
      metrics = (
        ['pass@1_greedy']
        if not heat
        else (['pass@1' if k == 1 else 'pass@k', 'maj@k'])
      )
      for metric in metrics:
        yield {
          'model': model,
          'checkpoint': f'{model}/checkpoints',
          'iteration': iteration,
          'task': task,
          'split': 'test',
          'metric': metric,
          'k': k,
          'temperature': heat,
          'num_samples': samples,
          'value': value,
          'ci_low': max(0.0, value - 0.05),
          'ci_high': min(1.0, value + 0.05),
          'n': len(values),
          'unparsed_rate': 0.02,
          'timeout_rate': 0.0,
          'truncated_rate': 0.01,
        }

  def results(self, model, rows):
    where = f'{model}/evaluation/results'
    semantic = {'bootstrap_resamples': 200, 'seed': 0}
    value = {'rows': list(rows), 'breakdown': []}
    storage.write_json(self.folder / where / 'results.json', value)
    self.write(where, stage='evaluate', semantic=semantic)

  def e_step(self, iteration, skill, where='|'):
    model = f'iteration_{iteration:02d}'
    outcomes = self.graded(
      f'{model}{where}',
      'arithmetic',
      'train',
      stream='e_step',
      samples=8,
      skill=skill,
      heat=0.7,
    )
    kept = {}
    for several in outcomes.values():
      size = str(min(4, several.count('correct')))
      kept[size] = kept.get(size, 0) + 1
    self.write(
      f'{model}/examples',
      stage='select',
      statistics={
        'samples': 8 * self.size,
        'kept': sum(int(k) * n for k, n in kept.items()),
        'tasks': {'arithmetic': {'kept_per_problem': kept}},
      },
    )

  def training(self, model, *, validated=True):
    pairs = [[0, 0.4], [50, 0.55], [100, 0.6], [150, 0.58]]
    trainings = []
    for folder in ('lr_0.001', 'lr_0.003'):
      lines = ''.join(
        json.dumps({'step': s, 'token_loss': 2 / (1 + s / 40), 'loss': 9.0})
        + '\n'
        for s in range(10, 151, 10)
      )
      target = self.folder / model / 'checkpoints' / folder / 'metrics.jsonl'
      storage.write_bytes(target, lines.encode() + b'{"step": 160, "tok')
      trainings.append({'folder': folder, 'validations': pairs * validated})
    statistics = {
      'chosen_step': 100,
      'learning_rate': 0.003,
      'validations': pairs * validated,
      'trainings': trainings,
    }
    where = f'{model}/checkpoints'
    self.write(where, stage='train', statistics=statistics)


def write_run(
  folder,
  *,
  iterations=3,
  sft=True,
  sampled=True,
  difficulty=True,
  size=30,
  hostile=False,
):
  """A whole run: each part of it can be left out."""
  writer = Writer(storage.path(folder), size=size, hostile=hostile)
  tasks = ('arithmetic', 'arithmetic_hard')
  writer.problems('arithmetic', 'train')
  for task in tasks:
    writer.problems(task, 'test')
  writer.training('base', validated=False)
  writer.evaluation('base', 0.4, sampled=sampled, tasks=tasks)
  if difficulty:
    writer.graded(
      'base/difficulty',
      'arithmetic',
      'train',
      stream='difficulty',
      samples=8,
      skill=0.35,
      heat=1.0,
    )
  if sft:
    writer.training('sft_human')
    writer.evaluation('sft_human', 0.5, sampled=False, tasks=tasks)
  for i in range(1, iterations + 1):
    model = f'iteration_{i:02d}'
    writer.e_step(i, 0.4 + 0.12 * (i - 1))
    writer.training(model)
    last = sampled and i == iterations
    writer.evaluation(model, 0.4 + 0.12 * i, sampled=last, tasks=tasks)
  storage.write_bytes(
    writer.folder / 'config.gin', b"RUN_DIR = 'x'\nTASKS = ['<arithmetic>']\n"
  )
  names = ['prepare', 'base/train', 'iteration_01/sample', 'report']
  for i, name in enumerate(names):
    target = writer.folder / 'jobs' / f'{name}.json'
    storage.write_json(target, {'seconds': 10.5 * (i + 1)})
  return writer


VOID = ('meta', 'input', 'path', 'rect', 'line', 'br')


class Reader(html.parser.HTMLParser):
  """What a browser would see: elements, attributes, text."""

  def __init__(self, text):
    super().__init__(convert_charrefs=True)
    self.tags, self.attributes, self.text, self.depth = [], [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += [(tag, key, value or '') for key, value in attrs]
    if tag not in VOID:
      self.depth.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += [(tag, key, value or '') for key, value in attrs]

  def handle_endtag(self, tag):
    if tag not in VOID:
      assert self.depth.pop() == tag

  def handle_data(self, data):
    if self.depth and self.depth[-1] not in ('script', 'style'):
      self.text.append(data)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp('whole') / 'run'
  write_run(folder)
  report.report(run_dir=str(folder))
  return folder


def page_of(folder):
  report.report(run_dir=str(folder))
  return (storage.path(folder) / 'report' / 'index.html').read_text()


def browser_of(run, found, limits):
  """The section of the samples."""
  bootstrap = {'resamples': 10, 'seed': 0}
  text = report.render(run, found, [], bootstrap, limits)
  return text.partition('<section id="browser"')[2].partition('</section>')[0]


def test_page_is_well_formed_and_needs_nothing_from_outside(whole):
  text = page_of(whole)
  seen = Reader(text)
  assert not seen.depth
  assert {'img', 'link', 'iframe', 'object', 'embed'}.isdisjoint(seen.tags)
  for tag, key, value in seen.attributes:
    assert key not in ('src', 'srcset', 'background', 'style'), (tag, key)
    assert not key.startswith('on'), (tag, key)
    if key == 'href':
      assert value.startswith(('#', 'data:text/csv;'))
  style = text.partition('<style>')[2].partition('</style>')[0]
  assert 'url(' not in style and '@import' not in style


def test_every_link_and_heading_reference_of_the_page_has_its_target(whole):
  seen = Reader(page_of(whole))
  names = [value for _, key, value in seen.attributes if key == 'id']
  assert len(names) == len(set(names))
  links = [v for _, key, v in seen.attributes if key == 'href']
  wanted = [link[1:] for link in links if link.startswith('#')]
  wanted += [v for _, key, v in seen.attributes if key == 'aria-labelledby']
  assert wanted and set(wanted) <= set(names)


def test_all_results_of_the_models_are_in_results_json_and_in_the_page(whole):
  results = storage.read_json(whole / 'report' / 'results.json')
  rows = []
  for model in ('base', 'sft_human', *(f'iteration_0{i}' for i in (1, 2, 3))):
    source = whole / model / 'evaluation' / 'results' / 'results.json'
    rows += storage.read_json(source)['rows']
  key = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
  assert sorted(results['rows'], key=key) == sorted(rows, key=key)
  text = ' '.join(Reader(page_of(whole)).text)
  for row in rows:
    assert f'{100 * row["value"]:.1f}%' in text


def test_comparison_is_the_difference_of_the_greedy_accuracies(whole):
  results = storage.read_json(whole / 'report' / 'results.json')
  value = {
    (row['model'], row['task']): row['value']
    for row in results['rows']
    if row['metric'] == 'pass@1_greedy'
  }
  pairs = {(r['baseline'], r['task']) for r in results['comparisons']}
  assert len(pairs) == len(results['comparisons']) == 4
  for row in results['comparisons']:
    expected = value['iteration_03', row['task']]
    expected -= value[row['baseline'], row['task']]
    assert row['difference'] == pytest.approx(expected)
    assert row['ci_low'] <= row['difference'] <= row['ci_high']
    assert row['n'] == 30


def test_same_run_gives_the_same_results_wherever_it_lies(whole, tmp_path):
  write_run(tmp_path / 'run')
  # Another time of a job must not show in the results.
  job = storage.path(tmp_path / 'run' / 'jobs' / 'prepare.json')
  storage.write_json(job, {'seconds': 99.0})
  report.report(run_dir=str(tmp_path / 'run'))
  one, two = (
    (storage.path(folder) / 'report' / 'results.json').read_bytes()
    for folder in (whole, tmp_path / 'run')
  )
  assert one == two


def test_finished_report_is_left_alone_and_a_lost_page_is_made_again(
  tmp_path, capsys
):
  write_run(tmp_path / 'run', iterations=1, size=4)
  first = page_of(tmp_path / 'run')
  capsys.readouterr()
  page_of(tmp_path / 'run')
  assert 'already done' in capsys.readouterr().out
  (tmp_path / 'run' / 'report' / 'index.html').unlink()
  assert page_of(tmp_path / 'run') == first


def test_report_of_a_run_that_grew_is_made_again(tmp_path):
  writer = write_run(tmp_path / 'run', iterations=1, size=4)
  assert 'iteration_02' not in page_of(tmp_path / 'run')
  writer.evaluation('iteration_02', 0.9, sampled=False, tasks=['arithmetic'])
  assert 'iteration_02' in page_of(tmp_path / 'run')


@pytest.mark.parametrize(
  'left_out, sentence',
  [
    ({'sft': False}, 'This run has no SFT baseline'),
    ({'sampled': False}, 'No figure: no model was evaluated with several'),
    (
      {'sampled': False, 'difficulty': False},
      'the run has neither a difficulty stream',
    ),
    ({'iterations': 0}, 'No iteration has been evaluated yet'),
    ({'iterations': 0}, 'No figure: no iteration has selected yet'),
  ],
)
def test_page_says_what_is_missing(whole, tmp_path, left_out, sentence):
  assert sentence not in page_of(whole)
  write_run(tmp_path / 'run', **{'iterations': 1, 'size': 4, **left_out})
  assert sentence in page_of(tmp_path / 'run')


def test_run_without_anything_in_it_gives_a_page(tmp_path):
  (tmp_path / 'run').mkdir()
  text = page_of(tmp_path / 'run')
  assert 'No model of this run has been evaluated yet' in text
  assert not Reader(text).depth


def test_samples_without_results_give_a_page(tmp_path):
  writer = Writer(storage.path(tmp_path / 'run'), size=3)
  writer.problems('arithmetic', 'train')
  writer.e_step(1, 0.5)
  assert not Reader(page_of(tmp_path / 'run')).depth


def test_run_that_does_not_exist_is_a_configuration_error(tmp_path):
  with pytest.raises(configuration.ConfigurationError, match='no such run'):
    report.report(run_dir=str(tmp_path / 'none'))
  assert not (tmp_path / 'none').exists()


def test_folders_of_several_tasks_are_found_below_samples_and_verdicts(
  tmp_path,
):
  writer = Writer(storage.path(tmp_path / 'run'), size=3)
  writer.problems('arithmetic', 'train')
  writer.e_step(1, 0.5, where='|/arithmetic')
  run = run_reader.read(tmp_path / 'run', run_reader.find(tmp_path / 'run'))
  (model,) = run.models
  (graded,) = model.e_step
  assert (graded.temperature, graded.num_samples) == (0.7, 8)
  assert run.training_tasks == ['arithmetic']


def test_superseded_and_unfinished_folders_are_not_read(tmp_path):
  write_run(tmp_path / 'run', iterations=1, size=3)
  (tmp_path / 'run/iteration_01/samples').rename(
    tmp_path / 'run/iteration_01/samples.superseded-1'
  )
  (tmp_path / 'run/iteration_01/verdicts/manifest.json').unlink()
  found = run_reader.find(tmp_path / 'run')
  assert not any('superseded' in key for key in found)
  assert 'iteration_01/verdicts' not in found
  assert 'iteration_01/examples' in found


def test_hostile_text_adds_no_element_and_no_invisible_character(tmp_path):
  """Model and data text that is HTML, script or bidi control stays text."""
  write_run(tmp_path / 'plain', iterations=1, size=4)
  write_run(tmp_path / 'hostile', iterations=1, size=4, hostile=True)
  plain, hostile = (page_of(tmp_path / name) for name in ('plain', 'hostile'))
  assert 'onerror' in hostile  # it is there, as text
  allowed = set(Reader(plain).tags)
  seen = Reader(hostile)
  assert set(seen.tags) <= allowed and 'img' not in seen.tags
  assert not seen.depth
  assert hostile.count('<script>') == hostile.count('</script>') == 1
  for character in '\u202e\u2066\x00\x1b':
    assert character not in hostile
  assert '\u27e8U+202E\u27e9' in ''.join(seen.text)


def test_policy_allows_the_script_of_the_page_and_no_other(whole):
  import base64
  import hashlib

  text = page_of(whole)
  script = text.partition('<script>')[2].partition('</script>')[0]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  (policy,) = [
    value
    for tag, key, value in Reader(text).attributes
    if (tag, key) == ('meta', 'content') and value.startswith('default-src')
  ]
  assert f"script-src 'sha256-{digest}'" in policy
  assert "default-src 'none'" in policy


def test_each_verdict_class_has_a_colour_of_its_own():
  styles = outcome_charts.STYLES
  assert set(styles) == set(verdicts.OUTCOMES)
  assert len(set(styles.values())) == len(styles)


def test_browser_shows_each_class_and_keeps_to_its_limits(tmp_path):
  write_run(tmp_path / 'run', iterations=1, size=20)
  found = run_reader.find(tmp_path / 'run')
  run = run_reader.read(tmp_path / 'run', found)
  limits = sample_browser.Limits(problems=2, completions=3, characters=20)
  text = browser_of(run, found, limits)
  seen = Reader(text)
  shown = {v for _, k, v in seen.attributes if k == 'data-outcome'}
  assert shown == {'correct', 'wrong', 'no_answer', 'truncated'}
  for article in text.split('<article')[1:]:
    by_source = article.split('data-source="')[1:]
    names = [part.partition('"')[0] for part in by_source]
    assert max(map(names.count, names)) <= 3
  assert 'characters cut]' in text
  less = browser_of(run, found, sample_browser.Limits(page=3_000))
  assert 'left out to keep this page small' in less and len(less) < 10_000


def test_browser_shows_a_completion_with_its_own_verdict(tmp_path):
  writer = Writer(storage.path(tmp_path / 'run'), size=2)
  writer.problems('arithmetic', 'train')
  outcomes = writer.graded(
    'iteration_01',
    'arithmetic',
    'train',
    stream='e_step',
    samples=4,
    skill=0.5,
    heat=0.7,
  )
  found = run_reader.find(tmp_path / 'run')
  run = run_reader.read(tmp_path / 'run', found)
  text = browser_of(run, found, sample_browser.Limits())
  for article in text.split('<article')[1:]:
    problem_id = article.partition('data-id="')[2].partition('"')[0]
    pieces = article.split('data-outcome="')[1:]
    assert len(pieces) == 4
    for index, piece in enumerate(pieces):
      assert piece.partition('"')[0] == outcomes[problem_id][index]
      assert f'sample {index},' in piece and f'answer is {index}.' in piece


def test_what_the_stage_evaluate_writes_is_shown(tmp_path):
  """The seam with the stage before: its own results, not made-up ones."""
  folder = storage.path(tmp_path / 'run')
  writer = Writer(folder, size=12)
  writer.problems('arithmetic', 'test')
  for model, skill in (('base', 0.3), ('iteration_01', 0.8)):
    # As the plan lays them out: evaluation/<task>/<stream>/{samples,verdicts}.
    writer.evaluation(model, skill, sampled=True, tasks=['arithmetic'])
    (folder / model / 'evaluation' / 'results').rmtree()
    where = [
      folder / model / 'evaluation' / 'arithmetic' / name
      for name in ('greedy', 'sampled')
    ]
    evaluate.evaluate(
      verdicts_dirs=[str(one / 'verdicts') for one in where],
      samples_dirs=[str(one / 'samples') for one in where],
      problems_dirs=[str(folder / 'problems' / 'arithmetic' / 'test')] * 2,
      results_dir=str(folder / model / 'evaluation' / 'results'),
      model_name=model,
      iteration=int(model == 'iteration_01'),
      bootstrap_resamples=100,
    )
  text = ' '.join(Reader(page_of(folder)).text)
  results = storage.read_json(folder / 'report' / 'results.json')
  assert {row['metric'] for row in results['rows']} == {
    'pass@1_greedy',
    'pass@1',
    'pass@k',
    'maj@k',
  }
  shown = results['rows'] + results['breakdown'] + results['averages']
  for row in shown:
    assert f'{100 * row["value"]:.1f}% [{100 * row["ci_low"]:.1f},' in text
  (row,) = results['comparisons']
  assert f'{100 * row["difference"]:+.1f}' in text


def test_a_batch_shows_each_checkpoint_in_natural_order_and_no_loop(tmp_path):
  folder = storage.path(tmp_path / 'run')
  writer = Writer(folder, size=6)
  tasks = ['arithmetic', 'other']
  for task in tasks:
    writer.problems(task, 'test')
  names = ['step_9', 'step_10', 'iteration_best']
  for name in names:
    writer.evaluation(f'models/{name}', 0.5, sampled=True, tasks=tasks)
  # The corpus that prepare writes for a base model makes no model.
  writer.write('base/examples', stage='prepare', kind=records.Example)
  page = page_of(folder)
  text = ' '.join(Reader(page).text)
  assert 'Evaluation of 3 checkpoints: iteration_best, step_9, step_10.' in text
  models = [
    m.name for m in run_reader.read(folder, run_reader.find(folder)).models
  ]
  assert models == ['iteration_best', 'step_9', 'step_10']
  for absent in ('SFT', 'M-steps', 'Kept', 'by iteration', 'base'):
    assert absent not in text, absent
  results = storage.read_json(folder / 'report' / 'results.json')
  for row in results['rows']:
    if row['metric'] == 'pass@1_greedy':
      assert f'{100 * row["value"]:.1f}% [' in text


def test_tables_by_type_are_shown_for_each_set_with_their_average(tmp_path):
  folder = storage.path(tmp_path / 'run')
  writer = Writer(folder)
  rows = [
    dict(task='bbh', split='test', metric='pass@1_greedy', k=1)
    | dict(stream='eval/greedy', by='type', group=f'kind {i}', n=10)
    | dict(value=i / 40, ci_low=0.0, ci_high=1.0)
    for i in range(1, 28)
  ]
  average = rows[0] | dict(groups=27, value=0.35, ci_low=0.3, ci_high=0.4)
  where = folder / 'base' / 'evaluation' / 'results'
  outcomes = {'bbh/test/0': ['correct']}
  found = {
    'rows': list(writer.rows('base', 'bbh', outcomes, 1, 0.0)),
    'breakdown': rows[::-1],
    'averages': [average],
  }
  storage.write_json(where / 'results.json', found)
  writer.write('base/evaluation/results', stage='evaluate')
  page = page_of(folder)
  text = ' '.join(Reader(page).text)
  at = [text.index(f' kind {i} ') for i in (1, 2, 10, 27)]
  assert at == sorted(at)
  assert text.index('macro average 270 35.0% [30.0,') > at[-1]


def test_row_without_a_value_is_shown_as_a_dash_and_drawn_nowhere(tmp_path):
  """Every sample a harness error: evaluate then has n = 0 and no value."""
  writer = Writer(storage.path(tmp_path / 'run'), size=3)
  empty = {'value': None, 'ci_low': None, 'ci_high': None, 'n': 0}
  outcomes = {'arithmetic/test/0000': ['correct']}
  rows = list(writer.rows('base', 'arithmetic', outcomes, 1, 0.0))
  rows += writer.rows('base', 'arithmetic', outcomes, 1, 1.0)
  writer.results('base', [{**row, **empty} for row in rows])
  text = page_of(tmp_path / 'run')
  assert 'There is no greedy evaluation to show' in text
  assert '<td>–</td>' in text and 'None' not in text


def table_of(page, caption):
  """{heading of a row: its cells} of a table, and its header."""
  table = page.partition(f'<caption>{caption}')[2].partition('</table>')[0]
  header = re.findall('<th scope="col">(.*?)</th>', table)
  rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table)
  cells = {name: re.findall('<td>(.*?)</td>', row) for name, row in rows}
  return header, cells


def test_the_counts_of_select_stand_in_one_order_whatever_a_run_has(tmp_path):
  writer = write_run(tmp_path / 'run', iterations=1, size=3)
  statistics = {'zeta': 7, 'weight_sum': 1921.0, 'kept': 1921, 'problems': 2}
  writer.write('sft_human/examples', stage='select', statistics=statistics)
  header, rows = table_of(page_of(tmp_path / 'run'), 'What the stage select')
  assert header[:3] == ['model', 'problems', 'samples']
  assert header[3:] == ['kept', 'weight sum', 'zeta']
  assert rows['SFT on human solutions'] == ['2', '–', '1,921', '1,921', '7']
  assert rows['iteration 1'][1] == '24'


def test_the_wall_time_of_m_steps_is_a_table_of_its_own(tmp_path):
  writer = write_run(tmp_path / 'run', iterations=2, size=3)
  caption = 'Wall time of M-steps'
  assert caption not in page_of(tmp_path / 'run')  # of an earlier version
  manifest = tmp_path / 'run/iteration_02/checkpoints/manifest.json'
  value = json.loads(manifest.read_text())
  value['recorded'] = {'seconds': {'steps': 30.0, 'lost': 5.0, 'data': 5.0}}
  manifest.write_text(json.dumps(value))
  (writer.folder / 'report').rmtree()
  header, rows = table_of(page_of(tmp_path / 'run'), caption)
  assert header[:3] == ['model', 'seconds', 'goodput'] and list(rows) == [
    'iteration 2'
  ]
  found = dict(zip(header[1:], rows['iteration 2'], strict=True))
  assert (found['seconds'], found['goodput']) == ('40', '75.0%')
  assert (found['lost'], found['data'], found['down']) == (
    *('12.5%', '12.5%', '0.0%'),
  )


def test_an_m_step_that_chose_step_0_is_named(tmp_path):
  writer = write_run(tmp_path / 'run', iterations=2, size=3)
  sentence = 'Iteration 2 is the base: no step of'
  assert sentence not in page_of(tmp_path / 'run')
  (writer.folder / 'iteration_02/checkpoints').rmtree()
  (writer.folder / 'report').rmtree()
  statistics = {'chosen_step': 0, 'reward': 0.71, 'learning_rate': 0.006}
  writer.write('iteration_02/checkpoints', stage='train', statistics=statistics)
  text = page_of(tmp_path / 'run')
  assert sentence in text and 'Iteration 1 is' not in text
  _, rows = table_of(text, 'M-steps')
  assert rows['iteration 2'] == ['0.006', '0', '0 (is base)', '71.0%']
  # No difference is claimed between two that have the same weights.
  assert 'iteration 2 (= base)' in text and '>same weights<' in text
  assert 'iteration 2 − base<b' not in text


def test_the_last_iteration_has_one_name(whole):
  text = ' '.join(Reader(page_of(whole)).text)
  assert 'iteration 3 − base' in text and 'final' not in text.lower()


def test_the_page_of_one_run_is_the_same_every_time(whole, tmp_path):
  write_run(tmp_path / whole.name)
  assert page_of(tmp_path / whole.name) == page_of(whole)


def test_broken_job_record_costs_a_time_and_no_page(tmp_path):
  write_run(tmp_path / 'run', iterations=1, size=3)
  (tmp_path / 'run' / 'jobs' / 'prepare.json').write_text('{"seconds": 1')
  text = page_of(tmp_path / 'run')
  assert '<tr><th scope="row">base</th><td>–</td><td>0:00:21</td>' in text
  assert 'prepare' not in text.partition('id="times"')[2]


def test_report_of_a_run_in_a_bucket_is_the_same(bucket, tmp_path):
  for folder in (f'{bucket}/run', tmp_path / 'run'):
    write_run(folder, iterations=1, size=3)
  assert page_of(f'{bucket}/run') == page_of(tmp_path / 'run')


def test_class_that_only_one_problem_has_is_in_the_browser(tmp_path):
  writer = Writer(storage.path(tmp_path / 'run'), size=20)
  writer.problems('arithmetic', 'train')
  odd = writer.ids('arithmetic', 'train')[-1]  # in the last part
  writer.skill = {key: -1.0 if key == odd else 1.0 for key in writer.skill}
  writer.graded(
    'iteration_01',
    'arithmetic',
    'train',
    stream='e_step',
    samples=1,
    skill=0.5,
    heat=0.7,
  )
  found = run_reader.find(tmp_path / 'run')
  run = run_reader.read(tmp_path / 'run', found)
  text = browser_of(run, found, sample_browser.Limits(problems=1))
  assert text.count('<article') == 2 and f'data-id="{odd}"' in text
