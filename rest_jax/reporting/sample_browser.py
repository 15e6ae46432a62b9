"""The sample browser: what the models wrote, with their verdicts.

All of it is in the page as text, so that it can be read without JavaScript;
the page's script only hides what the reader does not ask for. It shows some of
a run's samples: the same problems for each model, and one more problem for
each verdict class that would be missing otherwise. Only the parts that hold
these samples are read.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import markupsafe
import pyarrow as pa
import pyarrow.compute as pc

from rest_jax.artifacts import run_paths
from rest_jax.reporting import formatting, outcome_charts, run_data

_MARKUP = 300  # bytes of the page around the texts of a completion
_KEY = ('problem_id', 'sample_index', 'stream')
_VERDICT = ('outcome', 'answer', 'detail')
_PROBLEM = ('id', 'question', 'answer', 'tests', 'level', 'type')


@dataclasses.dataclass(frozen=True)
class Limits:
  """How much of a run the page shows.

  Attributes:
    problems: per evaluated set or training set.
    completions: per problem, model and stream.
    characters: of one text; the rest is cut.
    page: bytes of all of them together.
  """

  problems: int = 24
  completions: int = 4
  characters: int = 3_000
  page: int = 2_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
  """A sample with its verdict; the fields of both are in records.py.

  Attributes:
    source: the model and stream that it is of, such as `base, greedy`.
  """

  source: str
  sample_index: int
  outcome: str
  answer: str | None
  detail: str
  text: str
  finish_reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Article:
  """A problem with some of its completions.

  Attributes:
    id: of the problem.
    problems: the set that it is in, such as gsm8k/test.
    facts: its level and type, or ''.
    question: its text.
    reference: its answer or tests.
    completions: of all models and streams.
  """

  id: str
  problems: str
  facts: str
  question: str
  reference: str
  completions: Sequence[Completion]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Browser:
  """What the section shows.

  Attributes:
    articles: the problems.
    total: number of the run's graded completions.
    left_out: whether `Limits.page` has left out problems.
  """

  articles: Sequence[Article]
  total: int
  left_out: bool

  @property
  def shown(self) -> int:
    """The number of completions that are shown."""
    return sum(len(one.completions) for one in self.articles)

  @property
  def sources(self) -> list[str]:
    """The models and streams, in the order of their first completion."""
    rows = (row for one in self.articles for row in one.completions)
    return list(dict.fromkeys(row.source for row in rows))

  @property
  def outcomes(self) -> list[str]:
    """The verdict classes that occur, in the order of the charts."""
    seen = {row.outcome for one in self.articles for row in one.completions}
    return [name for name in outcome_charts.STYLES if name in seen]


# (source, verdicts) of one set of problems.
_Members = Sequence[tuple[str, run_data.GradedStream]]


def browse(
  run: run_data.Run, found: run_data.Manifests, limits: Limits
) -> Browser | None:
  """Chooses and reads the samples; None where none has been graded."""
  groups = _groups(run)
  if not groups:
    return None
  articles, left, total = [], limits.page, 0
  for problems, members in groups.items():
    total += sum(sum(graded.outcomes.values()) for _, graded in members)
    chosen = _choose(members, found, limits)
    known = _problems(found, problems, set(chosen))
    for problem_id in sorted(chosen):
      article = _article(problem_id, problems, known, chosen[problem_id])
      left -= _size(article, limits)
      if left < 0:
        break
      articles.append(article)
  return Browser(articles=articles, total=total, left_out=left < 0)


def _groups(run: run_data.Run) -> dict[str, _Members]:
  """The verdicts of each set of problems, evaluated sets first."""
  groups = {f'{task}/{split}': [] for task, split in run.evaluated}
  evaluated = [(m, g) for m in run.models for g in m.evaluation]
  drawn = [(m, g) for m in run.policies for g in m.e_step]
  for model, graded in [*evaluated, *drawn]:
    stream = graded.stream.removeprefix(run_paths.EVAL_PREFIX)
    stream = 'E-step' if stream == run_paths.E_STEP else stream
    source = f'{formatting.model_name(model.name)}, {stream}'
    name = f'{graded.task}/{graded.split}'
    groups.setdefault(name, []).append((source, graded))
  return {name: members for name, members in groups.items() if members}


def _choose(
  members: _Members, found: run_data.Manifests, limits: Limits
) -> dict[str, list[Completion]]:
  """The completions to show, by problem."""
  tables = [_verdicts(found[graded.key], graded) for _, graded in members]
  first = tables[0].filter(pc.equal(tables[0]['part'], tables[0]['part'][0]))
  ids = sorted(pc.unique(first['problem_id']).to_pylist(), key=_shuffled)
  ids = set(ids[: limits.problems])
  for table in tables:
    outcomes = set(pc.unique(_of(table, ids)['outcome']).to_pylist())
    for outcome in set(pc.unique(table['outcome']).to_pylist()) - outcomes:
      rare = table.filter(pc.equal(table['outcome'], outcome))
      ids.add(min(pc.unique(rare['problem_id']).to_pylist(), key=_shuffled))
  chosen = {}
  for (source, graded), table in zip(members, tables, strict=True):
    rows = list(_varied(_of(table, ids).to_pylist(), limits.completions))
    texts = _texts(found, graded, {row['part'] for row in rows})
    for row in rows:
      key = (row['problem_id'], row['sample_index'])
      text, finish_reason = texts.get(key, ('(its sample is not there)', '–'))
      completion = Completion(
        source=source,
        text=text,
        finish_reason=finish_reason,
        **{name: row[name] for name in _VERDICT},
        sample_index=row['sample_index'],
      )
      chosen.setdefault(row['problem_id'], []).append(completion)
  return chosen


def _verdicts(manifest: Any, graded: run_data.GradedStream) -> pa.Table:
  """One stream's verdicts, with the name of the part that each is in."""
  tables = []
  for row in manifest.parts:
    table = manifest.table(part=row['name'], columns=[*_KEY, *_VERDICT])
    table = table.filter(pc.equal(table['stream'], graded.stream))
    names = pa.array([row['name']] * table.num_rows, pa.string())
    tables.append(table.append_column('part', names))
  return pa.concat_tables(tables)


def _of(table: pa.Table, problem_ids: set[str]) -> pa.Table:
  ids = pa.array(sorted(problem_ids), pa.string())
  return table.filter(pc.is_in(table['problem_id'], ids))


def _varied(
  rows: Sequence[Mapping[str, Any]], limit: int
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
  found: run_data.Manifests, graded: run_data.GradedStream, parts: set[str]
) -> dict[tuple[str, int], tuple[str, str]]:
  """{(problem id, sample index): (text, finish reason)} of some parts."""
  manifest, texts = found.get(run_paths.samples_of(graded.key)), {}
  for row in manifest.parts if manifest else ():
    if row['name'] in parts:  # samples and verdicts have parts of equal names
      columns = [*_KEY, 'text', 'finish_reason']
      table = manifest.table(part=row['name'], columns=columns)
      for one in table.to_pylist():
        if one['stream'] == graded.stream:
          key = (one['problem_id'], one['sample_index'])
          texts[key] = (one['text'], one['finish_reason'])
  return texts


def _problems(
  found: run_data.Manifests, problems: str, ids: set[str]
) -> dict[str, dict[str, Any]]:
  manifest = found.get(f'problems/{problems}')
  if manifest is None:
    return {}
  table = manifest.table(columns=list(_PROBLEM))
  table = table.filter(pc.is_in(table['id'], pa.array(sorted(ids))))
  return {row['id']: row for row in table.to_pylist()}


def _article(
  problem_id: str,
  problems: str,
  known: Mapping[str, Mapping[str, Any]],
  completions: Sequence[Completion],
) -> Article:
  absent = {'question': '(the problem is not there)'}
  row = dict.fromkeys(_PROBLEM) | known.get(problem_id, absent)
  return Article(
    id=problem_id,
    problems=problems,
    facts=', '.join(f'{key} {row[key]}' for key in _PROBLEM[4:] if row[key]),
    question=row['question'],
    reference=row['answer'] or row['tests'] or '–',
    completions=completions,
  )


def _size(article: Article, limits: Limits) -> int:
  """About how many bytes of the page it takes."""
  texts = [article.question, article.reference]
  for row in article.completions:
    texts += [row.text, row.answer or '', row.detail]
  cut = ''.join(formatting.cut(text, limits.characters) for text in texts)
  markup = _MARKUP * len(article.completions)
  return len(markupsafe.escape(cut).encode()) + markup


def _shuffled(problem_id: str) -> str:
  """A fixed order that has nothing to do with the problems' names."""
  return hashlib.sha256(problem_id.encode()).hexdigest()
