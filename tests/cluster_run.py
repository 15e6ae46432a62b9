"""A whole run on a cluster, undisturbed and disturbed, against a local one.

    python tests/cluster_run.py [--faults=20] [--seed=0] [--dir=/tmp/cluster]

The tiny ReST^EM of kill.py is run by --executor=local, and by --executor=gke on
a fake cluster of this machine (fake_cluster.py): E-steps as three workers, what
needs no TPU as plain Jobs. The results must be equal, as kill.py compares them.

Then with M-steps of two processes (whose sums differ from those of one process
in their last bits), twice: undisturbed, and while pods are killed and evicted,
the API server is silent for some seconds, the launcher is killed and started
again, or started twice. Again the results must be equal, and nothing may be
left on the cluster in the end. Outside the test suite: half an hour.
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import fake_cluster
import kill

ROOT = pathlib.Path(__file__).resolve().parent.parent
FAULTS = ('kill', 'evict', 'silence', 'launcher', 'second launcher')
# Eight devices each.
ONE_HOST, TWO_HOSTS = '--gin.TOPOLOGY=v5e:2x4', '--gin.TOPOLOGY=v5p:2x2x2'
FLAGS = [
  *kill.TINY,
  '--gin.SAMPLE_TOPOLOGY=v5e:2x4',
  '--gin.WORKERS=3',
  '--gin.IMAGE=none',
  '--gin.BATCH_ROWS=8',
  '--gin.GROUPS=8',
  '--gin.GREEDY_GROUPS=8',
]
DEVICES = '--xla_force_host_platform_device_count=8'


def launch(run_dir, *flags, **environment) -> subprocess.Popen:
  """Starts a launcher; its output goes to <run_dir>.log."""
  with open(f'{run_dir}.log', 'ab') as log:
    return subprocess.Popen(
      [
        *(sys.executable, str(ROOT / 'launch' / 'rest_em.py')),
        *(f'--gin.RUN_DIR={run_dir}', *FLAGS, *flags),
      ],
      stdout=log,
      stderr=subprocess.STDOUT,
      env=os.environ | environment,
    )


class Disturbed:
  """A run on a cluster, and what is done to it."""

  def __init__(self, fake, run_dir, topology, rng):
    self.fake, self.run_dir, self.rng = fake, run_dir, rng
    self.topology = topology
    self.table = collections.Counter()
    self.wrong = []
    self.launcher = self._launch()

  def _launch(self):
    return launch(
      self.run_dir,
      *('--executor=gke', self.topology),
      KUBECONFIG=str(self.fake.kubeconfig),
    )

  def run(self, faults: int) -> None:
    """Until the launcher has ended well; some faults on the way."""
    while True:
      if faults:
        time.sleep(self.rng.uniform(1, 6))
        faults -= self._disturb(self.rng.choice(FAULTS))
      else:
        self.launcher.wait()
      code = self.launcher.poll()
      if code == 0:
        return
      if code is not None:
        self.table[f'launcher ended with {code}'] += 1
        if self.table.total() > 200:
          self.wrong.append('it does not end')
          return
        self.launcher = self._launch()

  def _disturb(self, fault: str) -> bool:
    pods = self.fake.running()
    if fault in ('kill', 'evict') and not pods:
      return False
    if self.launcher.poll() is not None:
      return False
    if fault == 'kill':
      self.fake.kill(self.rng.choice(pods))
    elif fault == 'evict':
      self.fake.evict(self.rng.choice(pods))
    elif fault == 'silence':
      self.fake.silence()
      time.sleep(self.rng.uniform(0, 15))
      self.fake.silence(False)
    elif fault == 'launcher':
      self.launcher.send_signal(signal.SIGKILL)
      self.launcher.wait()
      self.launcher = self._launch()
    elif not self._holds():
      return False
    elif (code := self._launch().wait()) not in (75, 0):  # 0: it was faster
      self.wrong.append(f'a second launcher ended with {code}')
    self.table[fault] += 1
    return True

  def _holds(self) -> bool:
    """Whether the launcher has taken the run by now."""
    return (self.run_dir / 'ledger' / 'launch.json').exists()


def differences(expected, found) -> list[str]:
  """The names of what is not the same."""
  return [
    f'{name} differs'
    for name in sorted({*expected, *found})
    if expected.get(name) != found.get(name)
  ]


def main() -> int:
  """Runs all; returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--faults', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--dir', default='/tmp/cluster')
  arguments = parser.parse_args()
  base = pathlib.Path(arguments.dir)
  shutil.rmtree(base, ignore_errors=True)
  base.mkdir(parents=True)
  cache = {'JAX_COMPILATION_CACHE_DIR': str(base / 'cache')}
  started = time.monotonic()
  local = launch(
    *(base / 'local', ONE_HOST),
    **{'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': DEVICES, **cache},
  )
  if local.wait():
    sys.exit(f'the local run fails: see {base}/local.log')
  expected = kill.content(base / 'local')
  print(f'local: {time.monotonic() - started:.0f} s', flush=True)
  failures = 0
  for name, topology, faults in (
    ('one-host', ONE_HOST, 0),
    ('calm', TWO_HOSTS, 0),
    ('disturbed', TWO_HOSTS, arguments.faults),
  ):
    started = time.monotonic()
    folder = base / f'{name}-pods'
    folder.mkdir()
    environment = cache | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
    with fake_cluster.FakeCluster(folder, environment) as fake:
      rng = random.Random(arguments.seed)
      one = Disturbed(fake, base / name, topology, rng)
      one.run(faults)
      left = fake.running()
    found = kill.content(base / name)
    if name == 'calm':
      expected = found
    wrong = one.wrong + differences(expected, found)
    wrong += [f'{pod} still runs' for pod in left]
    failures += bool(wrong)
    print(
      f'{name}: {time.monotonic() - started:.0f} s, '
      f'{dict(one.table) or "no faults"}: {"; ".join(wrong) or "equal"}',
      flush=True,
    )
  return 1 if failures else 0


if __name__ == '__main__':
  sys.exit(main())
