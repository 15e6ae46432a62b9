"""Charts: drawn where their numbers say, well-formed, safe."""

import re
import xml.etree.ElementTree

import pytest

from rest_jax.reporting import charts, page
from rest_jax.reporting.charts import Axis, Point, Series


def draw(series, title='t', **more):
  axes = {'x': Axis(label='x'), 'y': Axis(label='y')} | more
  chart = charts.Chart(title=title, detail='', series=series, **axes)
  return page.render_macro('charts', 'chart_svg', chart)


def stack(rows, classes, title='t'):
  bars = charts.StackedBars(title=title, detail='', rows=rows, classes=classes)
  return page.render_macro('charts', 'stacked_svg', bars)


def legend(series):
  return page.render_macro('charts', 'legend', series)


def line(points, style=0, **more):
  return Series(name='one', points=points, style=style, **more)


def path_of(svg):
  """The points of the first line, in units of the chart."""
  path = re.search(r'class="s0 line"[^>]*d="M([^"]*)"', svg).group(1)
  return [tuple(map(float, p.split())) for p in path.split('L')]


@pytest.mark.parametrize(
  'low, high',
  [(0, 1), (0.412, 0.448), (-3, 7), (5, 5), (0, 0), (1e-9, 3e-9), (0, 48_211)],
)
def test_ticks_are_round_ascending_and_span_the_values(low, high):
  ticks = charts.nice_ticks(low, high)
  assert ticks[0] <= low and ticks[-1] >= high
  steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
  assert steps and min(steps) > 0
  assert max(steps) == pytest.approx(min(steps), rel=1e-3)
  assert len(ticks) <= 8
  digits = f'{steps[0]:.2e}'.partition('e')[0]
  assert float(digits) in (1, 2, 5)


def test_higher_value_is_drawn_higher_and_equal_steps_equally_far():
  points = [Point(x=x, y=y) for x, y in [(0, 0.2), (1, 0.4), (2, 0.6)]]
  y = Axis(label='y', percent=True)
  at = path_of(draw([line(points)], y=y))
  assert at[0][1] > at[1][1] > at[2][1]
  assert at[1][0] - at[0][0] == pytest.approx(at[2][0] - at[1][0], abs=0.2)
  assert at[0][1] - at[1][1] == pytest.approx(at[1][1] - at[2][1], abs=0.2)


def test_log_axis_puts_powers_of_two_equally_far():
  points = [Point(x=x, y=0.5) for x in (1, 2, 4, 8)]
  x = Axis(label='k', log2=True, ticks=[(k, str(k)) for k in (1, 2, 4, 8)])
  at = path_of(draw([line(points)], x=x))
  gaps = [b[0] - a[0] for a, b in zip(at, at[1:], strict=False)]
  assert max(gaps) - min(gaps) < 0.3


def test_error_bar_reaches_from_low_to_high():
  points = [
    Point(x=0, y=0.5, low=0.3, high=0.9),
    Point(x=1, y=0.3),
    Point(x=2, y=0.9),
  ]
  svg = draw([line(points)])
  at = path_of(svg)
  ((low, high),) = re.findall(r'error" d="M[\d.]+ ([\d.]+)V([\d.]+)', svg)
  assert float(low) == pytest.approx(at[1][1], abs=0.1)
  assert float(high) == pytest.approx(at[2][1], abs=0.1)


def test_share_axis_stays_within_0_and_100_percent():
  points = [Point(x=0, y=1.0, low=1.0, high=1.0), Point(x=1, y=0.97)]
  y = Axis(label='y', percent=True)
  svg = draw([line(points)], y=y)
  shares = [float(t) for t in re.findall(r'>([\d.]+)%</text>', svg)]
  assert shares and max(shares) <= 100


def test_bars_are_as_high_as_their_values():
  points = [Point(x=0, y=10), Point(x=1, y=40)]
  svg = draw(
    [line(points)],
    x=Axis(label='x', ticks=[(0, 'a'), (1, 'b')]),
    bars=True,
  )
  one, four = (float(h) for h in re.findall(r'height="([\d.]+)"><title', svg))
  assert four == pytest.approx(4 * one, abs=0.3)


def test_segments_fill_the_bar_in_proportion():
  svg = stack([('m', {'a': 30, 'b': 10})], {'a': 0, 'b': 1})
  a, b = (float(w) for w in re.findall(r'segment" .*?width="([\d.]+)"', svg))
  assert a == pytest.approx(3 * b, abs=0.3)


@pytest.mark.parametrize('total', [0, 5])
def test_row_without_samples_does_not_break_the_bars(total):
  svg = stack([('m', {'a': total})], {'a': 0})
  xml.etree.ElementTree.fromstring(svg)
  assert f'n = {total}' in svg


@pytest.mark.parametrize(
  'points',
  [
    [Point(x=3, y=0.0)],
    [Point(x=3, y=-2.0), Point(x=3, y=-2.0)],
    [Point(x=0, y=1e9), Point(x=1e6, y=-1e9)],
  ],
)
def test_degenerate_values_are_drawn_inside_the_chart(points):
  svg = draw([line(points)])
  for a, b in path_of(svg):
    assert 0 <= a <= charts.WIDTH and 0 <= b <= charts.HEIGHT


def test_hostile_names_stay_text_and_the_chart_well_formed():
  name = '</svg><script>alert(1)</script>"\'&'
  points = [Point(x=0, y=0.5, note=name)]
  one = Series(name=name, points=points, style=0)
  flat = Series(name=name, points=points, style=1, horizontal=True)
  axis = Axis(label=name, ticks=[(0, name)])
  drawn = [
    draw([one, flat], name, x=axis, y=axis),
    draw([one], name, x=axis, y=axis, bars=True),
    stack([(name, {name: 3})], {name: 0}, name),
    legend([one, flat]),
  ]
  for chart in drawn:
    tree = xml.etree.ElementTree.fromstring(chart)
    assert 'script' not in {e.tag for e in tree.iter()}
    assert name in ''.join(tree.itertext())


def test_a_lone_point_is_seen_even_where_points_are_not_marked():
  """A loss curve that was logged once: its line alone would draw nothing."""
  lone = line([Point(x=5, y=0.5)], markers=False)
  many = line([Point(x=x, y=0.5) for x in (0, 5)], markers=False)
  assert 'x 5: 0.5</title>' in draw([lone])
  assert draw([many]).count('</title>') == 1  # that of the chart alone


def test_the_table_of_a_chart_has_every_series_beside_its_position():
  first = line([Point(x=1, y=0.5, low=0.4, high=0.6), Point(x=2, y=0.7)])
  flat = line([Point(x=0, y=0.9)], horizontal=True)
  chart = charts.Chart(
    title='t',
    detail='',
    series=[first, line([Point(x=2, y=0.25)]), flat],
    x=Axis(label='iteration', ticks=[(1, 'one')]),
    y=Axis(label='y', percent=True),
  )
  header, rows = chart.table
  assert header == ['iteration', 'one', 'one', 'one']
  assert rows == [
    ['one', '50.0% [40.0,\u00a060.0]', '–', '–'],
    ['2', '70.0%', '25.0%', '–'],
    ['–', '–', '–', '90.0%'],
  ]


@pytest.mark.parametrize(
  ('value', 'text'), [(1921, '1,921'), (0.006, '0.006'), (100.0, '100')]
)
def test_positions_are_written_as_numbers_are_everywhere(value, text):
  assert Axis(label='step').text(value) == text


@pytest.mark.parametrize(
  ('size', 'limit'), [(0, 5), (1, 5), (301, 300), (7, 3)]
)
def test_thinning_keeps_the_first_and_the_last_value(size, limit):
  kept = charts.thinned(list(range(size)), limit)
  assert len(kept) <= limit + 1
  assert kept[:1] == list(range(size))[:1] and kept[-1:] == [size - 1] * (
    size > 0
  )


def test_series_differ_in_more_than_colour():
  """The first four marks and dashes: for those who see no colour."""
  series = [line([Point(x=0, y=1), Point(x=1, y=2)], style=i) for i in range(4)]
  looks = set()
  for one in series:
    svg = legend([one])
    looks.add(re.sub(r'class="s\d', 'class="', svg))
  assert len(looks) == 4
