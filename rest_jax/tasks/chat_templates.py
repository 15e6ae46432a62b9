"""Chat templates: a task's prompt as a chat model was trained to read it.

A chat template is a Jinja program that turns messages into text. It is run
once, on placeholders (chat_rendering.py), and what stands between them becomes
a PromptTemplate: lead, question, solution and separator, to be encoded part by
part like any other. An exemplar is a turn of the user and one of the
assistant.

    lead | user QUESTION assistant | space SOLUTION | end | user …
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tasks import chat_rendering, prompts
from rest_jax.tokenizers import vocabularies, vocabulary_files

AUTO = 'auto'
_ASKED, _TOLD, _ASKED_AGAIN = (
  '\ue001q1\ue001',
  '\ue001a1\ue001',
  '\ue001q2\ue001',
)


def applied(
  template: prompts.PromptTemplate,
  spec: str | None,
  vocabulary: vocabularies.Vocabulary,
) -> prompts.PromptTemplate:
  """A task's template inside a chat template.

  Args:
    template: the task's own. The user says its lead and its chat_question, the
      assistant its solution, all without white space around them. Its question
      is for prompts that are no chat, and is not used.
    spec: 'auto' for the template that came with the vocabulary's file; the
      path of a Jinja file; None for no chat.
    vocabulary: of the model.

  Returns:
    A template whose completions end at the assistant's end of turn; the given
    one where spec is None.

  Raises:
    ConfigurationError: no chat template is there, or it cannot be used.
  """
  if spec is None:
    return template
  source = vocabulary.spec if spec == AUTO else spec
  if spec == AUTO:
    text = vocabulary_files.chat_template(source)
  else:
    text = _read(source)
  if text is None:
    raise configuration.ConfigurationError(
      f'CHAT: {source} comes with no chat template. Set CHAT to the path of a '
      'Jinja file, or to None for the plain prompt.'
    )
  try:
    turns = parts(text, _names(vocabulary))
  except ValueError as error:
    raise configuration.ConfigurationError(
      f'CHAT: the template of {source}: {error}.'
    ) from error
  # White space before the end of a turn is a part of the answer.
  end = turns.end.lstrip()
  first = vocabulary.split_specials(end)[:1]
  eos = [name for name, id_ in vocabulary.specials.items() if [id_] == first]
  if not eos:
    raise configuration.ConfigurationError(
      f"CHAT: in the template of {source} the assistant's turn ends with "
      f'{turns.end!r}, which does not begin with a special token of '
      f'{vocabulary.spec}: they do not belong together.'
    )
  said = template.lead + template.chat_question
  lead, user, separator = _with_one_bos(turns, end, vocabulary)
  return prompts.PromptTemplate(
    lead=lead,
    question=user + said.strip() + turns.assistant,
    chat_question=template.chat_question,
    opening=turns.opening,
    solution=turns.space
    + template.solution.strip()
    + turns.end.removesuffix(end),
    separator=separator,
    eos=eos[0],
  )


def _names(vocabulary: vocabularies.Vocabulary) -> dict[str, str]:
  """The special tokens by name; BOS and EOS by id where no file names them."""
  texts = {id_: text for text, id_ in vocabulary.specials.items()}
  found = {
    'bos_token': texts.get(vocabulary.bos_id, ''),
    'eos_token': texts.get(vocabulary.eos_id, ''),
  }
  return found | vocabulary.names


def _with_one_bos(
  turns: 'Turns', end: str, vocabulary: vocabularies.Vocabulary
) -> tuple[str, str, str]:
  """(lead, before a question, separator) such that a prompt has BOS once.

  A template may write BOS, as text or as {{ bos_token }}, at the start or (as
  Llama 2's) before each question; and the tokenizer may add one.
  """
  lead, user, separator = turns.lead, turns.user, end
  texts = {id_: text for text, id_ in vocabulary.specials.items()}
  bos = texts.get(vocabulary.bos_id)
  if bos is None:
    return lead, user, separator
  if not lead and user.startswith(bos):
    # Before each question: the same text, with BOS counted to what stands
    # before the question.
    user = user.removeprefix(bos)
    lead, separator = bos, separator + bos
  return lead.removeprefix(bos), user, separator  # encode_lead adds it


class Turns(NamedTuple):
  """What a chat template writes around what is said."""

  lead: str  # before the first turn
  user: str  # before a question
  assistant: str  # between a question and its answer
  opening: str  # what the model is made to begin its answer with: '<think>'
  space: str  # white space that a shown answer begins with
  end: str  # behind an answer


def parts(text: str, names: Mapping[str, str]) -> Turns:
  """Takes a chat template apart.

  Args:
    text: a Jinja chat template as models publish them.
    names: the special tokens that it calls by name: bos_token, eos_token.

  Raises:
    ValueError: it cannot be run, changes what is said, or does not treat all
      turns alike.
  """
  told = [
    {'role': 'user', 'content': _ASKED},
    {'role': 'assistant', 'content': _TOLD},
  ]
  again = [*told, {'role': 'user', 'content': _ASKED_AGAIN}]
  # How a turn ends shows where nothing follows; all else where others do
  # (Qwen3 writes the last turn with its thoughts).
  shown = chat_rendering.render(text, told, names, prompt=False)
  *_, end = _split(shown, _ASKED, _TOLD)
  asked = chat_rendering.render(text, again, names, prompt=True)
  before, between, after, last = _split(asked, _ASKED, _TOLD, _ASKED_AGAIN)
  if not after.startswith(end):
    raise ValueError('it ends a turn in another way when others follow')
  user = after.removeprefix(end)
  if not before.endswith(user):  # white space between turns, not behind them
    bare = user.lstrip()
    end, user = end + user.removesuffix(bare), bare
  opening = last.removeprefix(between) if last.startswith(between) else ''
  assistant = last.removesuffix(opening)
  space = between.removeprefix(assistant)
  if not between.startswith(assistant) or space.strip():
    raise ValueError(
      f'an answer is asked for with {last!r}, but shown behind {between!r}'
    )
  if not before.endswith(user):
    raise ValueError(
      f'the first question begins with {before!r}, a later one with {user!r}'
    )
  lead = before.removesuffix(user)
  return Turns(lead, user, assistant, opening, space, end)


def _read(source: str) -> str:
  path = storage.path(source)
  if not path.exists():
    raise configuration.ConfigurationError(
      f"CHAT: got {source!r}; allowed: 'auto', the path of a Jinja file, or "
      f'None. No such file{" in " + os.getcwd() if "/" not in source else ""}.'
    )
  return path.read_text()


def _split(text: str, *marks: str) -> list[str]:
  """The pieces of a text between marks that must stand in it, in this order."""
  pieces = []
  for mark in marks:
    if text.count(mark) != 1:
      raise ValueError('it leaves out, repeats or changes what is said')
    piece, _, text = text.partition(mark)
    pieces.append(piece)
  return [*pieces, text]
