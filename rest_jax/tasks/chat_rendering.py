"""Runs a chat template, a Jinja program, as transformers runs it.

The program comes with the model and is not trusted: it runs in Jinja's
sandbox and sees nothing but the messages. It sees no clock either, so that the
same model gives the same prompt on every day; transformers gives it one.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rest_jax.config import configuration

# What a faulty template may raise beside Jinja's own errors.
_FAULTS = (
  ArithmeticError,
  AttributeError,
  LookupError,
  RecursionError,
  TypeError,
)

Message = Mapping[str, str]  # role and content


def render(
  text: str,
  messages: Sequence[Message],
  names: Mapping[str, str],
  *,
  prompt: bool,
) -> str:
  """What a template writes for a conversation.

  Args:
    text: the template.
    messages: the conversation.
    names: the special tokens that the template calls by name, such as
      'bos_token'.
    prompt: whether to end with what asks for the assistant's turn.

  Raises:
    ValueError: the template cannot be run, or refuses the conversation.
    ConfigurationError: Jinja is not installed.
  """
  try:
    from jinja2 import exceptions
  except ImportError as error:
    raise configuration.ConfigurationError(
      "CHAT needs the extra hf: pip install 'rest_jax[hf]'."
    ) from error
  try:
    # None for tools and documents, as transformers passes where there are
    # none: templates ask whether they are none, not whether they are defined.
    return (
      _environment()
      .from_string(text)
      .render(
        messages=[dict(message) for message in messages],
        tools=None,
        documents=None,
        add_generation_prompt=prompt,
        **names,
      )
    )
  except exceptions.UndefinedError as error:
    if 'strftime_now' in str(error):
      raise ValueError(
        "it writes today's date (strftime_now), so that a prompt would change "
        'from day to day. Copy it to a file, write a date in place of the '
        'call, and set CHAT to that file'
      ) from error
    raise ValueError(f'it cannot be run: {error}') from error
  except (exceptions.TemplateError, *_FAULTS) as error:
    raise ValueError(f'it cannot be run: {error}') from error


@functools.cache
def _environment() -> Any:
  """Jinja's sandbox with the tags and filters that chat templates use."""
  from jinja2 import ext, nodes, sandbox

  class Generation(ext.Extension):
    """{% generation %}: marks what the assistant says, and changes nothing."""

    tags = {'generation'}

    def parse(self, parser: Any) -> Any:
      line = next(parser.stream).lineno
      body = parser.parse_statements(['name:endgeneration'], drop_needle=True)
      return nodes.CallBlock(
        self.call_method('_unchanged'), [], [], body
      ).set_lineno(line)

    def _unchanged(self, caller: Any) -> str:
      return caller()

  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, ext.loopcontrols],
  )
  environment.globals['raise_exception'] = _refuse
  environment.filters['tojson'] = _to_json
  return environment


def _refuse(message: str) -> None:
  raise ValueError(f'it refuses such a conversation: {message}')


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
  """Jinja's own filter would escape what HTML wants escaped."""
  return json.dumps(value, ensure_ascii=ensure_ascii, **options)
