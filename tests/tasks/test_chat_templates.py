"""A task inside a chat template: what a chat model would be sent."""

import dataclasses
import json

import pytest

from rest_jax.config import configuration
from rest_jax.tasks import chat_templates, encoding, problem_sets, prompts
from rest_jax.tokenizers import vocabularies, vocabulary_files

jinja2 = pytest.importorskip('jinja2', reason='extra hf')

# The ways in which the well-known families write a conversation.
CHATML = (
  "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
  '<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}'
  "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'
)
HEADERS = (
  '{{ bos_token }}{% for m in messages %}'
  "<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|eot|>"
  '{% endfor %}'
  '{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}'
)
RENAMED = (
  '{{ bos_token }}{% for m in messages %}'
  "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
  "<turn>{{ role }}\n{{ m['content'] }}</turn>\n{% endfor %}"
  '{% if add_generation_prompt %}<turn>model\n{% endif %}'
)
BRACKETS = (
  "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
  "[INST] {{ m['content'] }} [/INST]{% else %}"
  " {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
THINKING = (
  "{% for m in messages %}<turn>{% if loop.last and m['role'] != 'user' %}"
  "<think></think>{% endif %}{{ m['content'] }}</turn>{% endfor %}"
  '{% if add_generation_prompt %}<turn>{% endif %}'
)
OPENED = (
  "{% for m in messages %}<turn>{{ m['content'] }}</turn>{% endfor %}"
  '{% if add_generation_prompt %}<turn><think>\n{% endif %}'
)
FAMILIES = {
  'chatml': (
    CHATML,
    (
      '<|im_start|>system\nBe kind.<|im_end|>\n',
      '<|im_start|>user\n',
      '<|im_end|>\n<|im_start|>assistant\n',
      '',
      '',
      '<|im_end|>\n',
    ),
  ),
  'headers': (
    HEADERS,
    (
      '',
      '<|start|>user<|end|>\n\n',
      '<|eot|><|start|>assistant<|end|>\n\n',
      '',
      '',
      '<|eot|>',
    ),
  ),
  'renamed': (
    RENAMED,
    ('', '<turn>user\n', '</turn>\n<turn>model\n', '', '', '</turn>\n'),
  ),
  'brackets': (BRACKETS, ('', '[INST] ', ' [/INST]', '', ' ', '</s>')),
  'thinking': (THINKING, ('', '<turn>', '</turn><turn>', '', '', '</turn>')),
  'opened thoughts': (
    OPENED,
    ('', '<turn>', '</turn><turn>', '<think>\n', '', '</turn>'),
  ),
}
NAMES = {'eos_token': '</s>'}
SPECIALS = ['<|im_start|>', '<|im_end|>', '<|start|>', '<|end|>', '<|eot|>']
SPECIALS += ['<turn>', '</turn>', '</s>']


def vocabulary(eos='</s>'):
  specials = {name: 256 + i for i, name in enumerate(SPECIALS)}
  return vocabularies.Vocabulary(
    spec='test',
    encoder=lambda text: text.encode(),
    table=[bytes([b]) for b in range(256)] + [b''] * len(specials),
    eos_id=specials[eos],
    bos_id=None,
    specials=specials,
    digest='test',
  )


def text_of(vocabulary_, ids):
  names = {id_: name for name, id_ in vocabulary_.specials.items()}
  return ''.join(names.get(i) or vocabulary_.decode([i]) for i in ids)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_template_is_taken_apart_at_its_turns(family):
  text, expected = FAMILIES[family]
  assert chat_templates.parts(text, NAMES) == expected


@pytest.mark.parametrize('family', FAMILIES)
def test_the_parts_put_together_are_what_the_template_writes(family, tmp_path):
  """Against Jinja itself, on a conversation of an exemplar."""
  text, _ = FAMILIES[family]
  (tmp_path / 'chat.jinja').write_text(text)
  ids = vocabulary()
  template = chat_templates.applied(
    prompts.PromptTemplate(), str(tmp_path / 'chat.jinja'), ids
  )
  prompt = [
    *prompts.encode_lead(template, ids),
    *prompts.encode_exemplars(template, ids, [('1+1?', 'It is 2.')]),
    *prompts.encode_question(template, ids, '2+2?'),
  ]
  environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
  assert text_of(ids, prompt) == environment.from_string(text).render(
    messages=[
      {'role': 'user', 'content': '1+1?'},
      {'role': 'assistant', 'content': 'It is 2.'},
      {'role': 'user', 'content': '2+2?'},
    ],
    add_generation_prompt=True,
    bos_token='',
    eos_token='</s>',
  )
  assert prompts.stop_strings(template, ids) == []
  end = FAMILIES[family][1][5]
  assert end.startswith(template.eos)
  assert prompts.eos_id(template, ids) == ids.specials[template.eos]


BROKEN = {
  'asked for with': (
    "{% for m in messages %}<turn>{{ m['role'] }}{{ m['content'] }}</turn>"
    '{% endfor %}{% if add_generation_prompt %}<turn>model{% endif %}'
  ),
  'cannot be run': '{% for m in messages %}{{ m.content }}',
  'leaves out': 'hello',
  'repeats': "{% for m in messages %}{{ m['content'] * 2 }}{% endfor %}",
  'refuses such a conversation': "{{ raise_exception('no system') }}",
  'a later one with': (
    "{% for m in messages %}{{ 'first' if loop.first else '<turn>' }}"
    "{{ m['content'] }}</turn>{% endfor %}"
    '{% if add_generation_prompt %}<turn>{% endif %}'
  ),
}


@pytest.mark.parametrize('reason', BROKEN)
def test_a_template_that_cannot_be_used_says_why(reason, tmp_path):
  (tmp_path / 'chat.jinja').write_text(BROKEN[reason])
  with pytest.raises(configuration.ConfigurationError, match=reason):
    chat_templates.applied(
      prompts.PromptTemplate(), str(tmp_path / 'chat.jinja'), vocabulary()
    )


def test_a_template_reaches_nothing_but_its_messages():
  text = '{{ messages.__class__.__mro__[1].__subclasses__() }}'
  with pytest.raises(ValueError, match='cannot be run|leaves out'):
    chat_templates.parts(text, {})


def test_a_template_of_another_model_is_refused(tmp_path):
  (tmp_path / 'chat.jinja').write_text(
    FAMILIES['renamed'][0].replace('</turn>', '<eom>')
  )
  with pytest.raises(configuration.ConfigurationError, match='do not belong'):
    chat_templates.applied(
      prompts.PromptTemplate(), str(tmp_path / 'chat.jinja'), vocabulary()
    )


def test_the_template_lies_beside_the_tokenizer(tmp_path):
  file = tmp_path / 'tokenizer.json'
  file.write_text('{}')
  assert vocabulary_files.chat_template(str(file)) is None
  config = {'chat_template': [{'name': 'default', 'template': CHATML}]}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  assert vocabulary_files.chat_template(str(tmp_path)) == CHATML
  config = {'chat_template': HEADERS}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  assert vocabulary_files.chat_template(str(file)) == HEADERS
  (tmp_path / 'chat_template.jinja').write_text(RENAMED)
  assert vocabulary_files.chat_template(str(tmp_path)) == RENAMED
  assert vocabulary_files.chat_template('bytes') is None


def test_a_missing_template_says_what_to_set():
  for spec, match in (
    ('auto', 'no chat template'),
    ('x.jinja', 'No such file'),
  ):
    with pytest.raises(configuration.ConfigurationError, match=match):
      chat_templates.applied(prompts.PromptTemplate(), spec, vocabulary())


def test_in_a_chat_the_instruction_stands_in_the_users_turn(tmp_path):
  (tmp_path / 'chat.jinja').write_text(CHATML)
  ids = vocabulary()
  config = problem_sets.TaskConfig(chat=str(tmp_path / 'chat.jinja'))
  row = problem_sets.Row(key='1', question='2+2?', lead='Add up. ')
  texts = problem_sets.TaskTexts(
    sets=[problem_sets.ProblemSet(task='t', split='test', rows=[row])],
    exemplars=[dataclasses.replace(row, question='1+1?', solution='It is 2.')],
  )

  def prompt(config):
    [problem] = encoding.problems(texts.sets[0], texts, config, ids)
    return text_of(ids, [i for part in problem.prompt_parts for i in part])

  template = chat_templates.applied(config.prompt, config.chat, ids)
  chatting = dataclasses.replace(config, prompt=template)
  assert prompt(chatting) == (
    '<|im_start|>system\nBe kind.<|im_end|>\n'
    '<|im_start|>user\nAdd up. 1+1?<|im_end|>\n'
    '<|im_start|>assistant\nIt is 2.<|im_end|>\n'
    '<|im_start|>user\nAdd up. 2+2?<|im_end|>\n'
    '<|im_start|>assistant\n'
  )
  plain = dataclasses.replace(config, chat=None)
  assert prompt(plain) == 'Add up. Q: 1+1?\nA: It is 2.\n\nQ: 2+2?\nA:'
