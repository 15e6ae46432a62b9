"""Chat templates: a task's prompt as a chat model was trained to read it.

A chat template is a Jinja program that turns messages into text. It is run
once, on placeholders, and what stands between them becomes a PromptTemplate:
lead, question, solution and separator, to be encoded part by part like any
other. A worked example is a turn of the user and one of the assistant.

    lead | user QUESTION assistant | space SOLUTION | end | user …

The program comes with the model and is not trusted: it runs in Jinja's
sandbox, sees nothing but the placeholders, and no clock, so that the same
model always gives the same prompt.
"""

import json
import os
from typing import NamedTuple

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tasks import prompts
from rest_jax.tokenizers import vocabularies

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
    template: the task's own; its question (without white space around it) is
      what the user says, its solution what the assistant says.
    spec: 'auto' for the template that came with the vocabulary's file; the
      path of a Jinja file; None for no chat.
    vocabulary: of the model.

  Returns:
    A template whose completions end at the assistant's end of turn.

  Raises:
    ConfigurationError: no chat template is there, or it cannot be used.
  """
  if spec is None:
    return template
  source = vocabulary.spec if spec == AUTO else spec
  text = stored(source) if spec == AUTO else _read(source)
  if text is None:
    raise configuration.ConfigurationError(
      f'CHAT: {source} comes with no chat template. Set CHAT to the path of a '
      'Jinja file, or to None for the plain prompt.'
    )
  eos_token = next(
    (k for k, v in vocabulary.specials.items() if v == vocabulary.eos_id), ''
  )
  try:
    turns = parts(text, eos_token)
  except ValueError as error:
    raise configuration.ConfigurationError(
      f'CHAT: the template of {source}: {error}.'
    ) from error
  first = vocabulary.split_specials(turns.end)[:1]
  eos = [name for name, id_ in vocabulary.specials.items() if [id_] == first]
  if not eos:
    raise configuration.ConfigurationError(
      f"CHAT: in the template of {source} the assistant's turn ends with "
      f'{turns.end!r}, which does not begin with a special token of '
      f'{vocabulary.spec}: they do not belong together.'
    )
  return prompts.PromptTemplate(
    lead=turns.lead + template.lead,
    question=turns.user + template.question.strip() + turns.assistant,
    solution=turns.space + template.solution.strip(),
    separator=turns.end,
    eos=eos[0],
  )


class Turns(NamedTuple):
  """What a chat template writes around what is said."""

  lead: str  # before the first turn
  user: str  # before a question
  assistant: str  # between a question and its answer, as it is asked for
  space: str  # white space that an answer begins with
  end: str  # behind an answer


def parts(text: str, eos_token: str) -> Turns:
  """Takes a chat template apart.

  Args:
    text: a Jinja chat template as models publish them.
    eos_token: the vocabulary's own; some templates end a turn with it.

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
  *_, end = _split(
    _rendered(text, told, eos_token, prompt=False), _ASKED, _TOLD
  )
  asked = _rendered(text, again, eos_token, prompt=True)
  before, between, after, last = _split(asked, _ASKED, _TOLD, _ASKED_AGAIN)
  if not after.startswith(end):
    raise ValueError('it ends a turn in another way when others follow')
  user = after.removeprefix(end)
  space = between.removeprefix(last)
  if not between.startswith(last) or space.strip():
    raise ValueError(
      f'an answer is asked for with {last!r}, but shown behind {between!r}'
    )
  if not before.endswith(user):
    raise ValueError(
      f'the first question begins with {before!r}, a later one with {user!r}'
    )
  return Turns(before.removesuffix(user), user, last, space, end)


def stored(spec: str) -> str | None:
  """The chat template that lies with a vocabulary; None where there is none.

  Args:
    spec: of the vocabulary: a GGUF file, a tokenizer.json or its folder.
  """
  if spec == vocabularies.BYTES:
    return None
  path = storage.path(spec)
  if path.suffix == '.gguf':
    from rest_jax.tokenizers import hf_vocabularies

    return hf_vocabularies.gguf_chat_template(path)
  folder = path if path.is_dir() else path.parent
  if (folder / 'chat_template.jinja').exists():
    return (folder / 'chat_template.jinja').read_text()
  config = folder / 'tokenizer_config.json'
  if not config.exists():
    return None
  value = json.loads(config.read_text()).get('chat_template')
  if isinstance(value, list):  # several by name
    value = next((v['template'] for v in value if v['name'] == 'default'), None)
  return value


def _read(source: str) -> str:
  path = storage.path(source)
  if not path.exists():
    raise configuration.ConfigurationError(
      f"CHAT: got {source!r}; allowed: 'auto', the path of a Jinja file, or "
      f'None. No such file{" in " + os.getcwd() if "/" not in source else ""}.'
    )
  return path.read_text()


def _rendered(
  text: str, messages: list[dict], eos_token: str, *, prompt: bool
) -> str:
  try:
    from jinja2 import exceptions, sandbox
  except ImportError as error:
    raise configuration.ConfigurationError(
      "CHAT needs the extra hf: pip install 'rest_jax[hf]'."
    ) from error

  def refuse(message: str) -> None:
    raise ValueError(f'it refuses such a conversation: {message}')

  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True
  )
  environment.globals['raise_exception'] = refuse
  try:
    # BOS is the vocabulary's business (prompts.encode_lead).
    return environment.from_string(text).render(
      messages=messages,
      add_generation_prompt=prompt,
      bos_token='',
      eos_token=eos_token,
    )
  except (exceptions.TemplateError, TypeError) as error:
    raise ValueError(f'it cannot be run: {error}') from error


def _split(text: str, *marks: str) -> list[str]:
  """The pieces of a text between marks that must stand in it, in this order."""
  pieces = []
  for mark in marks:
    if text.count(mark) != 1:
      raise ValueError('it leaves out, repeats or changes what is said')
    piece, _, text = text.partition(mark)
    pieces.append(piece)
  return [*pieces, text]
