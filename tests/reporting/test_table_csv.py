"""The CSV of a table: what a spreadsheet reads is what the page shows."""

import csv
import io
import urllib.parse

import pytest

from rest_jax.reporting import table_csv


def read(text):
  return list(csv.reader(io.StringIO(text)))


@pytest.mark.parametrize(
  ('cell', 'value'),
  [
    ('1,921', '1921'),
    ('12,345.6', '12345.6'),
    ('-3', '-3'),
    ('1,5', '1,5'),
    ('1,2345', '1,2345'),
    ('1e-05', '1e-05'),
    ('70.0%', '0.700'),
    ('9%', '0.09'),
    ('0.12%', '0.0012'),
    ('–', ''),
    ('0:01:05', '0:01:05'),
    ('3 of 1,319', '3 of 1,319'),
    ('a "b", c', 'a "b", c'),
    # A spreadsheet must not run what a problem is called.
    ('=HYPERLINK("x")', '\'=HYPERLINK("x")'),
    ('-x', "'-x"),
    ('@a', "'@a"),
  ],
)
def test_a_cell_is_a_number_where_it_shows_one(cell, value):
  [_, [got]] = read(table_csv.csv_text(['a'], [[cell]]))
  assert got == value


def test_the_name_of_a_checkpoint_is_no_formula_either():
  assert read(table_csv.csv_text(['=1+1'], [['2']]))[0] == ["'=1+1"]


def test_an_interval_has_columns_of_its_own():
  rows = [['m', '70.0% [66.0, 74.0]', '+1.5 [-0.5, +3.1]'], ['n', '–', '3']]
  assert read(table_csv.csv_text(['model', 'p', 'd'], rows)) == [
    ['model', 'p', 'p low', 'p high', 'd', 'd low', 'd high'],
    ['m', '0.700', '0.660', '0.740', '+1.5', '-0.5', '+3.1'],
    ['n', '', '', '', '3', '', ''],
  ]


@pytest.mark.parametrize(
  ('caption', 'name'),
  [
    ('math/test by level: pass@1', 'math_test_by_level_pass_1.csv'),
    ('../../\u202e"x', 'x.csv'),
    ('\u00fc', 'table.csv'),
  ],
)
def test_the_file_is_called_as_the_table(caption, name):
  assert table_csv.csv_name(caption) == name


def test_the_link_holds_the_rows_as_text():
  rows = (
    '<tr><th scope="row">a &lt;b&gt; <i>c</i></th><td>1,000</td></tr>\n'
    '<tr><th scope="row">#%&amp;\u00fc</th><td>5.0% [1.0,\u00a09.0]</td></tr>'
  )
  link = table_csv.csv_link(rows, ['name', 'n'])
  head, _, text = link.partition(',')
  assert head == 'data:text/csv;charset=utf-8'
  assert not set(text) & set(' "<>#&\n')
  assert read(urllib.parse.unquote(text)) == [
    ['name', 'n', 'n low', 'n high'],
    ['a <b> c', '1000', '', ''],
    ['#%&\u00fc', '0.050', '0.010', '0.090'],
  ]
