"""Tests and candidates in two processes talk as if they were in one.

Python itself is the oracle: each program and its tests also run together in
this process, where they must pass.
"""

import pytest

from rest_jax.rewards.code import code_problems, programs
from rest_jax.rewards.code.programs import Limits, Tests

LIMITS = Limits(cpu_seconds=1.0)

# name: (program, tests); the function under test is f.
TOGETHER = {
  'a range': ('def f(x): return sum(x)', 'assert f(range(5)) == 10'),
  'a range returned': ('def f(x): return range(x)', 'assert f(3) == range(3)'),
  'dates': (
    'import datetime as dt\ndef f(d): return d + dt.timedelta(days=1)',
    'from datetime import date, datetime\n'
    'assert f(date(2024, 2, 28)) == date(2024, 2, 29)\n'
    'assert f(datetime(2024, 1, 1, 5)).day == 2',
  ),
  'time zones': (
    'import datetime as dt\ndef f(d): return d.astimezone(dt.timezone.utc)',
    'from datetime import *\n'
    'there = timezone(timedelta(hours=2))\n'
    'assert f(datetime(2024, 1, 1, 5, tzinfo=there)).hour == 3',
  ),
  'decimals and fractions': (
    'from fractions import Fraction\nfrom decimal import Decimal\n'
    'def f(x): return x + 1',
    'from fractions import Fraction\nfrom decimal import Decimal\n'
    'assert f(Fraction(1, 3)) == Fraction(4, 3)\n'
    'assert f(Decimal("0.1")) == Decimal("1.1")\n'
    'assert isinstance(f(Decimal(1)), Decimal)',
  ),
  'a deque': (
    'from collections import deque\n'
    'def f(q):\n  q.appendleft(0)\n  return deque(q, maxlen=2)',
    'from collections import deque\nq = deque([1])\n'
    'assert f(q) == deque([0, 1], maxlen=2) and q == deque([0, 1])',
  ),
  'named tuples': (
    'from collections import namedtuple\nR = namedtuple("R", "s p")\n'
    'def f(x): return R(x.a + x.b, x.a * x.b)',
    'from typing import NamedTuple\n'
    'class P(NamedTuple):\n  a: int\n  b: int\n'
    'assert f(P(3, 4)) == (7, 12) and f(P(1, 1)).s == 2\n'
    's, p = f(P(2, 2))\nassert s == p',
  ),
  'counters and default dicts': (
    'from collections import *\ndef f(x):\n  d = defaultdict(list)\n'
    '  for i in x: d[i].append(i)\n  return Counter(x), d',
    'c, d = f("aab")\nassert c.most_common(1) == [("a", 2)] and c["z"] == 0\n'
    'assert d["q"] == [] and d["a"] == ["a", "a"]',
  ),
  'views of a dict': (
    'def f(d): return d.keys(), d.values(), d.items()',
    'k, v, i = f({1: 2})\nassert k == {1} and list(v) == [2]\n'
    'assert (1, 2) in i',
  ),
  'an iterator': (
    'def f(x): return [y * 2 for y in x]',
    'assert f(iter([1, 2])) == [2, 4]\nassert f(i for i in range(3)) == '
    '[0, 2, 4]\nassert f(map(int, "12")) == [2, 4]',
  ),
  'a generator returned': (
    'def f(n):\n  i = 0\n  while True:\n    yield i\n    i += n',
    'from itertools import islice\ng = f(2)\n'
    'assert next(g) == 0 and next(g) == 2\n'
    'assert list(islice(f(3), 200)) == list(range(0, 600, 3))',
  ),
  'a generator that fails': (
    'def f(n):\n  yield from range(n)\n  raise ValueError("end")',
    'got = []\ntry:\n  for x in f(50): got.append(x)\n'
    'except ValueError as error:\n  got.append(str(error))\n'
    'assert got == [*range(50), "end"]',
  ),
  'a generator that is sent to': (
    'def f():\n  x = yield 1\n  yield x * 2',
    'g = f()\nassert next(g) == 1 and g.send(5) == 10',
  ),
  'a lambda': (
    'def f(g, x): return g(x)',
    'assert f(lambda x: x + 1, 3) == 4\nseen = []\n'
    'f(seen.append, 5)\nassert seen == [5]',
  ),
  'functions of the library': (
    'def f(g, *x): return list(map(g, x))',
    'import math, operator\nassert f(math.sqrt, 4.0) == [2.0]\n'
    'assert f(len, "ab") == [2] and f(str.upper, "a") == ["A"]\n'
    'assert f(int, "3") == [3] and f(operator.neg, 1) == [-1]',
  ),
  'a key function': (
    'def f(x, key): return sorted(x, key=key)',
    'assert f(["bb", "a"], key=lambda s: len(s)) == ["a", "bb"]\n'
    'assert f([1, -2], abs) == [1, -2]',
  ),
  'a decorator': (
    'import functools\ndef f(g):\n  @functools.wraps(g)\n'
    '  def inner(*a): return g(*a) * 2\n  return inner',
    'def three(): return 3\nassert f(three)() == 6',
  ),
  'functions within functions': (
    'def f(g): return lambda x: g(g(x))',
    'twice = f(lambda x: x + 1)\nassert twice(1) == 3\nassert f(twice)(0) == 4',
  ),
  'arguments changed in place': (
    'def f(x):\n  x.sort()\n  x.append(0)',
    'a = [3, 1]\nassert f(a) is None and a == [1, 3, 0]',
  ),
  'a matrix changed in place': (
    'def f(m):\n  for r in m: r.reverse()\n  m[0], m[1] = m[1], m[0]',
    'top = [1, 2]\nm = [top, [3, 4]]\nf(m)\n'
    'assert m == [[4, 3], [2, 1]] and top == [2, 1] and m[1] is top',
  ),
  'dicts, sets and bytes changed in place': (
    'def f(d, s, b):\n  d["n"] = {1}\n  s.clear()\n  b += b"!"',
    'd, s, b = {}, {1}, bytearray(b"a")\nf(d, s, b=b)\n'
    'assert d == {"n": {1}} and s == set() and b == b"a!"',
  ),
  'the argument returned': (
    'def f(x): return x',
    'a = [1]\nassert f(a) is a and f([a])[0] is a',
  ),
  'a subclass of an exception': (
    'import json\ndef f(x): return json.loads(x)',
    'try:\n  f("{")\n  assert False\nexcept ValueError as error:\n'
    '  assert "Expecting" in str(error)',
  ),
  'an exception of its own': (
    'class Empty(LookupError):\n  def __init__(self, size):\n'
    '    super().__init__(f"size {size}")\n    self.size = size\n'
    'def f(x): raise Empty(x)',
    'try:\n  f(3)\n  assert False\nexcept Empty as error:\n'
    '  assert error.size == 3 and str(error) == "size 3"\n'
    '  assert isinstance(error, LookupError)',
  ),
  'a KeyError': (
    'def f(d): return d["x"]',
    'try:\n  f({})\n  assert False\nexcept KeyError as error:\n'
    '  assert error.args == ("x",) and str(error) == "\'x\'"',
  ),
  "an exception of the tests' function": (
    'def f(g):\n  try: return g()\n  except ZeroDivisionError: return 7',
    'class Mine(Exception): pass\ndef fail(): raise Mine("x")\n'
    'assert f(lambda: 1 / 0) == 7\nmine = None\n'
    'try: f(fail)\nexcept Mine as error: mine = error\n'
    'assert str(mine) == "x"',
  ),
  'objects with a length, items and a text': (
    'class S:\n  def __init__(self): self.d = {}\n'
    '  def __len__(self): return len(self.d)\n'
    '  def __getitem__(self, k): return self.d[k]\n'
    '  def __setitem__(self, k, v): self.d[k] = v\n'
    '  def __delitem__(self, k): del self.d[k]\n'
    '  def __iter__(self): return iter(self.d)\n'
    '  def __str__(self): return "S!"\n'
    '  def __enter__(self): return 5\n  def __exit__(self, *a): self.d = {}\n'
    'def f(): return S()',
    's = f()\nassert len(s) == 0 and not s\ns["a"] = 1\n'
    'assert s["a"] == 1 and "a" in s and list(s) == ["a"] and bool(s)\n'
    'assert str(s) == "S!" and f"{s}" == "S!"\n'
    'with s as five: assert five == 5\nassert len(s) == 0\n'
    'assert isinstance(s, S)',
  ),
  'private attributes': (
    'class A:\n  def __init__(self): self._items = [1]\ndef f(): return A()',
    'assert f()._items == [1]',
  ),
  "objects of the tests' class": (
    'def f(head):\n  last = None\n  while head:\n'
    '    head.next, last, head = last, head, head.next\n  return last',
    'class Node:\n  def __init__(self, v, n=None): self.v, self.next = v, n\n'
    'a, b = Node(1), Node(2)\na.next = b\n'
    'assert f(a) is b and b.next is a and a.next is None',
  ),
  'objects that are compared': (
    'def f(x): return sorted(x), max(x), sum(x[1:], x[0])',
    'import functools\n@functools.total_ordering\nclass V:\n'
    '  def __init__(self, v): self.v = v\n'
    '  def __lt__(self, o): return self.v < o.v\n'
    '  def __eq__(self, o): return self.v == o.v\n'
    '  def __add__(self, o): return V(self.v + o.v)\n'
    'a, b = V(2), V(1)\ns, m, t = f([a, b])\n'
    'assert s[0] is b and m is a and t.v == 3',
  ),
  'a file': (
    'def f(file): return [line.strip() for line in file]',
    'import io\nassert f(io.StringIO("a\\nb\\n")) == ["a", "b"]',
  ),
  'a type under test': (
    'f = str',
    'assert f(3) == "3"',
  ),
}


@pytest.fixture(scope='module')
def grader():
  try:
    with programs.Grader() as one:
      assert one.tier
      yield one
  except programs.SandboxUnavailable as error:
    pytest.skip(str(error))


@pytest.mark.parametrize('name', TOGETHER)
def test_what_passes_in_one_process_passes_in_two(grader, name):
  program, source = TOGETHER[name]
  exec(f'{program}\n{source}', {'__name__': 'together'})  # our own text
  verdict = grader.grade(program, Tests.check('f', source), LIMITS)
  assert verdict.outcome == 'correct', verdict


SECRET = '7719'
# Each gets a function, an iterator and an object of the tests' class, and must
# find neither the expected value nor a way to change the tests.
THIEVES = {
  'globals of a function': 'return g.__globals__["EXPECTED"]',
  'closure of a function': 'return g.__closure__[0].cell_contents',
  'code of a function': 'return g.__code__.co_consts',
  'frame of a generator': 'return it.gi_frame.f_globals["EXPECTED"]',
  'class of an object': 'return o.__class__.secret',
  'dict of an object': 'return o.__dict__["_secret"]',
  'private attribute': 'return o._secret',
  'method of an object': 'return o.method.__globals__["EXPECTED"]',
  'a module in an attribute': 'return o.module.EXPECTED',
  'reduce': 'return o.__reduce__()',
  'a method replaced': 'o.method = lambda: 1\nreturn o.secret_of()',
  'a raw request': (
    'ask = object.__getattribute__(o, "_ask")\nreturn ask("get", o, "_secret")'
  ),
  'a raw operator': (
    'ask = object.__getattribute__(o, "_ask")\n'
    'return ask("operator", o, "__getattribute__", "_secret")'
  ),
  'a raw built-in': (
    'ask = object.__getattribute__(o, "_ask")\n'
    'return ask("operator", o, "vars")["_secret"]'
  ),
  'a raw eval': (
    'ask = object.__getattribute__(o, "_ask")\n'
    'return ask("operator", o, "eval", "EXPECTED")'
  ),
  'a known name of the tests': (
    'from rest_jax.rewards.code.sandbox import codec\n'
    'return codec.Built("global", ("builtins", "eval"))'
  ),
}


@pytest.mark.parametrize('name', THIEVES)
def test_the_tests_objects_do_not_betray_them(grader, name):
  body = '\n'.join(f'  {line}' for line in THIEVES[name].split('\n'))
  tests = Tests.check(
    'f',
    f'import sys\nEXPECTED = {SECRET}\nclass O:\n'
    f'  def __init__(self):\n    self._secret = {SECRET}\n'
    '    self.module = sys.modules\n'
    '  def method(self): return self._secret\n'
    '  def secret_of(self): return 0\n'
    f'def items():\n  hidden = {SECRET}\n  yield 1\n'
    'def check(candidate):\n  hidden = EXPECTED\n'
    '  assert candidate(lambda: bool(hidden), items(), O()) == EXPECTED\n',
  )
  verdict = grader.grade(f'def f(g, it, o):\n{body}', tests, LIMITS)
  assert verdict.outcome in ('wrong', 'crashed'), verdict


LIARS = {
  'bool': 'def __bool__(s): return True',
  'contains': 'def __contains__(s, x): return True',
  'order': 'def __lt__(s, o): return True\n  __gt__ = __le__ = __ge__ = __lt__',
  'difference': 'def __sub__(s, o): return 0\n  __rsub__ = __sub__',
  'hash': 'def __hash__(s): return hash(7719)\n  def __eq__(s, o): return True',
  'length': 'def __len__(s): return 7719',
}


@pytest.mark.parametrize('name', LIARS)
def test_an_object_that_lies_about_itself_is_no_answer(grader, name):
  program = f'class L:\n  {LIARS[name]}\ndef f(*a): return L()'
  for source in (
    'assert f() == 7719',
    'assert abs(f() - 7719) < 1e-6',
    'assert f() < 7720 and f() > 7718',
    'assert 7719 in f()',
    'assert f() in (7719, 5)',
    'assert f() in {7719: 1}',
    'assert sorted(f()) == [7719]',
    'assert not f() != 7719',
  ):
    verdict = grader.grade(program, Tests.check('f', source), LIMITS)
    assert verdict.outcome in ('wrong', 'crashed'), (source, verdict)


BROKEN = {
  'an import that is not there': 'import numpy_of_mine\nassert f(1) == 1',
  'a failure before the first call': 'x = [][3]\nassert f(1) == 1',
  'a value nested deep': (
    'x = []\nfor _ in range(5000): x = [x]\nassert f(x) == 1'
  ),
  'a module handed over': 'import math\nassert f(math) == 1',
}


@pytest.mark.parametrize('name', BROKEN)
def test_tests_that_cannot_be_run_are_no_programs_fault(grader, name):
  for program in ('def f(x): return 1', 'def f(x): return 2', 'f = str'):
    verdict = grader.grade(program, Tests.check('f', BROKEN[name]), LIMITS)
    assert verdict.outcome == 'harness_error', verdict


@pytest.mark.parametrize(
  'program',
  [
    'f = 3',
    'def f(x):\n  y = []\n  for _ in range(95): y = [y]\n  return y',
    'def f(x): return "x" * (40 << 20)',
    'def f(x): raise ImportError("x")',
    'def f(x): raise NameError("x")',
  ],
)
def test_what_a_program_returns_never_breaks_the_tests(grader, program):
  source = 'assert f([[[[[f([1])] * 2]]]]) == 1\nassert f(2) == 1'
  verdict = grader.grade(program, Tests.check('f', source), LIMITS)
  assert verdict.outcome in ('wrong', 'crashed', 'timeout'), verdict


@pytest.mark.parametrize('named', [True, False])
def test_tests_may_call_the_function_by_its_name(grader, named):
  """As MultiPL-E's do, whose rows name no entry point."""
  row = {
    'prompt': (
      'def base(x):\n    return 2 * x\n\n\ndef f(x):\n    """Three."""\n'
    ),
    'test': (
      'def check(candidate):\n    assert candidate(1) == base(1) + 1\n\n'
      'def test_check():\n    check(f)\n\ntest_check()\n'
    ),
  }
  if named:
    row |= {'entry_point': 'f', 'test': 'assert f(1) == base(1) + 1\n'}
  tests = code_problems.tests('humaneval', row)
  for body, outcome in (('3 * x', 'correct'), ('2 * x', 'wrong')):
    program = code_problems.program('humaneval', row, f'    return {body}\n')
    assert grader.grade(program, tests, LIMITS).outcome == outcome


def test_a_prompt_may_end_without_a_docstring(grader):
  row = {'prompt': 'def f(x):\n', 'test': 'assert f(1) == 2\n'}
  tests = code_problems.own(row)
  for body, outcome in (('x + 1', 'correct'), ('x', 'wrong')):
    program = code_problems.program('humaneval', row, f'    return {body}\n')
    assert grader.grade(program, tests, LIMITS).outcome == outcome


@pytest.mark.parametrize(
  ('references', 'wrapped'),
  [
    (['def f(n): return [n]'], False),
    (['def f(n): return n'], True),
    (['def f(n): return 5', 'def f(n): return [n]'], False),
    (['def f(n): return 5'], False),
    ([], True),  # without any, as the data set's are
  ],
)
def test_an_apps_rows_references_say_whether_outputs_are_wrapped(
  grader, references, wrapped
):
  row = {
    'input_output': {'fn_name': 'f', 'inputs': [[4]], 'outputs': [[4]]},
    'solutions': references,
  }
  tests = Tests.from_json(code_problems.tests('apps', row).to_json())
  for value, right in (('n', wrapped), ('[n]', not wrapped)):
    program = f'def f(n): return {value}'
    assert grader.grade(program, tests, LIMITS).reward == right


def test_outputs_of_ones_own_are_the_values_as_they_stand(grader):
  tests = code_problems.own({'fn_name': 'f', 'inputs': [[4]], 'outputs': [[4]]})
  assert grader.grade('def f(n): return [n]', tests, LIMITS).reward == 1
  assert grader.grade('def f(n): return n', tests, LIMITS).reward == 0
