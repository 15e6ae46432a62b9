"""Difficulty of a problem: how often the base model solves it at T = 1."""

import numpy as np

from rest_jax.artifacts import manifests, storage
from rest_jax.evaluation import metrics

STREAM = 'difficulty'
# Name and least success rate (Singh et al. 2023, Figure 8).
BINS = (('easy', 0.75), ('medium', 0.5), ('hard', 0.25), ('very_hard', 0.0))


def bins(verdicts_dir: storage.PathLike, task: str) -> dict[str, str]:
  """{problem id: the name of its bin}.

  Args:
    verdicts_dir: verdicts of the base model's stream 'difficulty'; with
      several tasks the folder of their folders.
    task: whose folder it then is.

  Raises:
    ConfigurationError: there are no verdicts.
  """
  folder = storage.path(verdicts_dir)
  inner = folder / task
  if (inner / manifests.MANIFEST).exists():
    folder = inner
  table = manifests.load(folder, stage='score').table(columns=metrics.COLUMNS)
  found = metrics.outcomes(table, STREAM)
  rates = metrics.pass_at_k(found.num_samples, found.num_correct, 1)
  return {
    problem_id: bin_of(float(rate))
    for problem_id, rate in zip(found.problem_ids, rates, strict=True)
    if not np.isnan(rate)
  }


def bin_of(rate: float) -> str:
  """The name of the bin of a success rate between 0 and 1."""
  return next(name for name, least in BINS if rate >= least)
