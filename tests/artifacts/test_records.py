"""Parts are whole or said to be broken, and any tool can read them."""

import dataclasses
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rest_jax.artifacts import records, storage
from rest_jax.artifacts.records import Example, Problem, Sample, Verdict

PROBLEM = Problem(
  id='t/train/1',
  prompt_parts=[[1, 2], [], [3]],
  question='What is 1 + 1?',
  answer='2',
  level='1',
)
SAMPLE = Sample(
  problem_id='t/train/1',
  sample_index=0,
  stream='e_step',
  policy_digest='p',
  prompt_digest='q',
  token_ids=[5, 6, 2],
  target_length=2,
  text='2 ünï 日本',
  logprobs=[-0.5, -0.25, 0.0],
  sampling_logprobs=[0.0, -0.25, 0.0],
  finish_reason='eos',
  engine_fingerprint='e',
)
VERDICT = Verdict(
  problem_id='t/train/1',
  sample_index=0,
  stream='e_step',
  outcome='correct',
  reward=1.0,
  answer=None,
  detail='',
  grader='number/1',
  seconds=0.5,
)
EXAMPLE = Example(
  problem_id='t/train/1',
  sample_index=-1,
  token_ids=[1, 2, 3],
  weight=0.5,
  segment_types=[0, 1, 1],
)


@pytest.fixture(params=['local', 'remote'])
def folder(request, tmp_path):
  if request.param == 'local':
    return storage.path(tmp_path)
  return storage.path(f'{request.getfixturevalue("bucket")}/run')


@pytest.mark.parametrize('row', [PROBLEM, SAMPLE, VERDICT, EXAMPLE])
def test_records_come_back_as_they_were_written(folder, row):
  kind = type(row)
  target = folder / 'part.parquet'
  described = records.write_table(
    target, kind, records.to_table(kind, [row, row]), source='s'
  )
  table = records.read_part(target, kind, expected=described)
  assert records.to_records(kind, table) == [row, row]
  assert records.describe_part(target, kind) == described
  plain = pq.read_table(io.BytesIO(target.read_bytes()))  # as any tool would
  assert plain.column_names == [f.name for f in dataclasses.fields(kind)]


def test_the_content_digest_ignores_durations_and_nothing_else():
  def digest(**changes):
    row = dataclasses.replace(VERDICT, **changes)
    return records.content_digest(Verdict, records.to_table(Verdict, [row]))

  assert digest(seconds=9.0) == digest()
  for field in dataclasses.fields(Verdict):
    if field.name != 'seconds':
      value = getattr(VERDICT, field.name)
      other = (value or '') + 'x' if not isinstance(value, (int, float)) else 7
      assert digest(**{field.name: other}) != digest(), field.name


def test_the_content_digest_does_not_depend_on_how_rows_were_gathered():
  rows = [dataclasses.replace(SAMPLE, sample_index=i) for i in range(5)]
  whole = records.to_table(Sample, rows)
  pieces = pa.concat_tables(
    [records.to_table(Sample, rows[:2]), records.to_table(Sample, rows[2:])]
  )
  assert pieces.column('text').num_chunks == 2
  digests = {records.content_digest(Sample, t) for t in (whole, pieces)}
  sliced = pa.concat_tables([whole, whole]).slice(5, 5)
  digests.add(records.content_digest(Sample, sliced))
  assert len(digests) == 1


def damage(target, how):
  data = target.read_bytes()
  if how == 'truncated':
    target.write_bytes(data[: len(data) // 2])
  elif how == 'edited':  # same size, one bit
    middle = len(data) // 2
    flipped = bytes([data[middle] ^ 1])
    target.write_bytes(data[:middle] + flipped + data[middle + 1 :])
  elif how == 'missing':
    target.unlink()
  elif how == 'empty':
    target.write_bytes(b'')
  elif how == 'rewritten':  # a valid part with other rows
    row = dataclasses.replace(VERDICT, reward=0.0)
    table = records.to_table(Verdict, [row])
    records.write_table(target, Verdict, table, source='s')
  elif how == 'another kind':
    table = records.to_table(Example, [EXAMPLE])
    records.write_table(target, Example, table, source='s')


@pytest.mark.parametrize(
  'how',
  ['truncated', 'edited', 'missing', 'empty', 'rewritten', 'another kind'],
)
def test_a_damaged_part_is_named_with_what_to_do(folder, how):
  target = folder / 'part.parquet'
  table = records.to_table(Verdict, [VERDICT])
  row = records.write_table(target, Verdict, table, source='s')
  damage(target, how)
  mend = 'Run the stage' if how == 'missing' else 'Delete this file'
  with pytest.raises(records.CorruptPartError, match=f'part.parquet.*{mend}'):
    records.read_part(target, Verdict, expected=row)


@pytest.mark.parametrize(
  'how', ['truncated', 'missing', 'empty', 'another kind']
)
def test_a_damaged_part_counts_as_not_made(folder, how):
  target = folder / 'part.parquet'
  table = records.to_table(Verdict, [VERDICT])
  records.write_table(target, Verdict, table, source='s')
  damage(target, how)
  assert records.describe_part(target, Verdict) is None


def test_a_foreign_parquet_file_counts_as_not_made(tmp_path):
  target = storage.path(tmp_path) / 'part.parquet'
  pq.write_table(pa.table({'x': [1]}), target)
  assert records.describe_part(target, Verdict) is None


def test_a_part_whose_block_fails_is_not_written(folder):
  with pytest.raises(KeyError):
    with records.writer(folder, kind=Verdict, part=0, parts=2) as rows:
      rows.append(VERDICT)
      raise KeyError
  assert not (folder / records.part_name(0, 2)).exists()
  with records.writer(folder, kind=Verdict, part=0, parts=2) as rows:
    rows.append(VERDICT)
  table = records.read_part(folder / records.part_name(0, 2), Verdict)
  assert table.num_rows == 1


def test_the_prompt_digest_is_of_the_concatenation():
  assert records.prompt_digest([[1, 2], [3]]) == records.prompt_digest(
    [[1], [2, 3]]
  )
  assert records.prompt_digest([[1, 2]]) != records.prompt_digest([[12]])
