"""A stage that does what its flags say, for tests of the launcher.

--gin.OUT=folder        writes a manifest there, with the content …
--gin.VALUE=text        … (semantic: another VALUE is refused)
--gin.IN=folder         reads that folder's manifest first
--gin.ON_START=a,b,c    what to do on the first, second, third start:
                        ok | crash | preempt | refuse | hang | talk | warn |
                        wait (until OUT.go is there)
"""

import os
import pathlib
import signal
import sys
import time

from rest_jax import main
from rest_jax.artifacts import manifests, stage_work
from rest_jax.config import configuration, gin_flags
from rest_jax.distributed import preemption

PATH = pathlib.Path(__file__)


def starts(run_dir: pathlib.Path, name: str) -> int:
  """How often the stage that writes RUN_DIR/NAME was started."""
  file = run_dir / f'{name}.starts'
  return len(file.read_text()) if file.exists() else 0


def act(what: str, out: pathlib.Path) -> None:
  if what == 'crash':
    print('about to crash', flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
  if what == 'exit 7':
    sys.exit(7)
  if what == 'preempt':
    raise preemption.Preempted('fake')
  if what == 'refuse':
    raise configuration.ConfigurationError('VALUE: not to my taste')
  if what == 'warn':
    print('warning: two were left out', flush=True)
  if what == 'talk':
    for i in range(3):
      print(f'@progress {i + 1}/3 words', flush=True)
  if what == 'wait':
    print('waiting', flush=True)
    while not pathlib.Path(f'{out}.go').exists():
      time.sleep(0.02)
      preemption.check('fake')
  if what == 'hang':
    print('hanging', flush=True)
    while True:
      time.sleep(0.02)
      preemption.check('fake')


def run() -> None:
  _, bindings = gin_flags.split(sys.argv[1:])
  flags = dict(binding.split('=', 1) for binding in bindings)
  out = pathlib.Path(flags['OUT'])
  starts = out.parent / f'{out.name}.starts'
  number = len(starts.read_text()) if starts.exists() else 0
  starts.parent.mkdir(parents=True, exist_ok=True)
  starts.write_text('x' * (number + 1))
  preemption.watch()
  plan = flags.get('ON_START', 'ok').split(',')
  inputs = {'in': manifests.load(flags['IN'])} if 'IN' in flags else {}
  with stage_work.work_on(
    out,
    stage='fake',
    kind=None,
    semantic={'value': flags['VALUE']},
    inputs=inputs,
    version=1,
  ) as work:
    act(plan[min(number, len(plan) - 1)], out)
    if work.done is None:
      work.finish(content=flags['VALUE'])
  print(f'fake: wrote {out}')


if __name__ == '__main__':
  sys.exit(main.exit_code(lambda: run() or 0, 'rest-jax'))
