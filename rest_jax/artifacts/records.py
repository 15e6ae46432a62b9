"""What the stages write for each other: four kinds of record, in Parquet.

    Problem ─ sample ─▶ Sample ─ score ─▶ Verdict ─ select ─▶ Example

Each kind is a frozen dataclass and one Arrow schema; a file of records is a
*part*, `part-00007-of-00030.parquet`, that pandas or DuckDB open as it is.
Records are joined by id, never by their order. A part is written whole or not
at all, carries in its metadata the digest of what it was made from, and is
checked against its folder's manifest whenever it is read (see manifests.py).
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from rest_jax.artifacts import storage

_INT32_LIST = pa.list_(pa.int32())
_FLOAT_LIST = pa.list_(pa.float32())


class CorruptPartError(ValueError):
  """A part is damaged, edited, missing or of another kind."""


def column(type_: pa.DataType, default=dataclasses.MISSING, *, volatile=False):
  """A dataclass field with its Arrow type.

  Args:
    type_: the column's Arrow type.
    default: the field's default, if it has one.
    volatile: differs between two identical runs (a duration): kept, but no
      part of the content digest.
  """
  metadata = {'arrow': type_, 'volatile': volatile}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
  """A task's problem: what is asked, and what decides whether it is solved."""

  id: str = column(pa.string())  # task/split/key
  # Separately encoded parts, never re-tokenised: [lead, exemplars, question].
  # lead: BOS and preamble. Few-shot prompt: their concatenation; zero-shot:
  # lead + question.
  prompt_parts: Sequence[Sequence[int]] = column(pa.list_(_INT32_LIST))
  question: str = column(pa.string())
  answer: str | None = column(pa.string(), None)
  tests: str | None = column(pa.string(), None)  # JSON, for programs
  level: str | None = column(pa.string(), None)
  type: str | None = column(pa.string(), None)
  # A human solution and its ids (without EOS). Only the SFT baseline and the
  # few-shot exemplars may use it.
  solution: str | None = column(pa.string(), None)
  solution_ids: Sequence[int] | None = column(_INT32_LIST, None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
  """One completion that a policy gave to a problem."""

  problem_id: str = column(pa.string())
  sample_index: int = column(pa.int32())
  stream: str = column(pa.string())  # e_step | dval | difficulty | eval/NAME
  policy_digest: str = column(pa.string())
  prompt_digest: str = column(pa.string())  # of the prompt ids, see below
  token_ids: Sequence[int] = column(_INT32_LIST)  # as sampled, EOS included
  # The first target_length ids are the solution: EOS and the stop string are
  # behind them. A training target is these ids and EOS.
  target_length: int = column(pa.int32())
  text: str = column(pa.string())  # cut before the stop string
  # Natural log of each sampled token's probability, one per token id: under
  # the model at T = 1, and under the distribution that was sampled from
  # (temperature, top-k, top-p; 0 for greedy).
  logprobs: Sequence[float] = column(_FLOAT_LIST)
  sampling_logprobs: Sequence[float] = column(_FLOAT_LIST)
  finish_reason: str = column(pa.string())  # eos | stop | length | prompt
  engine_fingerprint: str = column(pa.string())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
  """What the grader says of one sample."""

  problem_id: str = column(pa.string())
  sample_index: int = column(pa.int32())
  stream: str = column(pa.string())
  outcome: str = column(pa.string())  # rewards.verdicts.OUTCOMES
  reward: float = column(pa.float32())  # >= 0
  answer: str | None = column(pa.string())  # canonical; what maj@k votes on
  detail: str = column(pa.string())  # one line for a person
  grader: str = column(pa.string())  # name and version, 'number/1'
  seconds: float = column(pa.float32(), 0.0, volatile=True)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Example:
  """One training sequence: a prompt, and a target to learn."""

  problem_id: str = column(pa.string())
  sample_index: int = column(pa.int32())  # -1: a human solution or a document
  token_ids: Sequence[int] = column(_INT32_LIST)  # prompt, target, EOS
  weight: float = column(pa.float32())  # >= 0, of the whole sequence
  # One per token id: PROMPT is read, TARGET is learned.
  segment_types: Sequence[int] = column(pa.list_(pa.int8()))


PROMPT, TARGET = 0, 1  # values of Example.segment_types
KINDS = {kind.__name__: kind for kind in (Problem, Sample, Verdict, Example)}

Record = TypeVar('Record', Problem, Sample, Verdict, Example)


@functools.cache
def schema(kind: type) -> pa.Schema:
  """The Arrow schema of a kind of record."""
  return pa.schema(
    [(f.name, f.metadata['arrow']) for f in dataclasses.fields(kind)]
  )


PART = 'part-'  # how the names of parts begin


def part_name(part: int, parts: int, *, first_sample: int = 0) -> str:
  """The file name of part `part` of `parts`.

  Args:
    part: from 0.
    parts: how many there are in all.
    first_sample: the lowest sample index in it; parts that extend an earlier
      sampling carry it in their name.
  """
  stem = f'{PART}{part:05d}-of-{parts:05d}'
  return (
    f'{stem}.from-{first_sample:05d}.parquet'
    if first_sample
    else (f'{stem}.parquet')
  )


def prompt_digest(parts: Iterable[Sequence[int]]) -> str:
  """A digest of a prompt's ids: the same for the same concatenation."""
  text = ' '.join(str(token) for part in parts for token in part)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_table(kind: type[Record], rows: Iterable[Record]) -> pa.Table:
  """Records as an Arrow table."""
  names = [field.name for field in dataclasses.fields(kind)]
  columns = {name: [] for name in names}
  for row in rows:
    for name in names:
      columns[name].append(getattr(row, name))
  return pa.table(columns, schema=schema(kind))


def to_records(kind: type[Record], table: pa.Table) -> list[Record]:
  """The rows of an Arrow table as records."""
  return [kind(**row) for row in table.select(schema(kind).names).to_pylist()]


def write_table(
  target: storage.PathLike, kind: type, table: pa.Table, *, source: str
) -> dict:
  """Writes one part, whole or not at all.

  Args:
    target: the part's path.
    kind: its kind of record.
    table: its rows.
    source: digest of everything that the rows were made from.

  Returns:
    The part's row for a manifest: name, rows, bytes, sha256 (of the file) and
    content (of the rows without their volatile columns).
  """
  target = storage.path(target)
  content = content_digest(kind, table)
  metadata = {'kind': kind.__name__, 'source': source, 'content': content}
  buffer = io.BytesIO()
  pq.write_table(
    table.replace_schema_metadata(metadata), buffer, compression='zstd'
  )
  data = buffer.getvalue()
  storage.write_bytes(target, data)
  return {
    'name': target.name,
    'rows': table.num_rows,
    'bytes': len(data),
    'sha256': hashlib.sha256(data).hexdigest(),
    'content': content,
    'source': source,
  }


@contextlib.contextmanager
def writer(
  folder: storage.PathLike,
  *,
  kind: type[Record],
  part: int,
  parts: int,
  source: str = '',
) -> Iterator[list[Record]]:
  """A list to append records to; the part is written when the block ends."""
  rows = []
  yield rows
  target = storage.path(folder) / part_name(part, parts)
  write_table(target, kind, to_table(kind, rows), source=source)


def read_part(
  source: storage.PathLike,
  kind: type,
  *,
  expected: dict | None = None,
  columns: Sequence[str] | None = None,
) -> pa.Table:
  """Reads one part and checks it.

  Args:
    source: the part's path.
    kind: the kind of record that it must hold.
    expected: its row in the manifest; size and sha256 are compared.
    columns: only these columns; all by default.

  Raises:
    CorruptPartError: naming the part, what is wrong and what to do.
  """
  source = storage.path(source)
  try:
    data = source.read_bytes()
  except FileNotFoundError:
    raise CorruptPartError(
      f'{source}: missing. Run the stage that wrote it again; its other parts '
      'are kept.'
    ) from None
  if expected is not None:
    if len(data) != expected['bytes']:
      raise CorruptPartError(
        f'{source}: {len(data)} bytes, its manifest says {expected["bytes"]}: '
        f'truncated or edited. {_MEND}'
      )
    if hashlib.sha256(data).hexdigest() != expected['sha256']:
      raise CorruptPartError(
        f'{source}: its sha256 is not the one in its manifest: edited or '
        f'damaged. {_MEND}'
      )
  try:
    file = pq.ParquetFile(io.BytesIO(data))
    table = file.read(columns=list(columns) if columns else None)
  except (pa.ArrowException, OSError) as error:
    raise CorruptPartError(
      f'{source}: not a readable Parquet file ({error}). {_MEND}'
    ) from error
  stored = (file.schema_arrow.metadata or {}).get(b'kind', b'?').decode()
  if stored != kind.__name__:
    raise CorruptPartError(
      f'{source}: holds {stored} records, expected {kind.__name__}. {_MEND}'
    )
  return table


def describe_part(source: storage.PathLike, kind: type) -> dict | None:
  """The manifest row of a part that is there and whole, else None."""
  source = storage.path(source)
  if not source.exists():
    return None
  try:
    data = source.read_bytes()
    file = pq.ParquetFile(io.BytesIO(data))
    file.read(columns=file.schema_arrow.names[:1])
  except (pa.ArrowException, OSError):
    return None  # half-written or damaged: it is made again
  metadata = file.schema_arrow.metadata or {}
  if metadata.get(b'kind', b'').decode() != kind.__name__:
    return None
  return {
    'name': source.name,
    'rows': file.metadata.num_rows,
    'bytes': len(data),
    'sha256': hashlib.sha256(data).hexdigest(),
    'content': metadata[b'content'].decode(),
    'source': metadata[b'source'].decode(),
  }


def content_digest(kind: type, table: pa.Table) -> str:
  """sha256 of the rows, without their volatile columns."""
  keep = [
    f.name for f in dataclasses.fields(kind) if not f.metadata['volatile']
  ]
  table = table.select(keep).replace_schema_metadata(None).combine_chunks()
  sink = io.BytesIO()
  with pa.ipc.new_stream(sink, table.schema) as stream:
    stream.write_table(table)
  return hashlib.sha256(sink.getvalue()).hexdigest()


_MEND = (
  'Delete this file and run the stage that wrote it again; its other parts '
  'are kept.'
)
