"""What a stage prints for the launcher, and what the launcher reads of it."""

import pytest

from rest_jax.artifacts import holders, progress_lines
from rest_jax.artifacts.progress_lines import Phase, Progress, Shown, Warned


@pytest.mark.parametrize(
  ('line', 'told'),
  [
    (
      progress_lines.progress(12.345, 240, 'a/b, 3 x/s'),
      Progress(12.35, 240, 'a/b, 3 x/s'),
    ),
    (
      progress_lines.progress(12_345_678, 10**8, ''),
      Progress(12_345_678, 10**8, ''),
    ),
    ('@progress 0/0', Progress(0, 1, '')),
    ('@progress 7/5 x', Progress(5, 5, 'x')),
    (
      progress_lines.progress(148.5, 240, 'x', 100),
      Progress(148.5, 240, 'x', 100),
    ),
    ('@progress 3-9/5 x', Progress(3, 5, 'x', 3)),
    (progress_lines.phase('compiling'), Phase('compiling')),
    (progress_lines.warning('1 of 2'), Warned('1 of 2')),
    ('@show   | x', Shown('  | x')),
    ('progress of another kind', None),
    ('a warning: none', None),
    ('@progress x/5', None),
    ('', None),
  ],
)
def test_every_kind_of_line_is_read_as_it_was_meant(line, told):
  assert progress_lines.parse(line) == told


def test_a_meter_speaks_once_a_second_and_at_the_end(monkeypatch):
  monkeypatch.setenv(holders.JOB, 'a')
  now = [0.0]
  monkeypatch.setattr(progress_lines.time, 'monotonic', lambda: now[0])
  said = []
  meter = progress_lines.Meter(100, said.append)
  for done in range(101):
    meter.at(done, 'x')
    now[0] += 0.0625
  assert said == [
    f'@progress {done}/100 x' for done in (*range(0, 100, 16), 100)
  ]
  del said[:]
  meter.phase('compiling')
  meter.at(3, 'y')  # the end of a phase is told at once
  assert said == ['@phase compiling', '@progress 3/100 y']


def test_without_a_launcher_people_read_the_lines(monkeypatch):
  monkeypatch.delenv(holders.JOB, raising=False)
  said = []
  meter = progress_lines.Meter(100, said.append)
  meter.at(3, 'x', now=True)
  meter.phase('compiling')
  assert [*said, progress_lines.show('shown')] == [
    '3/100 x',
    'compiling',
    'shown',
  ]
  monkeypatch.setenv(holders.JOB, 'a')
  assert progress_lines.show('  shown') == '@show   shown'
