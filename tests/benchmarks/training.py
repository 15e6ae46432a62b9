"""Speed of training steps: rows that share prompts, rows that do not, peers.

    python tests/benchmarks/training.py [--problems=8] [--solutions=10]
        [--prefix=896] [--question=64] [--solution=192] [--repeats=3]
        [--microbatch_tokens=2048] [--torch] [--tunix=PYTHON] [--layers=4 …]

The examples of a step are random ids: a few shots that all share, the problems'
questions, and solutions, which alone are learned. The same examples make a step
three ways: packed with their whole prompts, packed behind shared prompts (the
default of the M-step), and, with --torch and --tunix, by a step of transformers
with torch and of tunix (in an environment of its own), which also train on
whole prompts. All in float32 with AdamW on all weights; the loss and gradient
are the same (tests/training/test_shared_rows.py). The ways take turns of two
steps, of which the second counts: a system may have taken the memory of a
process that waited. All run in huge pages, as the launcher starts every stage.
The last line is JSON:

    shared_examples_per_s, unshared_examples_per_s, ratio   medians
    …_tokens_per_s     places that are no padding
    …_peak_rss_mb      of a process that does nothing else
    …_tflops_per_s     of our own ways: useful operations, as rest-jax preflight
                       counts them for its MFU
    torch_…, tunix_…   the same of the peers

Plain rows, with nothing to share: --prefix=0 --question=1 --solution=511
--problems=8 --solutions=1.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import random_networks  # isort: skip  # it finds rest_jax

import training_examples

from rest_jax.executors import orders

HERE = pathlib.Path(__file__).resolve().parent
WAYS = {
  'shared': [sys.executable, str(HERE / 'training_step.py'), '--share'],
  'unshared': [sys.executable, str(HERE / 'training_step.py')],
  'torch': [sys.executable, str(HERE / 'torch_training_step.py')],
  'tunix': ['', str(HERE / 'tunix_training_step.py')],
}


class Way:
  """A process that takes a step each time it is asked to."""

  def __init__(self, name: str, python: str | None, flags: list[str]):
    command = [*WAYS[name], *flags]
    command[0] = python or command[0]
    self.name, self.seconds = name, []
    self._process = subprocess.Popen(
      command,
      env={**os.environ, **orders.HUGE_PAGES},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.first = self._step()

  def turn(self) -> dict:
    self._step()
    made = self._step()
    self.seconds.append(made['seconds'])
    return made

  def _step(self) -> dict:
    self._process.stdin.write('step\n')
    self._process.stdin.flush()
    line = self._process.stdout.readline()
    if not line:
      raise SystemExit(f'{self.name}: ended; its message is above')
    return json.loads(line)

  def end(self) -> None:
    self._process.stdin.close()
    self._process.wait()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  random_networks.add_flags(parser)
  training_examples.add_flags(parser)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--torch', action='store_true')
  parser.add_argument('--tunix', metavar='PYTHON')
  args, _ = parser.parse_known_args()
  own = ('--torch', '--tunix', '--repeats')
  flags = [flag for flag in sys.argv[1:] if not flag.startswith(own)]
  names = ['shared', 'unshared']
  names += ['torch'] * args.torch + ['tunix'] * bool(args.tunix)
  ways = [
    Way(name, args.tunix if name == 'tunix' else None, flags) for name in names
  ]
  for _ in range(args.repeats):
    last = [way.turn() for way in ways]
  figures = {}
  examples = args.problems * args.solutions
  for way, made in zip(ways, last, strict=True):
    median = statistics.median(way.seconds)
    figures |= {
      f'{way.name}_examples_per_s': round(examples / median, 3),
      f'{way.name}_tokens_per_s': round(made['tokens'] / median, 1),
      f'{way.name}_step_s': [round(s, 2) for s in way.seconds],
      f'{way.name}_first_step_s': round(way.first['seconds'], 1),
      f'{way.name}_first_loss': round(way.first['loss'], 5),
      f'{way.name}_peak_rss_mb': made['peak_rss_mb'],
    }
    if 'flops' in made:
      figures[f'{way.name}_tflops_per_s'] = round(
        made['flops'] / median / 1e12, 3
      )
    way.end()
  rate = {name: figures[f'{name}_examples_per_s'] for name in names}
  figures['ratio'] = round(rate['shared'] / rate['unshared'], 3)
  for name in names[2:]:
    figures[f'ratio_to_{name}'] = round(rate['shared'] / rate[name], 3)
  print(json.dumps(figures))


if __name__ == '__main__':
  main()
