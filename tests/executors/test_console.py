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
  shown.line('@progress 5/20 loss 0.5 [red] :smile:')
  shown.line('train: WARNING: 3 examples are too long')
  shown.line('@progress 10/20 loss 0.4')
  shown.end('done', 'train: wrote it')


def test_a_terminal_keeps_a_line_for_each_event(terminal):
  play(console.Console(['prepare', 'base/train'], terminal))
  assert terminal.screen() == [
    'kept    prepare         1:01',
    'warning base/train      0:00  3 examples are too long',
    'done    base/train      0:00  train: wrote it',
  ]
  text = terminal.getvalue()
  assert '[#####...............] 5/20 loss 0.5 [red] :smile:' in text
  assert text.count('\x1b[?25l') == text.count('\x1b[?25h')  # the cursor


def test_a_log_has_the_same_lines_and_no_escape_sequences(terminal):
  log = io.StringIO()
  play(console.Console(['prepare', 'base/train'], log))
  play(console.Console(['prepare', 'base/train'], terminal))
  assert log.getvalue().splitlines() == terminal.screen()


def test_a_log_shows_progress_now_and_then(monkeypatch):
  log = io.StringIO()
  shown = console.Console(['a'], log)
  shown.start('a')
  shown.line('@progress 1/4 first')
  monkeypatch.setattr(console, 'QUIET_SECONDS', 0.0)
  shown.line('@progress 2/4 second')
  assert log.getvalue().split() == [
    *('run', 'a', '0:00', '[##########..........]', '2/4', 'second')
  ]


def test_a_long_line_takes_one_row_of_the_terminal(terminal):
  shown = console.Console(['a'], terminal)
  shown.start('a')
  shown.line(f'@progress 1/2 {"word " * 40}')
  assert len(terminal.screen()) == 1
  shown.end('done')
  assert terminal.screen() == ['done    a      0:00']
