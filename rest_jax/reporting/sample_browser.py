"""The sample browser: what the models wrote, with verdicts, ready to filter.

All of it is in the page as escaped text; the page's script only hides what is
not asked for, so that it can be read without JavaScript too. It is a bounded
choice of a run's samples: the same problems for each model, and one problem
more for each verdict class that would else be missing. Only the parts that
hold these samples are read.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.reporting import labels, pages, run_results

_KEY = ('problem_id', 'sample_index', 'stream')


@dataclasses.dataclass(frozen=True)
class Limits:
  """How much of a run the page shows.

  Attributes:
    problems: per evaluated set or training set.
    completions: per problem, model and stream.
    characters: of one text; the rest is cut, and said to be.
    page: bytes of all texts together.
  """

  problems: int = 24
  completions: int = 4
  characters: int = 3_000
  page: int = 2_000_000


def section(
  run: run_results.Run, found: run_results.Found, limits: Limits
) -> str:
  """The section with its controls."""
  title = 'Samples'
  groups = _groups(run)
  if not groups:
    absent = pages.absent('No samples have been graded yet.')
    return pages.section('browser', title, absent)
  articles, left, shown, total = [], limits.page, 0, 0
  sources, outcomes, splits = {}, {}, {}
  for (task, split), members in groups.items():
    total += sum(sum(g.outcomes.values()) for _, g in members)
    chosen = _choose(members, found, limits)
    problems = _problems(found, task, split, set(chosen))
    for problem_id in sorted(chosen):
      rows = chosen[problem_id]
      text = _article(
        problem_id, problems.get(problem_id), rows, f'{task}/{split}', limits
      )
      left -= len(text.encode())
      if left < 0:
        break
      articles.append(text)
      shown += len(rows)
      splits[f'{task}/{split}'] = None
      for row in rows:
        sources[row['source']] = None
        outcomes[row['outcome']] = None
  note = (
    f"{shown:,} of the run's {total:,} completions: at most "
    f'{limits.problems} problems of each set, the same for each model, and '
    f'{limits.completions} completions per problem, model and stream; a text '
    f'is cut after {limits.characters:,} characters.'
  )
  if left < 0:
    note += ' More problems were left out to keep this page small.'
  controls = _controls(sources, outcomes, splits)
  more = '<button type="button" class="more" hidden>Show more</button>'
  body = ''.join(articles) + more
  return pages.section('browser', title, pages.paragraph(note), controls, body)


def _groups(
  run: run_results.Run,
) -> dict[tuple[str, str], list[tuple[str, run_results.Graded]]]:
  """(source, verdicts) of each set, evaluated sets first."""
  groups = {pair: [] for pair in labels.sets(run)}
  for model in run.models:
    for graded in model.evaluation:
      name = graded.stream.removeprefix('eval/')
      source = f'{labels.label(model.name)}, {name}'
      pair = (graded.task, graded.split)
      groups.setdefault(pair, []).append((source, graded))
  for model in run.policies:
    for graded in model.e_step:
      source = f'{labels.label(model.name)}, E-step'
      pair = (graded.task, graded.split)
      groups.setdefault(pair, []).append((source, graded))
  return {pair: members for pair, members in groups.items() if members}


def _choose(
  members: Sequence[tuple[str, run_results.Graded]],
  found: run_results.Found,
  limits: Limits,
) -> dict[str, list[dict[str, Any]]]:
  """The completions to show, by problem."""
  tables = [_verdicts(found, graded) for _, graded in members]
  first = tables[0].filter(pc.equal(tables[0]['part'], tables[0]['part'][0]))
  ids = sorted(pc.unique(first['problem_id']).to_pylist(), key=_shuffle)
  ids = set(ids[: limits.problems])
  for table in tables:
    there = pc.is_in(table['problem_id'], pa.array(sorted(ids)))
    seen = set(pc.unique(table.filter(there)['outcome']).to_pylist())
    for outcome in set(pc.unique(table['outcome']).to_pylist()) - seen:
      rare = table.filter(pc.equal(table['outcome'], outcome))
      ids.add(min(pc.unique(rare['problem_id']).to_pylist(), key=_shuffle))
  chosen = {}
  for (source, graded), table in zip(members, tables, strict=True):
    there = pc.is_in(table['problem_id'], pa.array(sorted(ids)))
    rows = list(_varied(table.filter(there).to_pylist(), limits.completions))
    texts = _texts(found, graded, {row['part'] for row in rows})
    for row in rows:
      key = (row['problem_id'], row['sample_index'])
      text, finish = texts.get(key, ('(its sample is not there)', '–'))
      chosen.setdefault(row['problem_id'], []).append(
        {**row, 'source': source, 'text': text, 'finish_reason': finish}
      )
  return chosen


def _verdicts(found: run_results.Found, graded: run_results.Graded) -> pa.Table:
  """One stream's verdicts, with the name of the part that each is in."""
  tables = []
  for row in found[graded.key].parts:
    table = found[graded.key].table(
      part=row['name'], columns=[*_KEY, 'outcome', 'answer', 'detail']
    )
    table = table.filter(pc.equal(table['stream'], graded.stream))
    names = pa.array([row['name']] * table.num_rows, pa.string())
    tables.append(table.append_column('part', names))
  return pa.concat_tables(tables)


def _varied(
  rows: Sequence[Mapping[str, Any]], limit: int
) -> Iterator[Mapping[str, Any]]:
  """`limit` rows of each problem: one of each class first, then by index."""
  by_problem = {}
  for row in sorted(rows, key=lambda r: (r['problem_id'], r['sample_index'])):
    by_problem.setdefault(row['problem_id'], []).append(row)
  for several in by_problem.values():
    firsts = list({r['outcome']: r for r in reversed(several)}.values())
    firsts.sort(key=lambda r: r['sample_index'])
    others = [row for row in several if row not in firsts]
    picked = [*firsts, *others][:limit]
    yield from sorted(picked, key=lambda r: r['sample_index'])


def _texts(
  found: run_results.Found, graded: run_results.Graded, parts: set[str]
) -> dict[tuple[str, int], tuple[str, str]]:
  manifest = found.get(run_results.samples_key(graded.key))
  texts = {}
  for row in manifest.parts if manifest else ():
    if row['name'] not in parts:
      continue  # verdicts lie in parts of the same names as the samples
    table = manifest.table(
      part=row['name'], columns=[*_KEY, 'text', 'finish_reason']
    )
    for one in table.to_pylist():
      if one['stream'] == graded.stream:
        key = (one['problem_id'], one['sample_index'])
        texts[key] = (one['text'], one['finish_reason'])
  return texts


def _problems(
  found: run_results.Found, task: str, split: str, ids: set[str]
) -> dict[str, dict[str, Any]]:
  manifest = found.get(f'problems/{task}/{split}')
  if manifest is None:
    return {}
  columns = ['id', 'question', 'answer', 'tests', 'level', 'type']
  table = manifest.table(columns=columns)
  table = table.filter(pc.is_in(table['id'], pa.array(sorted(ids))))
  return {row['id']: row for row in table.to_pylist()}


def _article(
  problem_id: str,
  problem: Mapping[str, Any] | None,
  rows: Sequence[Mapping[str, Any]],
  split: str,
  limits: Limits,
) -> str:
  problem = problem or {'question': '(the problem is not there)'}
  facts = [
    f'{name} {problem[name]}' for name in ('level', 'type') if problem.get(name)
  ]
  reference = problem.get('answer') or problem.get('tests') or '–'
  return (
    f'<article class="problem" data-split="{pages.escape(split)}">'
    f'<h3>{pages.escape(problem_id)}</h3><div class="question">'
    f'{pages.paragraph(", ".join(facts), "quiet") if facts else ""}'
    f'{_text(problem["question"], limits)}'
    '<p>Reference answer: <bdi>'
    f'{pages.escape(_cut(reference, limits))}</bdi></p></div>'
    f'{"".join(_completion(row, limits) for row in rows)}</article>'
  )


def _completion(row: Mapping[str, Any], limits: Limits) -> str:
  outcome, source = pages.escape(row['outcome']), pages.escape(row['source'])
  answer = (
    ''
    if row['answer'] is None
    else (f', answer <bdi>{pages.escape(_cut(row["answer"], limits))}</bdi>')
  )
  detail = f' ({_cut(row["detail"], limits)})' if row['detail'] else ''
  return (
    f'<div class="completion" data-source="{source}" '
    f'data-outcome="{outcome}"><p><span class="badge {outcome}">{outcome}'
    f'</span> <b>{source}</b>, sample {row["sample_index"]}{answer}, ended by '
    f'{pages.escape(row["finish_reason"])}{pages.escape(detail)}</p>'
    f'{_text(row["text"], limits)}</div>'
  )


def _controls(
  sources: Mapping[str, None],
  outcomes: Mapping[str, None],
  splits: Mapping[str, None],
) -> str:
  def select(name: str, title: str, values: Sequence[str]) -> str:
    options = ''.join(
      f'<option value="{pages.escape(v)}">{pages.escape(v)}</option>'
      for v in values
    )
    return (
      f'<label>{title}<select name="{name}"><option value="">all</option>'
      f'{options}</select></label>'
    )

  known = [name for name in labels.OUTCOME_STYLES if name in outcomes]
  known += sorted(outcomes.keys() - set(known))
  return (
    '<form class="controls" hidden>'
    + select('split', 'Set', list(splits))
    + select('source', 'Model', list(sources))
    + select('outcome', 'Class', known)
    + '<label>Text<input type="search" name="words"></label>'
    '<button type="reset">Reset</button><output aria-live="polite"></output>'
    '</form>'
  )


def _text(text: str, limits: Limits) -> str:
  shown = pages.escape(_cut(text, limits))
  return f'<pre class="text" dir="auto">{shown}</pre>'


def _cut(text: str, limits: Limits) -> str:
  if len(text) <= limits.characters:
    return text
  rest = len(text) - limits.characters
  return f'{text[: limits.characters]}\u2026 [{rest:,} characters cut]'


def _shuffle(problem_id: str) -> str:
  """A fixed order that has nothing to do with the problems' names."""
  return hashlib.sha256(problem_id.encode()).hexdigest()
