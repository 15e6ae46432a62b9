"""Bins of problems by how often the base model solves them at T = 1.

Singh et al. 2023 (arXiv 2312.06585), Figure 8. The stage select can count what
is kept in each bin; the report shows how success changes in each.
"""

import numpy as np

from rest_jax.artifacts import manifests, run_paths, storage
from rest_jax.evaluation import metrics

# The name of each bin and its lowest success rate.
BINS = (('easy', 0.75), ('medium', 0.5), ('hard', 0.25), ('very_hard', 0.0))


def bins(verdicts_dir: storage.PathLike, task: str) -> dict[str, str]:
  """The bin of each problem.

  Args:
    verdicts_dir: verdicts of the base model's stream 'difficulty'. With
      several training tasks it holds a folder for each.
    task: the name of the folder in it, if there are several.

  Returns:
    {problem id: the name of its bin}; without problems whose samples were all
    left out (metrics.counting).

  Raises:
    ConfigurationError: there are no verdicts.
  """
  folder = storage.path(verdicts_dir)
  inner = folder / task
  if (inner / manifests.MANIFEST).exists():
    folder = inner
  table = manifests.load(folder, stage='score').table(columns=metrics.COLUMNS)
  found = metrics.outcomes(table, run_paths.DIFFICULTY)
  rates = metrics.pass_at_k(found.num_samples, found.num_correct, 1)
  return {
    problem_id: bin_of(float(rate))
    for problem_id, rate in zip(found.problem_ids, rates, strict=True)
    if not np.isnan(rate)
  }


def bin_of(rate: float) -> str:
  """The name of the bin that a success rate from 0 to 1 falls into."""
  return next(name for name, least in BINS if rate >= least)
