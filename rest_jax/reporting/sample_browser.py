"""The sample browser: what the models wrote, with their verdicts.

The static page holds what `browse` chooses: the same problems for each model,
some of those whose verdict changed, and one more for each verdict class that
would be missing otherwise. `rest-jax view` loads all of them page by page.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import markupsafe
import pyarrow.compute as pc

from rest_jax.reporting import (
  formatting,
  outcome_charts,
  run_data,
  run_samples,
)
from rest_jax.reporting.articles import Article

_MARKUP = 300  # bytes of the page around the texts of a completion


@dataclasses.dataclass(frozen=True)
class Limits:
  """How much of a run the static page shows.

  Attributes:
    problems: per evaluated set or training set.
    changed: further problems that were gained, and as many that were lost.
    completions: per problem, model and stream.
    characters: of one text; the rest is cut.
    page: bytes of all of them together.
  """

  problems: int = 24
  changed: int = 6
  completions: int = 4
  characters: int = 3_000
  page: int = 2_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Browser:
  """The samples in the static page, or none for a page that loads them.

  Attributes:
    articles: what is shown, by set of problems.
    total: completions of the run.
    left_out: whether there were more problems than the page may hold.
    splits, sources, outcomes: that the reader can choose from.
    ends: names of the models that a change is between; None: there are not two.
    starts: {set of problems: the start that its articles' prompts share}.
  """

  articles: Sequence[Article] = ()
  total: int
  left_out: bool = False
  splits: Sequence[str]
  sources: Sequence[str]
  outcomes: Sequence[str]
  ends: tuple[str, str] | None
  starts: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def shown(self) -> int:
    """The number of completions."""
    return sum(len(c) for one in self.articles for _, c in one.models)


def choices(samples: run_samples.Samples) -> Browser | None:
  """What a reader can choose from; None: nothing has been graded yet."""
  every = [one for several in samples.members.values() for one in several]
  if not every:
    return None
  seen = {name for one in every for name in one.graded.outcomes}
  ends = samples.run.ends
  return Browser(
    total=sum(sum(one.graded.outcomes.values()) for one in every),
    splits=list(samples.members),
    sources=list(dict.fromkeys(one.source for one in every)),
    outcomes=[name for name in outcome_charts.STYLES if name in seen],
    ends=ends and tuple(formatting.model_name(m.name) for m in ends),
  )


def browse(samples: run_samples.Samples, limits: Limits) -> Browser | None:
  """The static page's choice; None where nothing has been graded."""
  browser = choices(samples)
  if browser is None:
    return None
  articles, starts, left = [], {}, limits.page
  for split in samples.members:
    made = samples.articles(
      split, _chosen(samples, split, limits), completions=limits.completions
    )
    if made:
      starts[split] = made[0].start
      left -= len(made[0].start)
    for article in made:
      left -= _size(article, limits)
      if left < 0:
        break
      articles.append(article)
  return dataclasses.replace(
    browser, articles=articles, left_out=left < 0, starts=starts
  )


def _chosen(
  samples: run_samples.Samples, split: str, limits: Limits
) -> list[str]:
  """The problems of one set in the static page, in their order."""
  table, changes = samples.table(split), samples.changes(split)
  first = table.filter(pc.equal(table['source'], table['source'][0]))
  ids = []
  for part in pc.unique(first['part']):  # no more parts than are needed
    if len(ids) < limits.problems:
      some = first.filter(pc.equal(first['part'], part))['problem_id']
      ids += sorted(pc.unique(some).to_pylist(), key=_shuffled)
  ids = set(ids[: limits.problems])
  for change in ('gained', 'lost'):
    keys = [key for key, what in changes.items() if what == change]
    ids.update(sorted(keys, key=_shuffled)[: limits.changed])
  for one in samples.members[split]:
    of_one = table.filter(pc.equal(table['source'], one.source))
    outcomes = set(
      pc.unique(run_samples.of_problems(of_one, ids)['outcome']).to_pylist()
    )
    for outcome in set(pc.unique(of_one['outcome']).to_pylist()) - outcomes:
      rare = of_one.filter(pc.equal(of_one['outcome'], outcome))
      ids.add(min(pc.unique(rare['problem_id']).to_pylist(), key=_shuffled))
  return sorted(ids, key=run_data.natural)


def _size(article: Article, limits: Limits) -> int:
  """About how many bytes of the page it takes."""
  completions = [row for _, several in article.models for row in several]
  texts = [article.question, article.reference, article.prompt]
  for row in completions:
    texts += [row.text, row.answer or '', row.detail]
  cut = ''.join(formatting.cut(text, limits.characters) for text in texts)
  return len(markupsafe.escape(cut).encode()) + _MARKUP * len(completions)


def _shuffled(problem_id: str) -> str:
  """A fixed order that has nothing to do with the problems' names."""
  return hashlib.sha256(problem_id.encode()).hexdigest()
