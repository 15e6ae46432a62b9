"""Prompts are built of parts, and every part is encoded by itself."""

import pytest

from rest_jax.config import configuration
from rest_jax.tasks import prompts
from rest_jax.tokenizers import vocabularies, vocabulary_files

BYTES = vocabulary_files.load('bytes')
SHOTS = [('1+1?', 'It is 2.'), ('2+2?', 'It is 4.')]


def test_a_shot_is_question_solution_and_separator():
  template = prompts.PromptTemplate()
  ids = prompts.encode_exemplars(template, BYTES, SHOTS)
  text = 'Q: 1+1?\nA: It is 2.\n\nQ: 2+2?\nA: It is 4.\n\n'
  assert BYTES.decode(ids) == text
  assert prompts.document_text(template, SHOTS) == text


def test_a_solution_in_a_shot_has_the_ids_of_a_completion():
  template = prompts.PromptTemplate()
  question = prompts.encode_question(template, BYTES, SHOTS[0][0])
  solution = prompts.encode_solution(template, BYTES, SHOTS[0][1])
  exemplars = prompts.encode_exemplars(template, BYTES, SHOTS[:1])
  joined = question + solution
  assert exemplars[: len(joined)] == joined
  assert BYTES.decode(solution) == ' It is 2.'


def test_braces_in_a_question_are_plain_text():
  template = prompts.PromptTemplate()
  ids = prompts.encode_question(template, BYTES, 'a {solution} {question} {0}')
  assert BYTES.decode(ids) == 'Q: a {solution} {question} {0}\nA:'


def test_the_separator_stops_a_completion_unless_stop_says_else():
  assert prompts.stop_strings(prompts.PromptTemplate(), BYTES) == ['\n\n']
  template = prompts.PromptTemplate(stop=('\nQ:', '###'))
  assert prompts.stop_strings(template, BYTES) == ['\nQ:', '###']


def test_a_separator_that_is_eos_needs_no_stop_string():
  template = prompts.PromptTemplate(separator='<eos>\n')
  assert prompts.stop_strings(template, BYTES) == []


def special_vocabulary():
  return vocabularies.Vocabulary(
    spec='x',
    encoder=lambda text: text.encode(),
    table=[bytes([b]) for b in range(256)] + [b'', b'', b''],
    eos_id=256,
    bos_id=258,
    specials={'<eos>': 256, '<turn>': 257, '<bos>': 258},
    digest='x',
  )


def test_a_separator_of_another_special_token_needs_eos_to_be_set():
  vocabulary = special_vocabulary()
  template = prompts.PromptTemplate(separator='<turn>\n')
  with pytest.raises(configuration.ConfigurationError, match='eos'):
    prompts.stop_strings(template, vocabulary)
  template = prompts.PromptTemplate(separator='<turn>\n', eos='<turn>')
  assert prompts.stop_strings(template, vocabulary) == []
  assert prompts.eos_id(template, vocabulary) == 257
  with pytest.raises(configuration.ConfigurationError, match='<nope>'):
    prompts.eos_id(prompts.PromptTemplate(eos='<nope>'), vocabulary)


def test_bos_stands_once_before_the_lead():
  vocabulary = special_vocabulary()
  template = prompts.PromptTemplate(lead='Hi.')
  assert prompts.encode_lead(template, vocabulary) == [258, *b'Hi.']
  assert prompts.encode_lead(template, BYTES) == list(b'Hi.')
  template = prompts.PromptTemplate(lead='<bos>Hi.')
  assert prompts.encode_lead(template, vocabulary) == [258, *b'Hi.']


def test_an_opening_stands_behind_the_last_question_only():
  template = prompts.PromptTemplate(opening=' Hm.')
  question = prompts.encode_question(template, BYTES, '1+1?')
  assert BYTES.decode(question) == 'Q: 1+1?\nA: Hm.'
  exemplars = prompts.encode_exemplars(template, BYTES, SHOTS[:1])
  assert BYTES.decode(exemplars) == 'Q: 1+1?\nA: It is 2.\n\n'


def test_every_end_of_the_vocabulary_ends_a_completion():
  vocabulary = vocabularies.Vocabulary(
    spec='x',
    encoder=lambda text: text.encode(),
    table=[bytes([b]) for b in range(256)] + [b'', b'', b''],
    eos_id=256,
    more_eos_ids=[258, 256],
    bos_id=None,
    specials={'<eos>': 256, '<turn>': 257, '<eom>': 258},
    digest='x',
  )
  plain = prompts.PromptTemplate()
  assert prompts.eos_ids(plain, vocabulary) == [256, 258]
  chat = prompts.PromptTemplate(separator='<turn>', eos='<turn>')
  assert prompts.eos_ids(chat, vocabulary) == [257, 256, 258]


@pytest.mark.parametrize(
  'field, value',
  [
    ('question', 'Q:'),
    ('solution', '{solution}{solution}'),
    ('separator', ''),
    ('stop', ('',)),
    ('stop', '\n'),
  ],
)
def test_a_template_that_cannot_work_is_refused(field, value):
  with pytest.raises(configuration.ConfigurationError, match=field):
    prompts.PromptTemplate(**{field: value})
