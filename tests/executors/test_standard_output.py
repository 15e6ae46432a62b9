"""A command goes on where nobody reads its output any more, as behind head."""

import subprocess
import sys

SCRIPT = """
import sys
from rest_jax import main

def work():
  for number in range(20_000):
    print('line', number, flush={flush})
  print('the end', file=sys.stderr)
  return 3

sys.exit(main.exit_code(work, 'test'))
"""


def test_a_reader_that_goes_away_does_not_end_the_command():
  for flush in (True, False):
    process = subprocess.Popen(
      [sys.executable, '-c', SCRIPT.format(flush=flush)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    assert process.stdout.readline() == 'line 0\n'
    process.stdout.close()
    assert process.stderr.read() == 'the end\n'  # no traceback
    process.stderr.close()
    assert process.wait() == 3


def test_what_is_written_arrives_and_the_streams_come_back(capsys):
  from rest_jax.executors import standard_output

  before = sys.stdout, sys.stderr
  with standard_output.lasting():
    print('out')
    print('error', file=sys.stderr)
    assert sys.stdout.encoding == before[0].encoding
  assert (sys.stdout, sys.stderr) == before
  assert capsys.readouterr() == ('out\n', 'error\n')
