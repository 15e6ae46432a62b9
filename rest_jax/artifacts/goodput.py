"""Where the wall time of an M-step goes. Its parts add up to it.

    startup      from the process's start until the training knows its rows
    restore      loading weights and checkpoints
    compile      by XLA, or taking a program from the cache
    steps        optimiser steps that count
    data         building rows while the devices had nothing to do
    validation   sampling and grading D_val
    saves        what the loop waited for checkpoints
    other        results, files
    lost         steps that were done again, since a process died unsaved
    down         from an attempt's last note to the start of the next

Goodput is the share of `steps`. The clock goes on over restarts: CLOCK beside
the checkpoints holds what earlier attempts spent, noted every few seconds.
"""

from collections.abc import Mapping

CLOCK = 'clock.json'  # in the stage's folder
PARTS = (
  *('startup', 'restore', 'compile', 'steps', 'data', 'validation', 'saves'),
  *('other', 'lost', 'down'),
)


def share(seconds: Mapping[str, float]) -> float:
  """Goodput: the share of useful steps in the wall time."""
  return seconds.get('steps', 0.0) / max(sum(seconds.values()), 1e-9)


def words(seconds: Mapping[str, float]) -> str:
  """One line for a person: goodput, and every part that took a hundredth."""
  wall = sum(seconds.values())
  parts = sorted(seconds.items(), key=lambda pair: -pair[1])
  named = ', '.join(
    f'{part} {value / max(wall, 1e-9):.0%}'
    for part, value in parts
    if part != 'steps' and value >= 0.01 * wall
  )
  return f'{share(seconds):.0%} of {wall:,.0f} s in steps' + (
    f'; {named}' if named else ''
  )
