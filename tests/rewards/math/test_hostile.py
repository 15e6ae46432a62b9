"""Text that is written to break, stall or cheat the math grader.

Every case is decided in about 50 ms of CPU at most, all of them in 256 MB, and
nothing that a completion says is run.
"""

import json
import random
import subprocess
import sys

import cost
import math_rewritings
import pytest

from rest_jax.rewards.math import math_answer
from rest_jax.rewards.text import bbh, exact

LIMIT = 4  # millions of passes of an empty loop: about 50 ms
MEMORY = 256 << 20  # bytes

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)
_ROOTS = '+'.join(f'\\sqrt{{{prime}}}' for prime in _PRIMES)
# Never equal to 3, nor to 2x + sqrt 3.
DEAR = [
  '9^{9^{9^{9}}}',
  '{' * 200 + '9' + '}' * 200,
  '2^{' * 90 + '2' + '}' * 90,
  '2^-' * 100 + '2',
  '10^{10^{10}}',
  '3^{9999}\\cdot 7^{9999}',
  '(\\frac{3}{7})^{9000}',
  '1' + '!' * 400,
  '((9!)!)!',
  '(((3!)!)!)!',
  '1000000!',
  '2500!\\cdot 2499!\\cdot 2498!',
  '+'.join(f'{n}!' for n in range(2400, 2470)),
  ','.join(f'{n}!' for n in range(2400, 2480)),
  '\\binom{10^9}{10^8}',
  '\\binom{2500}{1250}' * 20,
  '(x+1)^{10000}-(x-1)^{10000}',
  '(a+b+c+d+x+y+z)^{60}',
  ','.join(['(a+b+c+d)^{60}'] * 30),
  ','.join(f'(a+\\pi)^{{{n}}}' for n in range(150, 180)),
  ','.join(f'\\sin^{{{n}}}(x)' for n in range(45)),
  '0^{9999}+1',
  'x^{10^{9}}',
  '\\sqrt{2}^{10^{9}}',
  ','.join(['\\sin(\\sin(x))'] * 30),
  '*'.join(f'(x+y+{n})' for n in range(50)),
  '\\frac{1}{' * 25 + 'x+1' + '}' * 25,
  _ROOTS,
  f'({_ROOTS})^{{20}}',
  f'\\frac{{1}}{{{_ROOTS}}}',
  '\\sqrt{' * 40 + '2' + '}' * 40,
  '\\sqrt' * 90 + '2',
  '\\sqrt[97]{' + '9' * 200 + '}',
  '\\sqrt{' + '9' * 290 + '}',
  '\\sqrt{1000003000001000043000003}',
  '9' * 500,
  '0.' + '9' * 490,
  '\\frac{1}{' + '7' * 200 + '}+\\frac{1}{' + '3' * 200 + '}',
  '+'.join(f'\\frac{{1}}{{{n}}}' for n in range(1001, 1035)),
  '0.\\overline{' + '1' * 300 + '}',
  '\\sin(' * 60 + 'x' + ')' * 60,
  '+'.join(f'\\sin({n}x)' for n in range(1, 45)),
  '\\cos(x)\\cos(y)' * 25,
  '\\arctan(' * 40 + 'x' + ')' * 40,
  '\\log_{2}' * 50 + '8',
  'e^{' * 60 + '9' + '}' * 60,
  'e^{e^{e^{9}}}',
  'x^{\\sqrt{2}}' * 30,
  '+'.join(f'x^{{{n}/7}}' for n in range(1, 50)),
  '(1+i)^{9999}',
  '\\frac{x^{9999}-1}{x-1}',
  '(' * 245 + '3' + ')' * 245,
  '|' * 400,
  '-' * 499 + '3',
  '1/' * 249 + '3',
  '1,' * 249 + '3',
  '1 or ' * 99 + '3',
  '\\pm' * 160 + '3',
  '[0,1)\\cup' * 50 + '[0,1)',
  '\\begin{pmatrix}' + '&'.join(['x+1'] * 90) + '\\end{pmatrix}',
  '\\begin{pmatrix}' * 30,
  '1=' * 249 + '3',
  '1<' * 249 + '3',
  '1:' * 249 + '3',
  'a=' * 249 + '3',
  '{area=}' * 60 + '3',
  'x_' * 249 + '3',
  "x'" * 249,
  '_' * 500,
  '^' * 500,
  '\\' * 499,
  '$' * 500,
  '\\text{' + 'or ' * 160 + '}',
  '\\text{' * 80,
  '\\phantom{' * 50,
  '\\frac' * 100,
  '\\left' * 100,
  '\\,' * 249,
  '.' * 500,
  '\\$' * 249,
  '\\%' * 249,
  ' ' * 499,
  '\u0663' * 400,
  '\u221a' * 400,
  "exec(\"open('/tmp/pwn','w')\")",
  "__import__('os').system('id')",
  'f\'{__import__("os").getpid()}\'',
  '{0.__class__.__mro__}',
  '(lambda: 3)()',
  '%s%s%s%n',
]
# Whole completions that hold no right answer.
LONG = [
  '12.5 ' * 100_000,
  '\\boxed{' + '{' * 50_000,
  '\\boxed{' * 20_000,
  '\\boxed{' * 30 + '{' * 100_000,
  '\\boxed{1}' * 20_000,
  '\\boxed ' * 20_000,
  '\\boxed' + ' ' * 150_000,
  '\\boxed{' + '(' * 2000 + '1' + ')' * 2000 + '}',
  '\\boxed{' + '1' * 100_000 + '}',
  '\\boxed{' + '\\{' * 50_000 + '}',
  'the answer is ' * 14_000,
  'the answer is' + ' ' * 150_000,
  'answer is 1 ' * 60,
  'the ' * 50_000,
  'Problem' * 28_000,
  '\\boxed{7}' + 'x' * 1_000_000,
  '$' * 199_000,
  '\n' * 199_000,
  '\\' * 199_000,
  '\u0663' * 199_000,
]


@pytest.mark.parametrize('text', DEAR, ids=lambda text: text[:24])
def test_dear_answers_are_decided_in_time(text):
  completion = f'\\boxed{{{text}}}'
  for reference in ('3', '2x+\\sqrt3', '\\sin x+\\sqrt{x+1}', 'x+1'):
    assert cost.in_loops(math_answer.grade, completion, reference) < LIMIT
    assert math_answer.grade(completion, reference).reward == 0
  # as a reference, and beside themselves but for a term
  assert cost.in_loops(math_answer.equivalent, text, f'{text}+1') < 2 * LIMIT
  assert not math_answer.equivalent(text, f'{text}+1')
  assert cost.in_loops(math_answer.canonical, text) < LIMIT


@pytest.mark.parametrize('text', LONG, ids=lambda text: text[:24])
def test_long_completions_are_decided_in_time(text):
  for grade in (math_answer.grade, exact.grade_gsm8k, bbh.grade):
    assert cost.in_loops(grade, text, '3') < LIMIT
    assert grade(text, '3').reward == 0


def test_a_thousand_mutilated_answers_raise_nothing():
  draw = random.Random(0)
  pieces = (
    '^ ^{ } { ( ) [ ] | , = < ! _ & \\\\ \\frac \\sqrt \\sqrt[3] \\pi i e x '
    '\\sin \\log_ \\binom \\pm \\cup \\infty \\text{ \\le \\begin{pmatrix} '
    "\\end{pmatrix} \\{ \\} \\% \\$ . 0 9 99 ^\\circ : f( ' or \\mathrm{ "
    '\\overline{ ^{-1} 0.\\overline{3} \\phantom \\mathbb{R} \\frac. \\frac12'
  ).split()

  def decide(text):
    math_answer.equivalent(text, text[:-1])
    math_answer.canonical(text)

  for _ in range(4000):
    text = ''.join(draw.choice(pieces) for _ in range(draw.randint(1, 25)))
    assert cost.in_loops(decide, text) < 2 * LIMIT, text
    assert not math_answer.equivalent(text, f'{text}+1'), text


# Python converts no integer of more than 4,300 digits to decimal.
HUGE = [
  '10^{5000}',
  'x^{10^{5000}}',
  'e^{10^{5000}}',
  '\\pi^{10^{4500}}',
  '\\frac{10^{5000}}{3}',
  '10^{5000}x+1',
  '\\sqrt{10^{5000}}',
  '|x-10^{5000}|',
  '(1,10^{5000})',
  'x<10^{5000}',
  '10^{5000}:3',
  'x^{9^{5000}/7^{5000}}',
  'i^{10^{5000}}',
  '\\binom{2000}{1000}',
  '1' * 450,
  '1' * 5000,
]


@pytest.mark.parametrize('text', HUGE, ids=lambda text: text[:24])
def test_integers_beyond_pythons_limit_raise_nothing(text):
  for reference in ('3', '\\sqrt2', 'x+1', *HUGE):
    verdict = math_answer.grade(f'\\boxed{{{text}}}', reference)
    assert verdict.reward == (reference == text and len(text) <= 500)
  for grade in (exact.grade_number, exact.grade_gsm8k, bbh.grade):
    assert grade(f'The answer is {text}', '3').reward == 0


def hostile_cases():
  if not math_rewritings.HOSTILE.exists():
    return []
  lines = math_rewritings.HOSTILE.read_text().splitlines()
  return [case for case in map(json.loads, lines) if case['cat'] in 'MGB']


# What must be right; all else is worth nothing. The cases marked "policy" are
# decided in docs/rewards.md.
RIGHT = frozenset(
  'M47 M53 M67 M71 M73 M79 M81 M87 M89 G01 G03 G05 G07 G19 B01 B07 B09'.split()
)


@pytest.mark.skipif(not hostile_cases(), reason='../shared is not here')
def test_the_hostile_set_is_decided_as_required_and_in_time():
  grades = {
    'M': math_answer.grade,
    'G': exact.grade_gsm8k,
    'B': bbh.grade,
  }
  cases = hostile_cases()
  assert {case['id'] for case in cases} >= RIGHT
  for case in cases:
    grade = grades[case['cat']]
    verdict = grade(case['pred'], case['gold'])
    assert verdict.reward == (case['id'] in RIGHT), case
    must = case['req'].split()[0]
    if must in ('0', '1'):
      assert verdict.reward == int(must), case
    assert cost.in_loops(grade, case['pred'], case['gold']) < LIMIT, case['id']


def test_all_of_it_fits_in_256_megabytes_and_runs_nothing(tmp_path, root):
  program = (
    'import json, resource, sys\n'
    f'resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))\n'
    'from rest_jax.rewards.math import math_answer\n'
    'banned = ("eval", "exec", "compile", "open", "os.", "subprocess.", '
    '"socket.")\n'
    'texts = json.load(sys.stdin)\n'
    'math_answer.grade("\\\\boxed{x+1}", "\\\\sin(x)")\n'
    'def hook(event, _):\n'
    '  if event.startswith(banned) or event == "import":\n'
    '    print(event); raise SystemExit(3)\n'
    'sys.addaudithook(hook)\n'
    'for text in texts:\n'
    '  math_answer.grade(text, "2x+\\\\sqrt3")\n'
    '  math_answer.canonical(text)\n'
    'print("done")\n'
  )
  texts = [f'\\boxed{{{text}}}' for text in DEAR] + DEAR + LONG
  result = subprocess.run(
    [sys.executable, '-c', program],
    input=json.dumps(texts),
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env={'PYTHONPATH': str(root)},
  )
  assert result.stdout.strip() == 'done', result.stdout + result.stderr[-2000:]


def test_no_module_of_the_grader_names_what_could_run_text(root):
  folder = root / 'rest_jax' / 'rewards' / 'math'
  modules = [*folder.glob('*.py')]
  assert len(modules) > 10
  for path in modules:
    source = path.read_text()
    for name in (
      'eval(',
      'exec(',
      'import ast',
      'sympy',
      'signal.',
      '__import',
    ):
      assert name not in source, (path.name, name)
