"""The head of the page: what came of the run."""

from collections.abc import Mapping, Sequence

from rest_jax.reporting import labels, pages, run_results


def section(run: run_results.Run, differences: Sequence[Mapping]) -> str:
  """What came of it: base, SFT and final, with paired differences."""
  pairs, body = labels.sets(run), []
  base, sft, final = run.model('base'), run.model('sft_human'), run.final
  if not pairs:
    body.append(pages.absent('No model of this run has been evaluated yet.'))
    return pages.section('headline', 'Result', *body)
  body.append(_cards(run, *pairs[0], differences))
  if final is None:
    body.append(pages.absent('No iteration has been evaluated yet.'))
  if sft is None:
    body.append(pages.absent('This run has no SFT baseline.'))

  def difference(baseline: str, task: str, split: str) -> str:
    for row in differences:
      of = (row['baseline'], row['task'], row['split'])
      if of == (baseline, task, split):
        return labels.points(row)
    return '–'

  rows = []
  for task, split in pairs:
    values = [
      model.row(task, split) if model else None for model in (base, sft, final)
    ]
    n = next((row['n'] for row in values if row), '–')
    name = f'{task}/{split} ({labels.role(run, task)})'
    paired = [difference(b, task, split) for b in ('base', 'sft_human')]
    rows.append([name, n, *map(labels.span, values), *paired])
  last = labels.label(final.name) if final else 'final'
  header = ['test set', 'n', 'base', 'SFT', last]
  header += ['final − base, points', 'final − SFT, points']
  caption = (
    'Greedy pass@1; 95% intervals by bootstrap over problems, differences '
    'paired on the same problems'
  )
  body.append(pages.table(caption, header, rows))
  return pages.section('headline', 'Result', *body)


def batch(run: run_results.Run) -> str:
  """Every checkpoint on every test set: the longer of the two runs down."""
  pairs, models = labels.sets(run), run.compared
  title = 'Result'
  if not pairs:
    absent = pages.absent('No checkpoint has been evaluated yet.')
    return pages.section('headline', title, absent)
  cells, sizes, kinds = {}, {}, set()
  for pair in pairs:
    for model in models:
      row = model.row(*pair) or model.row(*pair, 'pass@1')
      cells[pair, model.name] = labels.span(row)
      if row:
        sizes[pair] = row['n']
        kinds.add(
          'greedy' if row['metric'] == run_results.GREEDY else 'sampled'
        )
  names = {
    p: f'{p[0]}/{p[1]} (n\u00a0=\u00a0{sizes.get(p, 0):,})' for p in pairs
  }
  if len(models) > len(pairs):
    header = ['checkpoint', *names.values()]
    rows = [[m.name, *(cells[p, m.name] for p in pairs)] for m in models]
  else:
    header = ['test set', *(m.name for m in models)]
    rows = [[names[p], *(cells[p, m.name] for m in models)] for p in pairs]
  caption = (
    f'pass@1, {" or ".join(sorted(kinds))}; 95% intervals by bootstrap over '
    'problems; n counts problems'
  )
  return pages.section('headline', title, pages.table(caption, header, rows))


def _cards(
  run: run_results.Run, task: str, split: str, differences: Sequence[Mapping]
) -> str:
  cards = []
  models = [run.model('base'), run.final, run.model('sft_human')]
  for model in filter(None, models):
    row = model.row(task, split)
    if row is None:
      continue
    interval = labels.span(row).partition(' ')[2]
    cards.append(
      _card(
        labels.label(model.name),
        labels.percent(row['value']),
        f'{interval} n\u00a0=\u00a0{row["n"]}',
      )
    )
  for row in differences:
    if (row['task'], row['split']) != (task, split):
      continue
    kind = 'up' if row['ci_low'] > 0 else 'down' if row['ci_high'] < 0 else ''
    name = f'final − {labels.label(row["baseline"])}'
    interval = labels.points(row).partition(' ')[2]
    value = f'{100 * row["difference"]:+.1f}'
    cards.append(_card(name, value, f'points {interval}', kind))
  text = pages.paragraph(
    f'Greedy pass@1 on {task}/{split} ({labels.role(run, task)}), with 95% '
    'intervals.'
  )
  return f'{text}<div class="cards">{"".join(cards)}</div>'


def _card(name: str, value: str, small: str, kind: str = '') -> str:
  return (
    f'<div class="card">{pages.escape(name)}<b class="{kind}">'
    f'{pages.escape(value)}</b><span class="quiet">{pages.escape(small)}'
    '</span></div>'
  )
