"""The points sheet: to a spreadsheet and back, and what it must not lose."""

import csv
import io
import json
import math
import random

import numpy as np
import pytest
import tiny_run

from rest_jax import main
from rest_jax.artifacts import manifests, records, stage_work
from rest_jax.commands import grading_sheet, points_table
from rest_jax.config import configuration
from rest_jax.evaluation import intervals

TEXTS = [
  '=1+1',
  '+SUM(A1)',
  '-5 degrees',
  '@cmd',
  "'quoted",
  '\t=tab',
  '\n=line',
  '\uff1dwide',
  'two\nlines, "quotes"; and\r\nmore\rends',
  'árvíztűrő ∑ 😀',
  'bell\x07 and \u202eturned',
  '   spaces around   ',
  '',
  '12e5',
  'x' * 40_000,
]


def rows(texts=TEXTS):
  return [
    {
      'problem_id': f'exam/test/{i:02d}',
      'sample_index': 0,
      'finish_reason': 'eos',
      'question': f'={i}?',
      'completion': text,
    }
    for i, text in enumerate(texts)
  ]


def grid(data, delimiter=','):
  text = data.decode('utf-8-sig')
  return list(csv.reader(io.StringIO(text, newline=''), delimiter=delimiter))


def saved(lines, *, delimiter=',', encoding='utf-8', end='\r\n'):
  out = io.StringIO()
  csv.writer(
    out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL
  ).writerows(lines)
  return out.getvalue().encode(encoding)


def filled(data, points=1, top=2):
  lines = grid(data)
  at = [lines[0].index(name) for name in ('max_points', 'points')]
  for line in lines[1:]:
    line[at[0]], line[at[1]] = str(top), str(points)
  return lines


def change(lines, row, name, value):
  lines[row - 1][lines[0].index(name)] = value
  return lines


def refused(lines, *messages):
  with pytest.raises(configuration.ConfigurationError) as caught:
    points_table.read(saved(lines), 'sheet.csv')
  for message in messages:
    assert message in str(caught.value)


def test_no_cell_can_run_as_a_formula_and_none_is_too_long_for_excel():
  data = points_table.write(rows(), None)
  assert data.startswith(b'\xef\xbb\xbf')
  lines = grid(data)
  assert lines[0] == list(points_table.COLUMNS) and len(lines) == len(TEXTS) + 1
  for cell in sum(lines[1:], []):
    assert not cell.startswith(tuple('=+-@\t\r\n\uff1d')), cell
    assert len(cell) < 32_767
    assert '\x07' not in cell and '\u202e' not in cell
  last = lines[-1][lines[0].index('completion')]
  assert last.endswith('[cut: 8,000 characters more]')


def test_what_a_spreadsheet_does_on_its_way_changes_nothing():
  data = points_table.write(rows(), None)
  expected = points_table.read(saved(filled(data)), 's')
  assert [a.problem_id for a in expected] == [r['problem_id'] for r in rows()]
  assert {(a.points, a.max_points) for a in expected} == {(1.0, 2.0)}
  shuffled = filled(data)
  shuffled[1:] = random.Random(0).sample(shuffled[1:], len(TEXTS))
  without = [
    [cell.removeprefix("'") if cell != "''quoted" else cell for cell in line]
    for line in filled(data)
  ]
  wide = [[*line, '', ''] for line in filled(data)]
  for way in (
    saved(filled(data), delimiter=';', encoding='utf-8-sig'),
    saved(filled(data), delimiter='\t', end='\n'),
    saved(filled(data), end='\r'),
    saved(shuffled),
    saved(without),
    saved([[cell.strip() for cell in line] for line in filled(data)]),
    saved(wide) + b',,,\r\n',
    saved(
      [[cell.replace('\n', '\r\n') for cell in line] for line in filled(data)]
    ),
  ):
    assert points_table.read(way, 's') == expected


def test_points_may_have_a_decimal_comma():
  data = points_table.write(rows(['a']), 3)
  lines = change(grid(data), 2, 'points', '1,5')
  [answer] = points_table.read(saved(lines, delimiter=';'), 's')
  assert (answer.points, answer.max_points) == (1.5, 3.0)


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('points', 'two', "cell H3 (points): got 'two'; expected a number"),
    ('points', '', 'cell H3 (points): empty'),
    ('points', '-1', "cell H3 (points): got '-1'"),
    ('points', 'nan', "got 'nan'"),
    ('points', 'inf', "got 'inf'"),
    ('points', '2.5', 'cell H3 (points): got 2.5, above max_points (2)'),
    ('max_points', '', 'cell G3 (max_points): empty'),
    ('max_points', '0', 'cell G3 (max_points): got 0; allowed: above 0'),
    ('completion', 'better', 'cell F3 (completion): this row is not as it was'),
    ('problem_id', 'exam/test/09', 'cell F3 (completion)'),
    ('sample_index', '7', 'cell F3 (completion)'),
    ('digest', 'd0', 'cell F3 (completion)'),
    ('row', '1 of 4', '1 of 4 stands twice'),
    ('row', '2 of 3', 'rows of several sheets, of 3 and 4 rows'),
    ('row', '2/4', "expected such as '3 of 33'"),
  ],
)
def test_what_is_wrong_is_named_by_its_cell(name, value, message):
  lines = filled(points_table.write(rows('abcd'), None))
  refused(change(lines, 3, name, value), message)


def test_all_errors_are_listed_at_once_and_lost_rows_too():
  lines = filled(points_table.write(rows('abcd'), None), points='x')
  del lines[2]
  refused(lines, 'cell H2', 'cell H3', 'cell H4', 'rows are missing: 2 of 4')


def test_a_row_that_stands_twice_is_refused():
  lines = filled(points_table.write(rows('ab'), None))
  refused([*lines, lines[1]], 'cell A4 (row): 1 of 2 stands twice')


def test_a_problem_gives_the_same_points_for_every_sample():
  two = rows('aa')
  two[1] |= {'problem_id': two[0]['problem_id'], 'sample_index': 1}
  lines = filled(points_table.write(two, None))
  refused(change(lines, 3, 'max_points', '3'), 'got 3, and 2 in another row')


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'', 'lacks row'),
    (b'row,points\r\n', 'lacks problem_id'),
    ('row,pört'.encode('latin-1'), 'not UTF-8'),
    (','.join(points_table.COLUMNS).encode(), 'holds no row'),
  ],
)
def test_a_file_that_is_no_sheet_is_refused(data, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    points_table.read(data, 's')


def answer(problem, points, top, index=0):
  return points_table.Answer(
    problem_id=problem,
    sample_index=index,
    max_points=top,
    points=points,
    comment='',
  )


def test_the_score_is_the_share_of_all_points_with_samples_averaged():
  found = grading_sheet.score(
    [answer('a', 1, 2), answer('b', 4, 10), answer('b', 6, 10, 1)]
  )
  assert found['total']['value'] == pytest.approx((1 + 5) / 12)
  assert found['total']['n'] == 2 and found['total']['num_samples'] == 3
  assert [row['value'] for row in found['problems']] == [0.5, 0.5]
  # Each problem gave half of its points, so that the bootstrap has no width.
  assert found['total']['ci_low'] < 0.4 and found['total']['ci_high'] > 0.6


def test_the_interval_holds_the_score_as_often_as_it_says():
  """500 exams of 30 problems: 95 % covered, at least 90 % (odds 1 : 10^4)."""
  rng = random.Random(0)
  covered = 0
  truth = 0.6  # of every problem's points, on average
  for seed in range(500):
    answers = []
    for _ in range(30):
      top = rng.choice([2, 3, 10])
      answers.append((sum(rng.random() < truth for _ in range(top)), top))
    parts, wholes = np.array(answers, float).T
    _, low, high = intervals.ratio_bootstrap(parts, wholes, 300, seed)
    covered += low <= truth <= high
  assert covered >= 450, covered


# ---- the command ------------------------------------------------------------


@pytest.fixture
def exam(tmp_path):
  """Folders of problems and samples, two samples each."""
  questions = {'10': 'Ten?', '9': '=nine?'}
  problems = tiny_run.problems(tmp_path / 'problems', questions)
  digest = manifests.load(problems).digest
  with stage_work.work_on(
    tmp_path / 'samples',
    stage='sample',
    kind=records.Sample,
    semantic={},
    inputs={'problems': digest},
    version=1,
  ) as work:
    made = [
      records.Sample(
        problem_id=f't/train/{key}',
        sample_index=index,
        stream='eval/sampled',
        policy_digest='p',
        prompt_digest='q',
        token_ids=[1],
        target_length=1,
        text=f'=answer {key}\n{index}',
        logprobs=[0.0],
        sampling_logprobs=[0.0],
        finish_reason='eos',
        engine_fingerprint='e',
      )
      for key in questions
      for index in (1, 0)
    ]
    work.write(records.part_name(0, 1), made, source='x')
    work.finish()
  return tmp_path


def command(*flags):
  return main.exit_code(lambda: main.run(['grading-sheet', *flags]), 'rest-jax')


def test_a_sheet_is_exported_filled_and_imported(exam, capsys):
  out = exam / 'sheet.csv'
  flags = [f'--samples={exam}/samples', f'--problems={exam}/problems']
  assert command('--export', *flags, f'--output={out}') == 0
  lines = grid(out.read_bytes())
  ids = [(line[1], line[2]) for line in lines[1:]]
  assert ids == [
    ('t/train/9', '0'),
    ('t/train/9', '1'),
    ('t/train/10', '0'),
    ('t/train/10', '1'),
  ]
  assert lines[1][4:6] == ["'=nine?", "'=answer 9\n0"]
  for line, value in zip(lines[1:], ['3', '1', '0', '0,5'], strict=True):
    line[6], line[7] = ('4' if '/9' in line[1] else '1'), value
  out.write_bytes(saved(lines, delimiter=';'))
  results = exam / 'results.json'
  assert command('--import', str(out), f'--output={results}') == 0
  text = capsys.readouterr().out
  assert 'points: 2.25 of 5: 45.0%' in text
  total = json.loads(results.read_text())['total']
  assert total['value'] == pytest.approx(2.25 / 5)
  assert total['ci_low'] <= total['value'] <= total['ci_high']
  assert math.isfinite(total['ci_low'])


def test_a_refused_command_writes_nothing(exam, capsys):
  out = exam / 'sheet.csv'
  flags = [f'--samples={exam}/samples', f'--problems={exam}/problems']
  assert command('--export', *flags, f'--output={out}') == 0
  before = out.read_bytes()
  assert command('--export', *flags, f'--output={out}') == 2
  assert 'may hold points' in capsys.readouterr().err
  results = exam / 'results.json'
  assert command(f'--import={out}', f'--output={results}') == 2
  assert 'cell H2 (points): empty' in capsys.readouterr().err
  assert command(f'--import={out}', f'--output={out}') == 2
  assert command(f'--import={exam}/none.csv', f'--output={results}') == 2
  assert out.read_bytes() == before and not results.exists()
  other = tiny_run.problems(exam / 'other', {'1': 'else?'})
  flags = [f'--samples={exam}/samples', f'--problems={other}']
  assert command('--export', *flags, f'--output={exam}/o.csv') == 2
  assert 'not samples of' in capsys.readouterr().err
  assert not (exam / 'o.csv').exists()
