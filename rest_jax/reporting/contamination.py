"""Contamination: what training texts share with the evaluated problems.

The numbers are those of prepare (problems/overlap.json) and of select (in the
statistics of its manifest); see docs/decontamination.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rest_jax.reporting import labels, pages, run_results

_COUNTED = ('problems', 'of them share', 'half covered')


def section(run: run_results.Run) -> str:
  """The section; empty where the run compared nothing."""
  pairs = (run.overlap or {}).get('pairs', [])
  kept = [
    (model, model.selection['overlap'])
    for model in run.models
    if (model.selection or {}).get('overlap')
  ]
  if not pairs and not kept:
    return ''
  lengths = {run.overlap['ngram']} if pairs else set()
  lengths |= {overlap['ngram'] for _, overlap in kept}
  body = [pages.paragraph(_definition(sorted(lengths)))]
  if pairs:
    body.append(_problems(pairs))
  if kept:
    body.append(_solutions(kept))
  rows = list(_examples(pairs, kept))
  if rows:
    header = ['training text', 'evaluated problem', 'covered', 'same question']
    caption = 'The problems that share most, at most ten of each pair'
    body.append(
      pages.folded('Which problems', pages.table(caption, header, rows))
    )
  return pages.section('contamination', 'Contamination', *body)


def _definition(lengths: Sequence[int]) -> str:
  grams = ' or '.join(f'{n}' for n in lengths)
  return (
    f'An evaluated problem is counted if {grams} tokens of its question in a '
    'row stand in a training text too (all of them, where it has fewer), and '
    'as half covered if such rows hold at least half of its tokens. Problems '
    'made from one template share them without being the same; a paraphrase '
    'or a translation shares none.'
  )


def _problems(pairs: Sequence[Mapping[str, Any]]) -> str:
  rows = [
    [
      pair['training_set'],
      pair['evaluated_set'],
      *_counts(pair),
      f'{pair["same_question"]:,}',
      _of(pair['training_shared'], pair['training']),
    ]
    for pair in pairs
  ]
  header = ['training set', 'evaluated set', *_COUNTED, 'same question']
  header += ['training problems that share']
  caption = 'Training problems (question, human solution) and what is evaluated'
  return pages.table(caption, header, rows)


def _solutions(
  kept: Sequence[tuple[run_results.Model, Mapping[str, Any]]],
) -> str:
  rows = [
    [
      labels.label(model.name),
      name,
      *_counts(found),
      _of(found['training_shared'], found['training']),
    ]
    for model, overlap in kept
    for name, found in overlap['found'].items()
  ]
  header = ['model', 'evaluated set', *_COUNTED, 'kept solutions that share']
  return pages.table('Kept solutions and what is evaluated', header, rows)


def _counts(found: Mapping[str, Any]) -> list[str]:
  problems = found['problems']
  return [
    f'{problems:,}',
    _share(found['shared'], problems),
    _share(found['half_covered'], problems),
  ]


def _examples(
  pairs: Sequence[Mapping[str, Any]],
  kept: Sequence[tuple[run_results.Model, Mapping[str, Any]]],
) -> Iterator[list[str]]:
  """Rows of the listed problems, each with a training text that shares."""
  for pair in pairs:
    for one in pair['examples']:
      yield _example(one['with'], one)
  for model, overlap in kept:
    for found in overlap['found'].values():
      for one in found['examples']:
        yield _example(f'{labels.label(model.name)}: {one["with"]}', one)


def _example(name: str, one: Mapping[str, Any]) -> list[str]:
  same = 'yes' if one['same_question'] else 'no'
  return [name, one['id'], labels.percent(one['coverage'], 0), same]


def _of(number: int, total: int) -> str:
  return f'{number:,}{labels.NBSP}of{labels.NBSP}{total:,}'


def _share(number: int, total: int) -> str:
  if not number:
    return '0'
  return f'{number:,}{labels.NBSP}({labels.percent(number / total, 2)})'
