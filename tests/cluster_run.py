"""A whole run on a cluster or on TPU VMs, against a local one.

    python tests/cluster_run.py [SCENARIO …] [--faults=20] [--seed=0]
                                [--dir=/tmp/cluster]

The tiny ReST^EM of kill.py is run by --executor=local, and then in each
scenario: E-steps as three workers, on a fake cluster (fake_cluster.py) or a
fake Google Cloud (fake_cloud.py) of this machine. Results must be equal, as
kill.py compares them, and in the end nothing may be left there.

    one-host    a cluster; what needs no TPU as plain Jobs
    calm        M-steps of two processes, whose sums differ from those of one
                in their last bits: compared with each other
    disturbed   the same, while pods are killed and evicted, the API server is
                silent for some seconds, the launcher is killed and started
                again, or started twice
    store       as one-host, with RUN_DIR on gs:// (object_store.py), some of
                whose requests fail, come late or lose their answers
    away        as calm, and compared with it, with RUN_DIR on such a store,
                which is away for a minute as the launch begins and later
                (then it may cost a retry: the other host waits 30 s at most
                for a first connection by Gloo, which CPUs use for TPUs' links)
    tpu-vm      on TPU VMs, RUN_DIR on such a store
    beside      as one-host, on gs://, D_val graded by jobs beside the M-steps,
                while pods are killed and evicted
    launcher    as one-host, on gs://, and the launcher is killed FAULTS times;
                each time `rest-jax status` must know the state of every job

All of them, where none is named. Outside the test suite: some 5 minutes each.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import fake_cloud
import fake_cluster
import kill
import run_places

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
  """How a run is run.

  Attributes:
    executor: by what.
    topology: of its M-steps, as a flag.
    on_store: whether RUN_DIR is on gs://.
    weather: whether the store's requests fail now and then.
    outages: whether the store is away for a minute now and then.
    faults: what is done to it, FAULTS times in all.
    flags: of this scenario alone.
  """

  executor: str = 'gke'
  topology: str = ONE_HOST
  on_store: bool = False
  weather: bool = False
  outages: bool = False
  faults: tuple[str, ...] = ()
  flags: tuple[str, ...] = ()


SCENARIOS = {
  'one-host': Scenario(),
  'calm': Scenario(topology=TWO_HOSTS),
  'disturbed': Scenario(topology=TWO_HOSTS, faults=FAULTS),
  'store': Scenario(on_store=True, weather=True),
  'away': Scenario(
    topology=TWO_HOSTS, on_store=True, weather=True, outages=True
  ),
  'tpu-vm': Scenario(executor='tpu_vm', on_store=True, weather=True),
  'beside': Scenario(
    on_store=True,
    faults=('kill', 'evict'),
    flags=('--gin.DVAL_GRADING=beside',),
  ),
  'launcher': Scenario(on_store=True, faults=('launcher',)),
}


def launch(log: pathlib.Path, run_dir, *flags, **environment):
  """Starts a launcher: a subprocess.Popen; its output goes to a log."""
  with open(log, 'ab') as file:
    return subprocess.Popen(
      [
        *(sys.executable, str(ROOT / 'launch' / 'rest_em.py')),
        *(f'--gin.RUN_DIR={run_dir}', *FLAGS, *flags),
      ],
      stdout=file,
      stderr=subprocess.STDOUT,
      env=os.environ | {'PYTHONPATH': str(ROOT)} | environment,
    )


class Run:
  """A run by a scenario, and what is done to it."""

  def __init__(self, scenario, log, place, fake, rng):
    self.scenario, self.log, self.place = scenario, log, place
    self.fake, self.rng = fake, rng
    self.table, self.wrong = collections.Counter(), []
    self.environment = place.environment | {'JAX_PLATFORMS': 'cpu'}
    if scenario.executor == 'gke':
      self.environment['KUBECONFIG'] = str(fake.kubeconfig)
    else:
      self.environment['PATH'] = f'{fake.bin}:{os.environ["PATH"]}'
    self.flags = [f'--executor={scenario.executor}', scenario.topology]
    self.flags += scenario.flags
    self.flags += ['--gin.TPU_VM_ZONE=us-east5-a']
    # Where RUN_DIR is a folder here, the pods see it.
    self.flags += [f"--gin.GKE_HOST_PATHS=['{log.parent}']"]
    self.launcher = self._launch()

  def _launch(self):
    return launch(
      *(self.log, self.place.run_dir, *self.flags), **self.environment
    )

  def to_the_end(self, faults: int) -> int:
    """Until the launcher has ended well; returns the faults that are left."""
    while True:
      if faults:
        time.sleep(self.rng.uniform(1, 6))
        faults -= self._disturb(self.rng.choice(self.scenario.faults))
      else:
        self.launcher.wait()
      code = self.launcher.poll()
      if code == 0:
        return faults
      if code is not None:
        ends = f'launcher ended with {code}'
        self.table[ends] += 1
        if self.table[ends] > 50 or code == 2:
          self.wrong.append('it does not end well')
          return 0
        self.launcher = self._launch()

  def _disturb(self, fault: str) -> bool:
    if self.launcher.poll() is not None:
      return False
    if fault in ('kill', 'evict'):
      pods = self.fake.running()
      if not pods:
        return False
      getattr(self.fake, fault)(self.rng.choice(pods))
    elif fault == 'silence':
      self.fake.silence()
      time.sleep(self.rng.uniform(0, 15))
      self.fake.silence(False)
    elif fault == 'launcher':
      time.sleep(self.rng.uniform(0, 15))  # of them it needs some to begin
      self.launcher.send_signal(signal.SIGKILL)
      self.launcher.wait()
      if self.scenario.on_store:
        self.look()
      self.launcher = self._launch()
    elif not self._holds():
      return False
    elif (code := self._launch().wait()) not in (75, 0):  # 0: it was faster
      self.wrong.append(f'a second launcher ended with {code}')
    self.table[fault] += 1
    return True

  def _holds(self) -> bool:
    """Whether the launcher has taken the run by now."""
    return self.place.read('ledger/launch.json') is not None

  def look(self) -> None:
    """Compares what `rest-jax status` says, elsewhere, with what there is."""
    launched = self.place.read('ledger/launch.json')
    before = set(self.fake.jobs_running())
    done = subprocess.run(
      [sys.executable, '-m', 'rest_jax.main', 'status', self.place.run_dir],
      capture_output=True,
      text=True,
      cwd='/',
      env={'PYTHONPATH': str(ROOT)} | self.environment,
    )
    with open(self.log, 'a') as log:
      print(done.stdout, done.stderr, file=log, flush=True)
    after = set(self.fake.jobs_running())
    if launched is None:
      self.table['status: not launched'] += 1
      if 'no run was launched' not in done.stderr:
        self.wrong.append(f'status, not launched: {done.stderr}')
      return
    words = 'done|failed|to do|running|waiting|ending|ended|stopped|unknown'
    found = re.findall(rf'^({words}) +(\S+)', done.stdout, re.M)
    states = {job: state for state, job in found}
    for job in json.loads(launched)['jobs']:
      state = states.get(job, 'not listed')
      self.table[f'status: {state}'] += 1
      record = run_places.record(self.place, job) or {}
      if (
        state in ('not listed', 'unknown', 'failed')
        or (job in before & after and state not in ('running', 'ending'))
        or (state == 'running' and job not in before | after)
        or (state == 'done') != (record.get('exit_code') == 0)
      ):
        self.wrong.append(f'status says that {job}: {state}')

  def left(self) -> list[str]:
    """What is there still; what is being deleted has a moment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
      if self.scenario.executor == 'gke':
        found = self.fake.running()
      else:
        found = list(self.fake.requests())
      if not found:
        return []
      time.sleep(0.5)
    return found


def differences(expected, found) -> list[str]:
  """The names of what is not the same."""
  return [
    f'{name} differs'
    for name in sorted({*expected, *found})
    if expected.get(name) != found.get(name)
  ]


def run(base, name, scenario, rng, faults: int, expected):
  """Runs a scenario and says how it went.

  Args:
    base: folder of everything.
    name: of the run.
    scenario: a row of SCENARIOS.
    rng: of what happens to it.
    faults: how many.
    expected: what it must make; None: whatever that is.

  Returns:
    (what it made, faults that there was no time for, whether it was right).
  """
  started = time.monotonic()
  make = {'gke': fake_cluster.FakeCluster, 'tpu_vm': fake_cloud.FakeCloud}
  folder = base / f'{name}-pods'
  folder.mkdir()
  with contextlib.ExitStack() as stack:
    place = run_places.Folder(base, name)
    if scenario.on_store:
      weather = rng if scenario.weather else None
      store = run_places.Store(base, name, weather, scenario.outages)
      place = stack.enter_context(store)
    environment = place.environment | {'PYTHONPATH': str(ROOT)}
    fake = make[scenario.executor](folder, environment)
    stack.enter_context(fake)
    one = Run(scenario, base / f'{name}.log', place, fake, rng)
    rest = one.to_the_end(faults if scenario.faults else 0)
    wrong = one.wrong + [f'{left} is left there' for left in one.left()]
    found = place.content()
  wrong += differences(expected or found, found)
  table = dict(one.table + place.table) or 'no faults'
  seconds = time.monotonic() - started
  said = '; '.join(wrong) or 'equal'
  print(f'{name}: {seconds:.0f} s, {table}: {said}', flush=True)
  return found, rest, not wrong


def run_locally(base: pathlib.Path) -> dict[str, object]:
  """What the local executor makes."""
  started = time.monotonic()
  cache = {'JAX_COMPILATION_CACHE_DIR': str(base / 'cache')}
  environment = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': DEVICES, **cache}
  place = run_places.Folder(base, 'local')
  log = base / 'local.log'
  if launch(log, place.run_dir, ONE_HOST, **environment).wait():
    sys.exit(f'the local run fails: see {log}')
  print(f'local: {time.monotonic() - started:.0f} s', flush=True)
  return place.content()


def main() -> int:
  """Runs all; returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('scenarios', nargs='*', metavar='SCENARIO')
  parser.add_argument('--faults', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--dir', default='/tmp/cluster')
  arguments = parser.parse_args()
  if unknown := set(arguments.scenarios) - SCENARIOS.keys():
    parser.error(f'no scenario is named {unknown}; known: {[*SCENARIOS]}')
  base = pathlib.Path(arguments.dir)
  shutil.rmtree(base, ignore_errors=True)
  base.mkdir(parents=True)
  of_one_host = run_locally(base)
  of_two_hosts, failures = None, 0
  for key in arguments.scenarios or SCENARIOS:
    rng = random.Random(arguments.seed)
    scenario, faults, number = SCENARIOS[key], arguments.faults, 0
    while not number or (scenario.faults and faults):
      number += 1
      name = key if number == 1 else f'{key}-{number}'
      alone = scenario.topology == ONE_HOST
      expected = of_one_host if alone else of_two_hosts
      found, faults, right = run(base, name, scenario, rng, faults, expected)
      failures += not right
      of_two_hosts = of_two_hosts if alone else of_two_hosts or found
  return 1 if failures else 0


if __name__ == '__main__':
  sys.exit(main())
