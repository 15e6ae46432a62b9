"""Runs ReST^EM: base model, E-steps, M-steps, evaluation, report.

    python launch/rest_em.py --executor=local --gin_file=runs/arithmetic.gin \\
        --gin.RUN_DIR=runs/arithmetic [--gin.NAME=VALUE …]

Give the same command again after a crash, a kill or a preemption: it goes on
where it stopped. A larger NUM_ITERATIONS, NUM_SAMPLES or EVAL_SAMPLES extends
the run; any other change is refused by the stage that it would change, and so
is a changed file that a finished job has used.

    --model=PATH --problems=FILE.jsonl
                                  your own, with gin/runs/own_problems.gin
    --until=iteration_01/select   stops there (and leaves out what that does
                                  not need); a folder's name means all its jobs
    --dry_run                     prints the plan and what is left to do
    --redo=STAGE or --redo=JOB    sets aside what these have made, and makes it
                                  and what it changes again
"""

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isdir(os.path.join(_ROOT, 'rest_jax')):
  sys.path.insert(1, _ROOT)  # a checkout runs its own code, installed or not

from rest_jax import main  # noqa: E402
from rest_jax.pipeline import launcher, run_command  # noqa: E402

if __name__ == '__main__':
  sys.exit(
    main.exit_code(
      lambda: launcher.run(sys.argv[1:], __doc__, run_command.REST_EM.name),
      run_command.REST_EM.name,
    )
  )
