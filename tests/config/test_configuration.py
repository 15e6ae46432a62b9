"""Configurations are checked when built, and know their semantic part."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from rest_jax.config import configuration
from rest_jax.config.configuration import ConfigurationError, operational


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(configuration.Configuration):
  rate: float = 0.5
  workers: int = operational(4)

  def check(self):
    self.require(0 <= self.rate <= 1, 'rate', '0 to 1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(configuration.Configuration):
  name: str
  kind: Literal['a', 'b'] = 'a'
  sizes: Sequence[int] = ()
  pair: tuple[int, str] = (1, 'x')
  table: Mapping[str, float] = dataclasses.field(default_factory=dict)
  limit: int | None = None
  inner: Inner = Inner()
  anything: Any = None


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('name', 3, r'Outer.name: got 3 \(int\); expected str'),
    ('kind', 'c', r"Outer.kind: got 'c'; allowed: 'a' \| 'b'"),
    ('sizes', 'abc', r"Outer.sizes: got 'abc'"),
    ('sizes', [1, 2.5], r'Outer.sizes\[1\]: got 2.5 \(float\); expected int'),
    ('sizes', 3, 'Outer.sizes'),
    ('pair', (1, 2, 3), 'Outer.pair'),
    ('pair', ('x', 1), r'Outer.pair\[0\]'),
    ('table', {'x': 'y'}, r"Outer.table\['x'\]"),
    ('limit', 'none', 'Outer.limit'),
    ('limit', True, 'Outer.limit'),
    ('inner', {'rate': 1}, r'Outer.inner: .*expected .*Inner'),
  ],
)
def test_a_wrong_type_names_the_field_what_was_got_and_what_is_allowed(
  field, value, message
):
  with pytest.raises(ConfigurationError, match=message):
    Outer(**({'name': 'n'} | {field: value}))


def test_int_widens_to_float_and_lists_become_tuples():
  made = Outer(name='n', sizes=[1, 2], table={'x': 1}, inner=Inner(rate=1))
  assert made.sizes == (1, 2)
  assert isinstance(made.table['x'], float)
  assert isinstance(made.inner.rate, float)


def test_a_value_that_does_not_fit_names_the_allowed_ones():
  with pytest.raises(ConfigurationError, match='Inner.rate: got 1.5; allowed'):
    Inner(rate=1.5)


def test_the_semantic_part_leaves_out_operational_fields_at_any_depth():
  one = Outer(name='n', inner=Inner(workers=1))
  other = Outer(name='n', inner=Inner(workers=9))
  assert one != other
  assert configuration.semantics(one) == configuration.semantics(other)
  assert configuration.semantics([one, {'x': (1, one)}])[1]['x'][1] == (
    configuration.semantics(one)
  )
  changed = Outer(name='n', inner=Inner(rate=0.25))
  assert configuration.semantics(one) != configuration.semantics(changed)


def test_a_checked_function_refuses_before_its_body_runs():
  ran = []

  @configuration.checked
  def stage(*, count: int, names: Sequence[str] = ()) -> None:
    ran.append((count, names))

  with pytest.raises(ConfigurationError, match='stage.count'):
    stage(count='3')
  assert ran == []
  stage(count=3, names=['a'])
  assert ran == [(3, ('a',))]
