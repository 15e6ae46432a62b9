"""The results of a run as a few lines of text, from report/results.json."""

from collections.abc import Iterator, Mapping, Sequence

from rest_jax.artifacts import goodput, manifests, storage
from rest_jax.evaluation import results

COLUMNS = (results.GREEDY, 'pass@1', 'pass@k', 'maj@k')


def results_table(run_dir: str) -> str:
  """A row for each model and task, with a 95 % interval of greedy pass@1.

  Args:
    run_dir: the run's folder, in which the stage report is done.

  Returns:
    Lines of aligned columns. Values are fractions; pass@k and maj@k are those
    of the largest k. Below it, the models that are another one, untrained, and
    the goodput of each M-step that was counted.
  """
  value = storage.read_json(storage.path(run_dir) / 'report' / 'results.json')
  rows = value['rows']
  models = list(dict.fromkeys(row['model'] for row in rows))
  splits = list(dict.fromkeys((row['task'], row['split']) for row in rows))
  lines = [['model', 'task', 'greedy pass@1', 'pass@1', 'pass@k', 'maj@k']]
  for task, split in splits:
    for model in models:
      of_model = [
        row
        for row in rows
        if (row['model'], row['task'], row['split']) == (model, task, split)
      ]
      if of_model:
        cells = [_cell(of_model, metric) for metric in COLUMNS]
        name = task if split == 'test' else f'{task}/{split}'
        lines.append([model, name, *cells])
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  table = [
    '  '.join(
      cell.ljust(width) for cell, width in zip(line, widths, strict=True)
    ).rstrip()
    for line in lines
  ]
  same = {row['model']: row['same_as'] for row in rows if row.get('same_as')}
  return '\n'.join(
    [
      *table,
      *(
        f'{model} is {other}: no training step raised the reward on D_val.'
        for model, other in same.items()
      ),
      *_goodput(storage.path(run_dir), models),
    ]
  )


def _goodput(run_dir: storage.Path, models: Sequence[str]) -> Iterator[str]:
  for model in models:
    manifest = manifests.load_if_done(run_dir / model / 'checkpoints')
    seconds = manifest and manifest.recorded.get('seconds')
    if seconds:
      yield f'{model}: M-step, {goodput.words(seconds)}'


def _cell(rows: Sequence[Mapping], metric: str) -> str:
  found = [row for row in rows if row['metric'] == metric]
  found = [row for row in found if row['value'] is not None]
  if not found:
    return '-'
  row = max(found, key=lambda row: row['k'] or 0)
  text = f'{row["value"]:.3f}'
  if metric == results.GREEDY and row['ci_low'] is not None:
    text += f' [{row["ci_low"]:.3f}, {row["ci_high"]:.3f}]'
  if metric in ('pass@k', 'maj@k'):
    text += f' (k={row["k"]})'
  return text
