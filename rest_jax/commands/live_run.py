"""The page of a run that may still be going on, and all of its problems.

What was read is kept until the run changes. `rest-jax view` serves it.
"""

import hashlib
import json
import threading
import time
from typing import Any

from rest_jax import report
from rest_jax.artifacts import storage
from rest_jax.reporting import (
  page,
  run_data,
  run_progress,
  run_reader,
  run_samples,
  sample_browser,
)
from rest_jax.reporting.articles import Article, problem_of

LIMITS = sample_browser.Limits(characters=20_000)


class LiveRun:
  """A run's page, kept until the run changes. Safe for several threads."""

  def __init__(self, run_dir: storage.PathLike):
    """Reads nothing yet.

    Args:
      run_dir: of the run; it need not have begun.
    """
    self.run_dir = storage.path(run_dir)
    # A look at gs:// costs many requests.
    self._pause = 30.0 if storage.is_remote(run_dir) else 1.0
    self._lock = threading.Lock()
    self._looked = 0.0
    self._now = run_progress.Progress()
    self._found: run_data.Manifests = {}
    self._read = ''  # the digest of what _samples and _values were read from
    self._samples: run_samples.Samples | None = None
    self._values: dict[str, Any] = {}

  def state(self) -> dict[str, Any]:
    """{'digest': of all that the page shows}."""
    with self._lock:
      self._look()
      return {'digest': self._digest()}

  def document(self) -> str:
    """The whole page, without any problem."""
    with self._lock:
      samples = self._read_run()
      sections = {'now': 'Now', **self._values['sections']}
      return page.render(
        **self._values | {'sections': sections},
        browser=sample_browser.choices(samples),
        limits=LIMITS,
        now=self._now,
        live=self._digest(),
      )

  def problems(
    self, query: run_samples.Query, start: int, limit: int
  ) -> dict[str, Any]:
    """{'found': number of problems, 'html': of those from `start`}.

    Args:
      query: what is asked for.
      start: the first that is wanted, from 0.
      limit: how many are wanted.
    """
    with self._lock:
      samples = self._read_run()
      found = samples.ids(query)
      articles = []
      for split in samples.members:
        some = [key for s, key in found[start : start + limit] if s == split]
        articles += samples.articles(
          split,
          some,
          completions=LIMITS.completions,
          source=query.source,
          outcome=query.outcome,
        )
    return {'found': len(found), 'html': ''.join(map(_html, articles))}

  def problem(self, anchor: str, whole: bool) -> dict[str, Any] | None:
    """{'html': of one problem}; None where there is none.

    Args:
      anchor: of its article.
      whole: with all of its completions.
    """
    problem_id = problem_of(anchor)
    with self._lock:
      samples = self._read_run()
      split = '/'.join(problem_id.split('/')[:2])
      if split not in samples.members:
        return None
      articles = samples.articles(
        split, [problem_id], completions=None if whole else LIMITS.completions
      )
    articles = [one for one in articles if one.models]
    return {'html': ''.join(map(_html, articles))} if articles else None

  def _look(self) -> None:
    """Finds out what there is, unless that was done a moment ago."""
    if self._looked and time.monotonic() - self._looked < self._pause:
      return
    if self.run_dir.exists():
      self._found = run_reader.find(self.run_dir)
    self._now = run_progress.progress(self.run_dir)
    self._looked = time.monotonic()

  def _digest(self) -> str:
    return _digest_of([self._content(), vars(self._now)])

  def _content(self) -> str:
    """The digest of what the sections below `Now` are made from."""
    steps = [
      (one.folder, one.done)
      for one in self._now.unfinished
      if one.unit == 'steps'
    ]
    digests = {key: one.digest for key, one in self._found.items()}
    return _digest_of([digests, self._now.finished, steps])

  def _read_run(self) -> run_samples.Samples:
    self._look()
    if self._samples is None or self._read != self._content():
      run = run_reader.read(self.run_dir, self._found)
      bootstrap = report.bootstrap_of(self._found)
      bootstrap['resamples'] = min(
        bootstrap['resamples'], report.PAGE_RESAMPLES
      )
      differences = list(report.compare(run, **bootstrap))
      self._values = report.page_values(
        run, self._found, differences, bootstrap
      )
      self._samples = run_samples.Samples(run, self._found)
      self._read = self._content()
    return self._samples


def _html(article: Article) -> str:
  return page.render_macro('article', 'article', article, LIMITS.characters)


def _digest_of(value: Any) -> str:
  text = json.dumps(value, sort_keys=True, default=repr)
  return hashlib.sha256(text.encode()).hexdigest()[:32]
