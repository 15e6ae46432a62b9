"""launch/xm_launch.py with XManager's own mocks, by the Python that has it.

    python tests/launch/mocked_xmanager.py --xm_gin_file=…

The experiment is xm_mock's, which takes down what it is given; here each work
unit is started as well, as a process of this machine. The last line is what was
given, as JSON.
"""

import asyncio
import json
import pathlib
import runpy
import sys

from absl import flags
from xmanager import xm_local, xm_mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'launch' / 'xm_launch.py'


class Experiment(xm_mock.MockExperiment):
  """A mock whose work units run."""

  def __init__(self, experiment_title: str):
    super().__init__()
    self.title, self.processes = experiment_title, []
    experiments.append(self)

  async def add(self, job):
    unit = await super().add(job)
    python = flags.FLAGS.xm_python
    arguments = job.args.to_list(str)
    self.processes.append(
      await asyncio.create_subprocess_exec(python, *arguments)
    )
    return unit

  async def __aexit__(self, *error):
    for process in self.processes:
      await process.wait()
    await super().__aexit__(*error)


def described(job):
  """What XManager was told of a job, JSON-ready."""
  needs = job.executor.requirements
  kind = needs.accelerator
  return {
    'name': job.name,
    'accelerator': kind and kind.name,
    'topology': kind and needs.topology.name,
    'replicas': needs.replicas,
  }


if __name__ == '__main__':
  experiments: list[Experiment] = []
  xm_local.create_experiment = Experiment
  sys.argv[0] = 'xm_launch'
  try:
    runpy.run_path(str(SCRIPT), run_name='__main__')
  finally:
    [experiment] = experiments
    print(json.dumps([described(job) for job in experiment.launched_jobs]))
