"""Texts become records: problems with their prompt parts, and documents."""

import functools
from collections.abc import Callable

from rest_jax.artifacts import records
from rest_jax.tasks import problem_sets, prompts
from rest_jax.tokenizers import vocabularies


def problems(
  problem_set: problem_sets.ProblemSet,
  texts: problem_sets.TaskTexts,
  config: problem_sets.TaskConfig,
  vocabulary: vocabularies.Vocabulary,
) -> list[records.Problem]:
  """The rows of a split as records. Only `train` keeps human solutions.

  Args:
    problem_set: the split.
    texts: what it is of; holds the exemplars of the few-shot prompt.
    config: its prompt template is used.
    vocabulary: encodes.
  """
  template, chat = config.prompt, config.chat is not None
  parts_of = prompt_parts(template, vocabulary, texts, chat=chat)
  result = []
  for row in problem_set.rows:
    solution = row.solution if problem_set.split == problem_sets.TRAIN else None
    ids = None
    if solution is not None:
      said = solution.strip() if chat else solution
      ids = prompts.encode_solution(template, vocabulary, said)
    result.append(
      records.Problem(
        id=f'{problem_set.task}/{problem_set.split}/{row.key}',
        prompt_parts=parts_of(row),
        question=row.question,
        answer=row.answer,
        tests=row.tests,
        level=row.level,
        type=row.type,
        solution=solution,
        solution_ids=ids,
      )
    )
  return result


def prompt_parts(
  template: prompts.PromptTemplate,
  vocabulary: vocabularies.Vocabulary,
  texts: problem_sets.TaskTexts,
  *,
  chat: bool = False,
) -> Callable[[problem_sets.Row], list[list[int]]]:
  """A function that gives a problem's [lead, exemplars, question] as ids.

  Args:
    template: of the prompt.
    vocabulary: encodes each part by itself.
    texts: holds the exemplars.
    chat: whether the template is a chat's. A problem's instruction then
      belongs to its question, and what is said has no white space around it.
  """

  @functools.cache
  def lead_of(text: str) -> list[int]:
    return prompts.encode_lead(template, vocabulary, text)

  @functools.cache
  def exemplars_of(pairs: tuple[tuple[str, str], ...]) -> list[int]:
    return prompts.encode_exemplars(template, vocabulary, pairs)

  def asked(row: problem_sets.Row) -> str:
    return (row.lead + row.question).strip() if chat else row.question

  def told(row: problem_sets.Row) -> str:
    return row.solution.strip() if chat else row.solution

  def parts_of(row: problem_sets.Row) -> list[list[int]]:
    shown = texts.exemplars_of(row)
    return [
      lead_of('' if chat else row.lead),
      exemplars_of(tuple((asked(one), told(one)) for one in shown)),
      prompts.encode_question(template, vocabulary, asked(row)),
    ]

  return parts_of


def documents(
  config: problem_sets.TaskConfig,
  vocabulary: vocabularies.Vocabulary,
  seed: int,
  start: int,
  stop: int,
) -> list[records.Example]:
  """Documents start to stop - 1 of a corpus, whole.

  Every token is a target, or those of solutions and of the document's end: as
  the task's config says.
  """
  lead = prompts.encode_lead(config.prompt, vocabulary)
  eos = prompts.eos_id(config.prompt, vocabulary)
  task = config.folders()[0][0]
  rows = []
  for index, document in enumerate(config.documents(seed, start, stop), start):
    ids = list(lead)
    read = records.PROMPT if config.learns_solutions_only() else records.TARGET
    types = [read] * len(lead)
    for pair in document:
      asked, told = prompts.encode_exemplar(config.prompt, vocabulary, *pair)
      ids += asked + told
      types += [read] * len(asked) + [records.TARGET] * len(told)
    rows.append(
      records.Example(
        problem_id=f'{task}/corpus/{index:06d}',
        sample_index=-1,
        token_ids=[*ids, eos],
        weight=1.0,
        segment_types=[*types, records.TARGET],
      )
    )
  return rows
