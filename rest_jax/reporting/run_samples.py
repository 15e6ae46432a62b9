"""The graded samples of a run: finds problems, and reads their completions.

Only the parts that hold the completions that are asked for are opened. The
verdicts of a set of problems are read whole, without the texts of its samples.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.artifacts import run_paths
from rest_jax.reporting import formatting, prompt_texts, run_data
from rest_jax.reporting.articles import Article, Completion

_KEY = ('problem_id', 'sample_index', 'stream')
_VERDICT = ('outcome', 'answer', 'detail')
_FACTS = ('level', 'type')
_PROBLEM = ('id', 'question', 'answer', 'tests', *_FACTS, 'prompt_parts')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query:
  """What a reader asks for; '' and None stand for everything.

  Attributes:
    split: a set of problems, such as gsm8k/test.
    source: a model and stream, such as `base, greedy`.
    outcome: a verdict class; some completion of `source` must have it.
    change: 'gained' or 'lost', see `Samples.changes`.
    words: that the problem's id, question or reference must contain.
  """

  split: str = ''
  source: str = ''
  outcome: str = ''
  change: str = ''
  words: str = ''


@dataclasses.dataclass(frozen=True)
class Member:
  """The verdicts of one model and stream on a set of problems."""

  model: str
  source: str
  graded: run_data.GradedStream


class Samples:
  """The graded samples of a run, read as they are asked for."""

  def __init__(self, run: run_data.Run, found: run_data.Manifests):
    """Reads nothing yet.

    Args:
      run: what was read.
      found: the manifests that it was read from.
    """
    self.run, self.found = run, found
    self._tables: dict[str, pa.Table] = {}
    self._vocabularies = prompt_texts.Vocabularies(found)
    names = [f'{task}/{split}' for task, split in run.evaluated]
    members = {name: [] for name in names}  # evaluated sets first
    evaluated = [(m, g) for m in run.models for g in m.evaluation]
    drawn = [(m, g) for m in run.policies for g in m.e_step]
    for model, graded in [*evaluated, *drawn]:
      stream = graded.stream.removeprefix(run_paths.EVAL_PREFIX)
      stream = 'E-step' if stream == run_paths.E_STEP else stream
      name = formatting.model_name(model.name)
      one = Member(name, f'{name}, {stream}', graded)
      split = f'{graded.task}/{graded.split}'
      members.setdefault(split, []).append(one)
    self.members = {name: some for name, some in members.items() if some}

  def changes(self, split: str) -> dict[str, str]:
    """{problem id: 'gained' or 'lost'} between the run's two ends, greedy.

    Gained: the first model (the base) is wrong and the last one right. Lost:
    the reverse. Problems without a change, or without a verdict, are left out.
    """
    if self.run.ends is None:
      return {}
    task, _, name = split.partition('/')
    first, last = (
      m.graded(task, name, run_paths.GREEDY) for m in self.run.ends
    )
    if first is None or last is None:
      return {}
    before, after = first.rates(), last.rates()
    return {
      key: 'gained' if after[key] > before[key] else 'lost'
      for key in before
      if key in after and after[key] != before[key]
    }

  def ids(self, query: Query) -> list[tuple[str, str]]:
    """(set, id) of the problems that a reader asks for, in their order."""
    made = []
    for split in self.members:
      if query.split not in ('', split):
        continue
      table = self.table(split)
      if query.source:
        table = table.filter(pc.equal(table['source'], query.source))
      if query.outcome:
        table = table.filter(pc.equal(table['outcome'], query.outcome))
      ids = set(pc.unique(table['problem_id']).to_pylist())
      if query.change:
        changes = self.changes(split)
        ids = {key for key in ids if changes.get(key) == query.change}
      if query.words:
        ids &= self._with_words(split, query.words)
      made += [(split, key) for key in sorted(ids, key=run_data.natural)]
    return made

  def table(self, split: str) -> pa.Table:
    """All verdicts on a set of problems, with their source and part."""
    if split not in self._tables:
      tables = []
      for one in self.members[split]:
        table = _verdicts(self.found[one.graded.key], one.graded)
        names = pa.array([one.source] * table.num_rows, pa.string())
        tables.append(table.append_column('source', names))
      self._tables[split] = pa.concat_tables(tables)
    return self._tables[split]

  def articles(
    self,
    split: str,
    ids: Sequence[str],
    *,
    completions: int | None,
    source: str = '',
    outcome: str = '',
  ) -> list[Article]:
    """Reads some problems of one set.

    Args:
      split: the set.
      ids: of its problems.
      completions: per problem, model and stream at most; None for all.
      source: only completions of this one; '' for all.
      outcome: only completions of this class; '' for all.
    """
    chosen = {key: {} for key in ids}
    totals = dict.fromkeys(ids, 0)
    of_ids = of_problems(self.table(split), ids)
    for one in self.members[split]:
      table = of_ids.filter(pc.equal(of_ids['source'], one.source))
      for key in table['problem_id'].to_pylist():
        totals[key] += 1
      if source not in ('', one.source):
        continue
      if outcome:
        table = table.filter(pc.equal(table['outcome'], outcome))
      for key, made in self._completions(one, table, completions):
        chosen[key].setdefault(one.model, []).append(made)
    known, changes = self._problems(split, ids), self.changes(split)
    return [
      self._article(
        split, key, known.get(key, {}), chosen[key], changes, totals[key]
      )
      for key in ids
    ]

  def _completions(
    self, one: Member, table: pa.Table, limit: int | None
  ) -> Iterator[tuple[str, Completion]]:
    """(problem id, completion) of one model and stream."""
    rows = list(_varied(table.to_pylist(), limit))
    texts = _texts(self.found, one.graded, rows)
    for row in rows:
      key = (row['problem_id'], row['sample_index'])
      text, finish_reason = texts.get(key, ('(its sample is not there)', '–'))
      yield (
        row['problem_id'],
        Completion(
          source=one.source,
          text=text,
          finish_reason=finish_reason,
          **{name: row[name] for name in _VERDICT},
          sample_index=row['sample_index'],
        ),
      )

  def _article(
    self,
    split: str,
    key: str,
    known: Mapping[str, Any],
    chosen: Mapping[str, Sequence[Completion]],
    changes: Mapping[str, str],
    total: int,
  ) -> Article:
    row = dict.fromkeys(_PROBLEM) | {'question': '(the problem is not there)'}
    row |= known
    *start, last = row['prompt_parts'] or [()]
    vocabulary = self._vocabularies.of(split)
    ids = [token for part in start for token in part]
    return Article(
      id=key,
      problems=split,
      facts=', '.join(f'{name} {row[name]}' for name in _FACTS if row[name]),
      question=row['question'],
      reference=row['answer'] or row['tests'] or '–',
      start=prompt_texts.decoded(vocabulary, ids) if vocabulary else '',
      prompt=prompt_texts.decoded(vocabulary, last) if vocabulary else '',
      change=changes.get(key, ''),
      models=list(chosen.items()),
      left_out=total - sum(map(len, chosen.values())),
    )

  def _problems(
    self, split: str, ids: Sequence[str]
  ) -> dict[str, dict[str, Any]]:
    manifest = self.found.get(f'problems/{split}')
    if manifest is None:
      return {}
    table = manifest.table(columns=list(_PROBLEM))
    table = table.filter(pc.is_in(table['id'], pa.array(ids, pa.string())))
    return {row['id']: row for row in table.to_pylist()}

  def _with_words(self, split: str, words: str) -> set[str]:
    """Ids of the set's problems whose id or text contains the words."""
    manifest = self.found.get(f'problems/{split}')
    if manifest is None:
      return set()
    table = manifest.table(columns=['id', 'question', 'answer', 'tests'])
    hits = [
      pc.fill_null(
        pc.match_substring(table[name], words, ignore_case=True), False
      )
      for name in table.column_names
    ]
    return set(table.filter(functools.reduce(pc.or_, hits))['id'].to_pylist())


def _verdicts(manifest: Any, graded: run_data.GradedStream) -> pa.Table:
  """One stream's verdicts, with the name of the part that each is in."""
  tables = []
  for row in manifest.parts:
    table = manifest.table(part=row['name'], columns=[*_KEY, *_VERDICT])
    table = table.filter(pc.equal(table['stream'], graded.stream))
    names = pa.array([row['name']] * table.num_rows, pa.string())
    tables.append(table.append_column('part', names))
  return pa.concat_tables(tables)


def of_problems(
  table: pa.Table, problem_ids: Sequence[str] | set[str]
) -> pa.Table:
  ids = pa.array(sorted(problem_ids), pa.string())
  return table.filter(pc.is_in(table['problem_id'], ids))


def _varied(
  rows: Sequence[Mapping[str, Any]], limit: int | None
) -> Iterator[Mapping[str, Any]]:
  """`limit` rows of each problem: one of each class first, then by index."""
  by_problem = {}
  for row in sorted(rows, key=lambda row: row['sample_index']):
    by_problem.setdefault(row['problem_id'], []).append(row)
  for several in by_problem.values():
    seen, firsts, others = set(), [], []
    for row in several:
      (others if row['outcome'] in seen else firsts).append(row)
      seen.add(row['outcome'])
    picked = [*firsts, *others][:limit]
    yield from sorted(picked, key=lambda row: row['sample_index'])


def _texts(
  found: run_data.Manifests,
  graded: run_data.GradedStream,
  rows: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, int], tuple[str, str]]:
  """{(problem id, sample index): (text, finish reason)} of some verdicts."""
  manifest, texts = found.get(run_paths.samples_of(graded.key)), {}
  parts = {row['part'] for row in rows}
  ids = {row['problem_id'] for row in rows}
  for row in manifest.parts if manifest else ():
    if row['name'] in parts:  # samples and verdicts have parts of equal names
      columns = [*_KEY, 'text', 'finish_reason']
      table = manifest.table(part=row['name'], columns=columns)
      for one in of_problems(table, ids).to_pylist():
        if one['stream'] == graded.stream:
          key = (one['problem_id'], one['sample_index'])
          texts[key] = (one['text'], one['finish_reason'])
  return texts
