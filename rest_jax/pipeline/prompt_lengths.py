"""How long the prompts of a run's prepared problems are."""

from collections.abc import Sequence

from rest_jax.artifacts import manifests, run_paths, storage
from rest_jax.pipeline import sizes
from rest_jax.sampling import requests
from rest_jax.tasks import problem_sets


def read(
  run_dir: str, trained: Sequence[str], tested: Sequence[str]
) -> sizes.Prompts:
  """The lengths of all prepared prompts of a run.

  Args:
    run_dir: of the run.
    trained: tasks that are trained on.
    tested: tasks that are evaluated.

  Raises:
    ConfigurationError: they are not prepared yet.
  """
  root = storage.path(run_dir) / 'problems'
  train = [_prompts(root / t / problem_sets.TRAIN) for t in trained]
  asked = [run_paths.eval_split(task) for task in tested]
  asked += [(task, problem_sets.DVAL) for task in trained]
  found = {(t, s): _prompts(root / t / s) for t, s in dict.fromkeys(asked)}
  evaluated = [*found.values()]
  return sizes.Prompts(
    train=[n for lengths, _ in train for n in lengths],
    evaluated=[n for lengths, _ in evaluated for n in lengths],
    largest_set=max((len(lengths) for lengths, _ in evaluated), default=0),
    validated=sum(
      len(lengths)
      for (_, s), (lengths, _) in found.items()
      if s == problem_sets.DVAL
    ),
    shared=min((shared for _, shared in train + evaluated), default=0),
  )


def _prompts(folder: storage.Path) -> tuple[list[int], int]:
  """The lengths of a folder's prompts in tokens, and of what they share."""
  manifest = manifests.load(folder, stage='prepare')
  column = manifest.table(columns=['prompt_parts'])['prompt_parts']
  prompts = column.to_pylist()
  lengths = [sum(map(len, parts)) for parts in prompts]
  if not requests.shares_prefix(prompts, few_shot=True):
    return lengths, 0
  before = (sum(map(len, parts[:-1])) for parts in prompts)
  return lengths, min(before, default=0)
