"""Folders of problems and of samples, as prepare and sample write them."""

import contextlib
import os

from rest_jax.artifacts import manifests, records, stage_work
from rest_jax.rewards import pool


def problems(folder, answers, *, grader='number'):
  """Writes {key: answer} as the problems of task t."""
  with stage_work.work_on(
    folder,
    stage='prepare',
    kind=records.Problem,
    semantic={},
    inputs={'answers': manifests.digest_of(answers)},
    version=1,
  ) as work:
    rows = [
      records.Problem(
        id=f't/train/{key}',
        prompt_parts=[[1], [7], [8]],
        question='?',
        **{'tests' if grader == 'program' else 'answer': answer},
      )
      for key, answer in answers.items()
    ]
    work.write(records.part_name(0, 1), rows, source=str(answers))
    card = {'task': 't', 'split': 'train', 'grader': grader, 'eos_id': 2}
    card |= {'vocabulary': 'bytes'}
    work.finish(statistics={'task': card})
  return os.fspath(folder)


def samples(folder, parts, *, stream='e_step'):
  """Writes [[(key, index, text[, finish reason])]], a list per part."""
  with drawing(folder, parts, stream=stream) as work:
    for number, part in enumerate(parts):
      write_part(work, number, part, stream=stream)
    work.finish()
  return os.fspath(folder)


@contextlib.contextmanager
def drawing(folder, parts, *, stream='e_step'):
  """A folder of samples that these parts will be written to."""
  with stage_work.work_on(
    folder,
    stage='sample',
    kind=records.Sample,
    semantic={'stream': {'name': stream, 'temperature': 1.0}},
    inputs={'parts': manifests.digest_of(parts)},
    version=1,
  ) as work:
    yield work


def write_part(work, number, part, *, stream='e_step'):
  """Writes one part of `samples`."""
  name = records.part_name(number, 8)
  work.write(name, rows(part, stream=stream), source=manifests.digest_of(part))


def table(part, *, stream='dval'):
  """The samples of a part of `samples`, as they are written."""
  return records.to_table(records.Sample, rows(part, stream=stream))


def rows(part, *, stream):
  """The records of [(key, index, text[, finish reason])]."""
  return [
    records.Sample(
      problem_id=f't/train/{key}',
      sample_index=index,
      stream=stream,
      policy_digest='p',
      prompt_digest='d',
      token_ids=[3, 2],
      target_length=1,
      text=text,
      logprobs=[0.0, 0.0],
      sampling_logprobs=[0.0, 0.0],
      finish_reason=reason[0] if reason else 'eos',
      engine_fingerprint='e',
    )
    for key, index, text, *reason in part
  ]


def graded(monkeypatch) -> list[str]:
  """Names of the samples that are really graded from now on."""
  names = []
  original = pool.Pool.grade

  def spy(self, items, *rest):
    names.extend(item.name for item in items)
    return original(self, items, *rest)

  monkeypatch.setattr(pool.Pool, 'grade', spy)
  return names
