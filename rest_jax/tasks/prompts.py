"""How a problem becomes a prompt: a template of separately encoded parts.

    lead | question solution separator | ... | question        ▶ completion
         '-- an exemplar, NUM_SHOTS of them -----'

A completion is sampled, and a solution trained on, right behind `question`
(and `opening`, which some chat templates write there). An exemplar is therefore
encoded in the same three pieces, so that solutions in the prompt are tokenised
like those that the model writes. Encoding the joined text would give other ids;
the parts' ids are stored and never encoded again.
"""

import dataclasses
from collections.abc import Sequence

from rest_jax.config import configuration
from rest_jax.tokenizers import vocabularies


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptTemplate(configuration.Configuration):
  """The text around questions and solutions.

  Special tokens such as <|im_start|> are written as they are, and become one
  id each where the template has them; in a question they are plain text.

  Attributes:
    lead: stands once at the start of a prompt, after BOS. In a chat it stands
      before each question, in the user's turn.
    question: holds {question}, and all that leads to the solution. Not used in
      a chat.
    chat_question: holds {question}; all that the user says in a chat.
    opening: what the model's answer begins with, behind the last question
      only: '<think>', say. Chat templates set it.
    solution: holds {solution}; what a completion should look like.
    separator: stands behind a solution when something follows.
    stop: strings that end a completion; () for the separator (none where that
      begins with the special token that ends a completion).
    eos: special token that ends a completion; None for the vocabulary's own.
  """

  lead: str = ''
  question: str = 'Q: {question}\nA:'
  chat_question: str = '{question}'
  opening: str = ''
  solution: str = ' {solution}'
  separator: str = '\n\n'
  stop: tuple[str, ...] = ()
  eos: str | None = None

  def check(self):
    for name in ('question', 'chat_question', 'solution'):
      slot = f'{{{name.removeprefix("chat_")}}}'
      ok = getattr(self, name).count(slot) == 1
      self.require(ok, name, f'a text with one {slot} in it')
    self.require('' not in self.stop, 'stop', 'strings that are not empty')
    self.require(bool(self.separator), 'separator', 'a text that is not empty')


def stop_strings(
  template: PromptTemplate, vocabulary: vocabularies.Vocabulary
) -> list[str]:
  """The strings that end a completion under this template.

  Raises:
    ConfigurationError: a special token that is not EOS ends a solution.
  """
  if template.stop:
    return list(template.stop)
  pieces = vocabulary.split_specials(template.separator)
  if isinstance(pieces[0], str):
    return [pieces[0]]
  if pieces[0] == eos_id(template, vocabulary):
    return []
  raise configuration.ConfigurationError(
    f'PromptTemplate.separator: {template.separator!r} begins with a special '
    'token that does not end a completion. Set PromptTemplate.eos to it.'
  )


def eos_id(
  template: PromptTemplate, vocabulary: vocabularies.Vocabulary
) -> int:
  """The id that ends a completion under this template."""
  if template.eos is None:
    return vocabulary.eos_id
  if template.eos not in vocabulary.specials:
    raise configuration.ConfigurationError(
      f'PromptTemplate.eos: got {template.eos!r}; the vocabulary '
      f'{vocabulary.spec} has {sorted(vocabulary.specials)[:20]}.'
    )
  return vocabulary.specials[template.eos]


def eos_ids(
  template: PromptTemplate, vocabulary: vocabularies.Vocabulary
) -> list[int]:
  """All ids that end a completion; the first is the one to train on.

  Those of the vocabulary are among them even where the template has its own: a
  chat model may end its answer with the end of the turn or of the document.
  """
  first = eos_id(template, vocabulary)
  return list(dict.fromkeys([first, *vocabulary.eos_ids]))


def encode_lead(
  template: PromptTemplate, vocabulary: vocabularies.Vocabulary, own: str = ''
) -> list[int]:
  """The start of a prompt.

  Args:
    template: its lead is encoded.
    vocabulary: encodes. Its BOS is put first, unless the lead begins with it.
    own: the lead of the problem itself, behind the template's.
  """
  ids = _encode(template.lead, vocabulary) + vocabulary.encode(own)
  bos = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
  return ids if ids[:1] == bos else bos + ids


def encode_question(
  template: PromptTemplate, vocabulary: vocabularies.Vocabulary, question: str
) -> list[int]:
  """The question part of a prompt, up to where the completion begins."""
  text = template.question + template.opening
  return _encode(text, vocabulary, question=question)


def encode_solution(
  template: PromptTemplate, vocabulary: vocabularies.Vocabulary, solution: str
) -> list[int]:
  """A solution as a completion would hold it, without EOS."""
  return _encode(template.solution, vocabulary, solution=solution)


def encode_exemplars(
  template: PromptTemplate,
  vocabulary: vocabularies.Vocabulary,
  exemplars: Sequence[tuple[str, str]],
) -> list[int]:
  """Exemplars, (question, solution) each, with their separators."""
  ids = []
  for question, solution in exemplars:
    for part in encode_exemplar(template, vocabulary, question, solution):
      ids += part
  return ids


def encode_exemplar(
  template: PromptTemplate,
  vocabulary: vocabularies.Vocabulary,
  question: str,
  solution: str,
) -> tuple[list[int], list[int]]:
  """(question, solution and separator) of one exemplar."""
  asked = _encode(template.question, vocabulary, question=question)
  told = encode_solution(template, vocabulary, solution)
  return asked, told + _encode(template.separator, vocabulary)


def _encode(
  text: str, vocabulary: vocabularies.Vocabulary, **values: str
) -> list[int]:
  """Encodes a template's text; only its own special tokens become special."""
  ids = []
  for piece in vocabulary.split_specials(text):
    if isinstance(piece, int):
      ids.append(piece)
      continue
    for name, value in values.items():
      piece = piece.replace(f'{{{name}}}', value)
    ids += vocabulary.encode(piece)
  return ids


def document_text(
  template: PromptTemplate, exemplars: Sequence[tuple[str, str]]
) -> str:
  """The text of exemplars, one after the other."""
  return ''.join(
    template.question.replace('{question}', question)
    + template.solution.replace('{solution}', solution)
    + template.separator
    for question, solution in exemplars
  )
