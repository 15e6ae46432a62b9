"""The verdicts on one part of the samples of some problems."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from rest_jax.artifacts import manifests, records, storage
from rest_jax.config import configuration
from rest_jax.rewards import pool, registry

_COLUMNS = ('problem_id', 'sample_index', 'stream', 'text', 'finish_reason')


class Part(NamedTuple):
  """Samples that wait for their verdicts.

  Attributes:
    name: of the part's file.
    table: the samples, as far as they are graded by it.
    source: a digest of all that the verdicts depend on.
  """

  name: str
  table: pa.Table
  source: str


def standing(folder: storage.Path, part: Part) -> pa.Table | None:
  """The verdicts on a part; None where it has none, or has changed.

  Args:
    folder: of the verdicts, which lie under the names of the parts.
    part: of the samples.
  """
  path = folder / part.name
  row = records.describe_part(path, records.Verdict)
  if row is None or row['source'] != part.source:
    return None
  table = records.read_part(path, records.Verdict, expected=row)
  return table.replace_schema_metadata(None)


class PartGrader:
  """Grades samples of the problems of one folder."""

  def __init__(
    self,
    problems: manifests.Manifest,
    grader: registry.Grader,
    grading: pool.Pool,
  ):
    """Args:
    problems: that were sampled.
    grader: of their task.
    grading: processes that run it.
    """
    self._grader, self._grading = grader, grading
    table = problems.table(columns=['id', grader.reads])
    self._references: dict[str, str | None] = dict(
      zip(table['id'].to_pylist(), table[grader.reads].to_pylist(), strict=True)
    )

  def read(self, folder: storage.Path, row: Mapping[str, Any]) -> Part:
    """A part of a folder of samples.

    Args:
      folder: of the samples.
      row: the part's, of the folder's manifest or as records.describe_part
        gives it.

    Raises:
      ConfigurationError: they are samples of other problems.
    """
    path = folder / row['name']
    table = records.read_part(
      path, records.Sample, expected=row, columns=_COLUMNS
    )
    return self.part(path, row, table)

  def part(
    self, path: storage.Path, row: Mapping[str, Any], table: pa.Table
  ) -> Part:
    """A part whose samples are at hand.

    Args:
      path: of its file.
      row: as of `read`.
      table: the samples.

    Raises:
      ConfigurationError: they are samples of other problems.
    """
    ids = table['problem_id'].to_pylist()
    missing = next((i for i in ids if i not in self._references), None)
    if missing is not None:
      raise configuration.ConfigurationError(
        f'{path}: samples of the problem {missing!r}, which is not among the '
        'problems. PROBLEMS_DIRS and SAMPLES_DIRS must be of one run and in '
        'the same order.'
      )
    answers = {problem_id: self._references[problem_id] for problem_id in ids}
    source = manifests.digest_of([row['content'], self._grader.label, answers])
    return Part(row['name'], table.select(_COLUMNS), source)

  def grade(
    self, part: Part, tell: Callable[[int], None] = lambda done: None
  ) -> pa.Table:
    """The verdicts on the samples of a part, in their order.

    Args:
      part: that was read here.
      tell: is called with the number of samples that are graded.
    """
    columns = [part.table[name].to_pylist() for name in _COLUMNS]
    items = [
      pool.Item(
        completion=text,
        reference=self._references[problem_id],
        finish_reason=finish_reason,
        name=f'sample {index} of the problem {problem_id}',
      )
      for problem_id, index, _, text, finish_reason in zip(
        *columns, strict=True
      )
    ]
    return self._to_table(part.table, self._grading.grade(items, tell))

  def _to_table(
    self, samples: pa.Table, graded: Sequence[pool.Graded]
  ) -> pa.Table:
    found = [item.verdict for item in graded]
    return pa.table(
      {
        'problem_id': samples['problem_id'],
        'sample_index': samples['sample_index'],
        'stream': samples['stream'],
        'outcome': [verdict.outcome for verdict in found],
        'reward': [verdict.reward for verdict in found],
        'answer': [verdict.answer for verdict in found],
        'detail': [verdict.detail for verdict in found],
        'grader': [self._grader.label] * len(found),
        'seconds': [item.seconds for item in graded],
      },
      schema=records.schema(records.Verdict),
    )
