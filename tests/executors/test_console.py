"""The lines of a run: redrawn on a terminal, plain in a log."""

import io

import pytest

from rest_jax.executors import console


class Terminal(io.StringIO):
  """A terminal of 80 columns, whose escape sequences can be played back."""

  def isatty(self):
    return True

  def screen(self):
    """The lines that a person sees at the end."""
    rows, row = [''], 0
    text = self.getvalue().replace('\x1b[?25l', '').replace('\x1b[?25h', '')
    while text:
      if text.startswith('\x1b[2K'):
        rows[row], text = '', text[4:]
      elif text.startswith('\x1b[1A'):
        row, text = row - 1, text[4:]
      elif text[0] == '\n':
        row += 1
        rows += [''] * (row == len(rows))
        text = text[1:]
      elif text[0] == '\r':
        text = text[1:]  # what follows clears the line or ends it
      else:
        assert text[0] != '\x1b', text[:20]
        rows[row] += text[0]
        text = text[1:]
    return [line.rstrip() for line in rows if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
  monkeypatch.setenv('COLUMNS', '80')
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.delenv('NO_COLOR', raising=False)
  return Terminal()


def play(shown):
  shown.kept('prepare', 61)
  shown.start('base/train')
  shown.line('base/train', '@progress 5/20 loss 0.5 [red] :smile:')
  shown.line('base/train', 'warning: 3 examples are too long')
  shown.line('base/train', '@progress 10/20 loss 0.4')
  shown.end('base/train', 'done', 'train: wrote it')


def test_a_terminal_keeps_a_line_for_each_event(terminal):
  play(console.Console(['prepare', 'base/train'], terminal))
  assert terminal.screen() == [
    'kept    prepare         1:01',
    'warning: 3 examples are too long',
    'done    base/train      0:00  train: wrote it',
  ]
  text = terminal.getvalue()
  assert '[##........] 5/20 loss 0.5 [red] :smile:' in text
  assert text.count('\x1b[?25l') == text.count('\x1b[?25h')  # the cursor


def test_a_log_has_the_same_lines_and_no_escape_sequences(terminal):
  log = io.StringIO()
  play(console.Console(['prepare', 'base/train'], log))
  play(console.Console(['prepare', 'base/train'], terminal))
  started = 'run     base/train      0:00'
  lines = [line for line in log.getvalue().splitlines() if line != started]
  assert lines == terminal.screen() and started in log.getvalue()


def test_a_log_shows_progress_now_and_then(monkeypatch):
  log = io.StringIO()
  shown = console.Console(['a'], log)
  shown.start('a')
  shown.line('a', '@progress 1/4 first')
  monkeypatch.setattr(console, 'QUIET_SECONDS', 0.0)
  shown.line('a', '@progress 2/4 second')
  said = log.getvalue().splitlines()
  assert len(said) == 2 and '[#####.....] 2/4 second' in said[1]


def test_a_log_has_a_line_when_a_job_starts_and_one_a_minute(monkeypatch):
  now = [1000.0]
  monkeypatch.setattr(console.time, 'monotonic', lambda: now[0])
  log = io.StringIO()
  shown = console.Console(['a', 'b', 'c'], log)
  shown.plan(3)
  shown.kept('a', 5.0)
  shown.start('b')
  for _ in range(300):  # the launcher looks twice a second
    now[0] += 0.5
    shown.tick()
  shown.end('b', 'again', 'exit code 1')
  shown.start('b')
  shown.end('b', 'done')
  shown.start('c')
  assert [line.split(maxsplit=3) for line in log.getvalue().splitlines()] == [
    ['kept', 'a', '0:05'],
    ['run', 'b', '0:00', 'job 2 of 3'],
    ['run', 'b', '1:00', 'job 2 of 3'],
    ['run', 'b', '2:00', 'job 2 of 3'],
    ['again', 'b', '2:30', 'exit code 1'],
    ['run', 'b', '0:00', 'job 2 of 3'],
    ['done', 'b', '0:00'],
    ['run', 'c', '0:00', 'job 3 of 3'],
  ]


def test_the_time_left_follows_from_the_speed_since_compiling(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(console.time, 'monotonic', lambda: now[0])
  shown = console.Console(['a'], io.StringIO())
  shown.plan(1)
  shown.start('a')

  def after(seconds, line):
    now[0] += seconds
    shown.line('a', line)
    return shown._words('a')

  assert after(1, '@progress 20/100 x').endswith('20/100 x')  # kept parts
  assert after(1, '@phase compiling').endswith('20/100 compiling')
  assert after(90, '@progress 20.5/100 x').endswith('20/100 x')
  # 20 samples in 10 seconds: 59.5 more take 29.75.
  assert after(10, '@progress 40.5/100 x').endswith('40/100 x, 0:29 left')
  assert after(9, '@progress 40.5/100 x').endswith('x, 0:20 left')
  assert after(60, '@progress 40.5/100 x').endswith('x, 0:00 left')


def test_what_was_there_before_says_nothing_about_the_speed(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(console.time, 'monotonic', lambda: now[0])
  shown = console.Console(['a'], io.StringIO())
  shown.plan(1)
  shown.start('a')

  def after(seconds, line):
    now[0] += seconds
    shown.line('a', line)
    return shown._words('a')

  # An attempt that goes on finds 80 of 100, and more of them later.
  assert after(1, '@progress 0/100 x').endswith('0/100 x')
  assert after(1, '@progress 80-80/100 x').endswith('80/100 x')
  assert after(9, '@progress 81-80/100 x').endswith('81/100 x, 3:10 left')
  assert after(0, '@progress 86-85/100 x').endswith('86/100 x, 2:20 left')


def test_what_is_to_be_shown_is_shown_and_logged():
  log = io.StringIO()
  shown = console.Console(['a'], log)
  shown.start('a')
  assert not shown.line('a', '@show   | indented')
  assert log.getvalue().splitlines()[1] == '  | indented'


def test_a_long_line_takes_one_row_of_the_terminal(terminal):
  shown = console.Console(['a'], terminal)
  shown.start('a')
  shown.line('a', f'@progress 1/2 {"word " * 40}')
  assert len(terminal.screen()) == 1
  shown.end('a', 'done')
  assert terminal.screen() == ['done    a      0:00']


def test_jobs_that_run_beside_each_other_have_a_line_each(terminal):
  shown = console.Console(['a', 'long/name', 'c'], terminal)
  shown.plan(3)
  shown.start('a')
  shown.start('long/name')
  shown.line('a', '@progress 1/2 one')
  shown.line('long/name', '@progress 2/4 other')
  assert terminal.screen() == [
    'run     a              0:00  job 1 of 3 [#####.....] 1/2 one',
    'run     long/name      0:00  job 2 of 3 [#####.....] 2/4 other',
  ]
  shown.say('a line above')
  shown.end('a', 'done', 'first')
  shown.start('c')
  assert terminal.screen()[:2] == [
    'a line above',
    'done    a              0:00  first',
  ]
  assert terminal.screen()[2].startswith('run     long/name')
  shown.end('long/name', 'failed')
  shown.end('c', 'done')
  assert [line.split()[:2] for line in terminal.screen()[2:]] == [
    ['failed', 'long/name'],
    ['done', 'c'],
  ]
