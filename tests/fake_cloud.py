"""Google Cloud's queued resources in a folder, and TPU VMs as processes here.

A program `gcloud` that knows create, list and delete as the real one does, and
`docker`, `curl` and `hostname` as a TPU VM has them. Requests pass through the
documented states; once one is active, its hosts run the startup script each.
Faults are asked for by `preempt`, `kill_agent`, `reboot`, `refuse`, `silence`
and others.
"""

import contextlib
import functools
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

from rest_jax.executors import topologies

TICK_SECONDS = 0.05
_GCLOUD = r"""#!{python}
import json, os, pathlib, sys, time, urllib.parse, urllib.request
folder = pathlib.Path({folder!r})
words = [a for a in sys.argv[1:] if not a.startswith('--')]
flags = dict(a[2:].partition('=')[::2] for a in sys.argv[1:] if a[:2] == '--')
with open(folder / 'calls', 'a') as calls:
  calls.write(json.dumps(sys.argv[1:]) + '\n')
if words[:2] == ['auth', 'configure-docker']:
  sys.exit()
if words[:2] == ['storage', 'cp'] and words[3].startswith('gs://'):
  bucket, _, name = words[3].removeprefix('gs://').partition('/')
  urllib.request.urlopen(urllib.request.Request(
    f'{{os.environ["STORAGE_EMULATOR_HOST"]}}/upload/storage/v1/b/{{bucket}}/o'
    f'?uploadType=media&name={{urllib.parse.quote(name, safe="")}}',
    data=sys.stdin.read().encode(), method='POST'))
  sys.exit()
if words[:2] == ['storage', 'cp']:
  target = pathlib.Path(words[3])
  target.parent.mkdir(parents=True, exist_ok=True)
  target.write_text(sys.stdin.read())
  sys.exit()
if (folder / 'silent').exists():
  sys.exit('ERROR: UNAVAILABLE: the service is currently unavailable')
assert words[:3] == ['compute', 'tpus', 'queued-resources'], words
assert flags.get('zone'), 'no zone'
verb = words[3]
if verb == 'list':
  rows = [json.loads(f.read_text()) for f in sorted(folder.glob('qr-*.json'))]
  print(json.dumps([
    dict(name=f'projects/p/locations/z/queuedResources/{{r["name"]}}',
         state=r['state'], tpu=dict()) for r in rows]))
  sys.exit()
file = folder / f'qr-{{words[4]}}.json'
if verb == 'create':
  if (folder / 'refused').exists():
    sys.exit('ERROR: (gcloud) RESOURCE_EXHAUSTED: Quota limit of your zone')
  if file.exists():
    sys.exit('ERROR: (gcloud) ALREADY_EXISTS')
  script = flags['metadata-from-file'].partition('=')[2]
  for name in ('accelerator-type', 'runtime-version', 'valid-until-duration'):
    assert flags[name], name
  file.write_text(json.dumps(dict(
    name=words[4], state=dict(state='ACCEPTED'), flags=flags,
    script=pathlib.Path(script).read_text())))
  if (folder / 'lossy').exists():
    (folder / 'lossy').unlink()
    sys.exit('ERROR: UNAVAILABLE: connection reset by peer')
elif verb == 'delete':
  assert 'force' in flags and 'quiet' in flags
  if not file.exists():
    sys.exit('ERROR: (gcloud) NOT_FOUND: Resource was not found')
  row = json.loads(file.read_text())
  row['state'] = dict(state='DELETING')
  new = file.with_suffix('.new')
  new.write_text(json.dumps(row))
  new.rename(file)
"""
_DOCKER = r"""#!{python}
import os, pathlib, sys
words = sys.argv[1:]
if words[0] == 'pull':
  sys.exit((pathlib.Path({folder!r}) / 'no-images').exists())
assert words.pop(0) == 'run'
while words[0].startswith('--'):
  name, _, value = words.pop(0).partition('=')
  if name == '--env':
    key, _, text = value.partition('=')
    os.environ[key] = text
words.pop(0)  # the image
command = [sys.executable if w == 'python3' else w for w in words]
if 'FAKE_AGENT' in os.environ:  # a test's own, in place of `-m …agent`
  command[1:3] = [os.environ['FAKE_AGENT']]
os.execv(command[0], command)
"""
_CURL = '#!/bin/sh\nprintf "%s" "$FAKE_HOST"\n'
_SLEEP = '#!/bin/sh\n[ -e {folder}/hasty ] || exec /bin/sleep "$@"\n'
_HOSTNAME = '#!/bin/sh\necho "$FAKE_NODE"\n'
_STATES = ('ACCEPTED', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE')


class FakeCloud:
  """Lives with the block it is used in; `bin` comes first on PATH.

  Attributes:
    bin: a folder of programs.
    hosts: the processes of each request's hosts.
  """

  def __init__(self, folder: pathlib.Path, environment=None):
    self.folder, self.environment = folder, environment or {}
    self.bin = folder / 'bin'
    self.bin.mkdir(parents=True)
    for name, text in (
      ('gcloud', _GCLOUD.format(python=sys.executable, folder=str(folder))),
      ('docker', _DOCKER.format(python=sys.executable, folder=str(folder))),
      ('curl', _CURL),
      ('hostname', _HOSTNAME),
      ('sleep', _SLEEP.format(folder=folder)),
    ):
      file = self.bin / name
      file.write_text(text)
      file.chmod(file.stat().st_mode | stat.S_IEXEC)
    self.hosts: dict[str, list[subprocess.Popen]] = {}
    self._boots: dict[str, list] = {}  # functions that start each host
    self._kill_at: dict[str, float] = {}
    self._stop = threading.Event()

  def __enter__(self):
    self._thread = threading.Thread(target=self._control, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *_):
    self._stop.set()
    self._thread.join()
    for name in list(self.hosts):
      self._signal(name, signal.SIGKILL)

  def requests(self) -> dict[str, dict]:
    """The rows of all requests that there are."""
    found = {}
    for file in sorted(self.folder.glob('qr-*.json')):
      with contextlib.suppress(json.JSONDecodeError, FileNotFoundError):
        row = json.loads(file.read_text())
        found[row['name']] = row
    return found

  def calls(self, verb: str) -> list[list[str]]:
    """The arguments of all calls of gcloud with this verb."""
    lines = (self.folder / 'calls').read_text().splitlines()
    return [call for call in map(json.loads, lines) if verb in call]

  def preempt(self, name: str) -> None:
    """As when capacity is taken away: SIGTERM, the end, SUSPENDED."""
    self._set(name, 'SUSPENDING')

  def kill_agent(self, name: str, host: int = 0) -> None:
    """As when the container of a host is killed; its VM stays."""
    bash = self.hosts[name][host].pid
    children = pathlib.Path(f'/proc/{bash}/task/{bash}/children').read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)

  def reboot(self, name: str, host: int = 0) -> None:
    """As when a VM starts again: its processes go, then its script runs."""
    os.killpg(self.hosts[name][host].pid, signal.SIGKILL)
    self.hosts[name][host].wait()
    self.hosts[name][host] = self._boots[name][host]()

  def lose_answers(self) -> None:
    """As when requests are made, and gcloud learns nothing of it."""
    (self.folder / 'lossy').touch()

  def refuse(self) -> None:
    """As with a quota that is used up."""
    (self.folder / 'refused').touch()

  def refuse_images(self) -> None:
    """As with an image that is not there."""
    (self.folder / 'no-images').touch()

  def silence(self, silent: bool = True) -> None:
    """As while Google Cloud does not answer."""
    if silent:
      (self.folder / 'silent').touch()
    else:
      (self.folder / 'silent').unlink()

  def fail(self, name: str, message: str) -> None:
    """As when a request cannot be had."""
    self._set(name, 'FAILED', failedData={'error': {'message': message}})

  def _set(self, name: str, state: str, **more) -> None:
    file = self.folder / f'qr-{name}.json'
    row = json.loads(file.read_text())
    row['state'] = {'state': state, **more}
    new = self.folder / f'{name}.changed'
    new.write_text(json.dumps(row))
    new.rename(file)

  def _control(self):
    while not self._stop.wait(TICK_SECONDS):
      for name, row in self.requests().items():
        state = row['state']['state']
        if state in _STATES[:-1]:
          self._set(name, _STATES[_STATES.index(state) + 1])
        elif state == 'ACTIVE' and name not in self.hosts:
          self._start(name, row)
        elif state in ('SUSPENDING', 'DELETING') and self._ended(name):
          if state == 'SUSPENDING':
            self._set(name, 'SUSPENDED')
          else:
            (self.folder / f'qr-{name}.json').unlink()

  def _start(self, name, row):
    flags = row['flags']
    topology = topologies.parse(flags['accelerator-type'], 'x')
    hosts, chips = topology.hosts, topology.chips_per_host
    slices = int(flags.get('node-count', 1))
    environment = os.environ | self.environment
    # Its TPUs are simulated devices of the CPU.
    environment['JAX_PLATFORMS'] = 'cpu'
    environment['XLA_FLAGS'] = (
      f'{self.environment.get("XLA_FLAGS", "")} '
      f'--xla_force_host_platform_device_count={chips}'
    )
    environment['PATH'] = f'{self.bin}:{environment["PATH"]}'
    if hosts * slices > 1:
      with socket.socket() as probe:
        probe.bind(('localhost', 0))
        port = probe.getsockname()[1]
      environment |= {
        'JAX_COORDINATOR_ADDRESS': f'localhost:{port}',
        'JAX_NUM_PROCESSES': str(hosts * slices),
      }
    script = self.folder / f'{name}.sh'
    script.write_text(row['script'])
    self._boots[name] = []
    for node in range(slices):
      for host in range(hosts):
        own = {'FAKE_HOST': str(host), 'FAKE_NODE': f'node-{node}'}
        if hosts * slices > 1:
          own['JAX_PROCESS_ID'] = str(node * hosts + host)
        log = self.folder / f'{name}-{node}-{host}.out'
        boot = functools.partial(_boot, script, log, environment | own)
        self._boots[name].append(boot)
    self.hosts[name] = [boot() for boot in self._boots[name]]

  def _ended(self, name) -> bool:
    """Ends a request's hosts, with a moment to save; whether they have."""
    if name not in self.hosts:
      return True
    if name not in self._kill_at:
      self._kill_at[name] = time.monotonic() + 10
      self._signal(name, signal.SIGTERM)
    if time.monotonic() > self._kill_at[name]:
      self._signal(name, signal.SIGKILL)
    if any(_alive(process) for process in self.hosts[name]):
      return False
    del self.hosts[name], self._kill_at[name]
    return True

  def _signal(self, name, number):
    for process in self.hosts[name]:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _boot(script, log, environment) -> subprocess.Popen:
  """Starts what a host runs when it has booted."""
  with open(log, 'ab') as out:
    return subprocess.Popen(
      ['bash', str(script)],
      stdin=subprocess.DEVNULL,
      stdout=out,
      stderr=subprocess.STDOUT,
      env=environment,
      start_new_session=True,
    )


def _alive(process) -> bool:
  """Whether anything of a host's processes is left."""
  process.poll()
  try:
    os.killpg(process.pid, 0)
  except ProcessLookupError:
    return False
  return True
