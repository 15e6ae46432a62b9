"""JSON as users write it: long integers, numbers' texts, odd characters."""

import json
import random

import pytest

from rest_jax.artifacts import json_lines
from rest_jax.config import configuration

LONG = int('7' * 4000) ** 3  # 12,000 digits


@pytest.mark.parametrize(
  'value',
  [LONG, -LONG, [LONG, {'a': [1, LONG, 'x']}], 10**4299, 10**4300, 10**5000],
  ids=range(6),
)
def test_integers_of_any_length_come_back(value):
  assert json_lines.loads(json_lines.dumps({'v': value}))['v'] == value


def test_other_values_are_written_as_json_writes_them():
  source = random.Random(0)
  for _ in range(200):
    value = [
      source.choice([None, True, 1.5, -3, 'é\n"', {'k': [1]}, []])
      for _ in range(5)
    ]
    assert json_lines.dumps(value) == json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize('text', ['\ud83d', 'a\udfff"\\', '\U0001f600\ud83d'])
def test_half_of_a_surrogate_pair_is_escaped_and_comes_back(text):
  line = json_lines.dumps({'id': text})
  assert json_lines.row(line.encode())['id'] == text
  with pytest.raises(ValueError, match='not UTF-8'):
    json_lines.dumps(text, escape=False)


@pytest.mark.parametrize(
  ('line', 'reason'),
  [
    (b'[' * 100_000, 'nested too deep'),
    (b'{"a":' * 100_000, 'nested too deep'),
    (b'{"a": NaN}', 'NaN is not JSON'),
    (b'{"a": -Infinity}', 'is not JSON'),
    (b'{"a": ' + b'1' * 100_001 + b'}', 'more than 100,000 digits'),
    (b'{"a": "\xff"}', 'not UTF-8'),
    (b'3', 'got int'),
    (b'', 'not valid JSON'),
  ],
)
def test_what_is_no_row_is_refused_with_its_reason(tmp_path, line, reason):
  with pytest.raises(ValueError, match=reason):
    json_lines.row(line)
  path = tmp_path / 'rows.jsonl'
  path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n' + line + b'\n{}\n')
  rows = json_lines.read(path)
  assert next(rows) == (1, b'{"a": 1}\n', {'a': 1})
  if line:  # an empty line is passed over
    with pytest.raises(configuration.ConfigurationError, match=r'jsonl:3: '):
      next(rows)


@pytest.mark.parametrize(
  ('typed', 'text'),
  [
    ('0.00001', '0.00001'),
    ('1E-5', '0.00001'),
    ('1e22', '1' + '0' * 22),
    ('-2.50', '-2.50'),
    ('1.5e1', '15'),
    ('1234567890123456789.25', '1234567890123456789.25'),
    ('12', '12'),
  ],
)
def test_the_text_of_a_number_is_the_one_in_the_file(typed, text):
  line = f'{{"a": {typed}, "b": "1e5", "c": true}}'.encode()
  assert json_lines.texts(line, json_lines.row(line)) == {'a': text}


def test_an_exponent_beyond_reason_is_refused():
  for typed in ('1e1001', '1e-1001', '1e999999999'):
    line = f'{{"a": {typed}}}'.encode()
    with pytest.raises(ValueError, match='exponent'):
      json_lines.texts(line, json_lines.row(line))
