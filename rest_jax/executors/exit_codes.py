"""Exit codes of a job's process: what main.py ends with, executors act on."""

from rest_jax.distributed import watchdog

DONE = 0
CONFIGURATION = 2  # wrong configuration or data: another try will not help
PREEMPTED = 42  # or without its store; what it has is saved: start it again
HELD = 75  # another process holds the folder; EX_TEMPFAIL of sysexits.h
UNKNOWN = 1  # this and any other: start it again a few times
LOST = watchdog.GONE_CODE  # another process of the job is gone: start all again
