"""Prompts of a chat against transformers' apply_chat_template."""

import json

import pytest

from rest_jax.config import configuration
from rest_jax.tasks import chat_templates, encoding, problem_sets, prompts
from rest_jax.tokenizers import vocabulary_files

jinja2 = pytest.importorskip('jinja2', reason='extra hf')
tokenizers = pytest.importorskip('tokenizers')
transformers = pytest.importorskip('transformers')

SPECIALS = ['<s>', '</s>', '<|im_start|>', '<|im_end|>', '<think>', '</think>']
CHATML = (
  "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
  "{{ m['content'] }}<|im_end|>\n{% endfor %}"
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'
)
BRACKETS = (
  "{% for m in messages %}{% if m['role'] == 'user' %}"
  "BOS[INST] {{ m['content'] | trim }} [/INST]{% else %}"
  " {{ m['content'] | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)
TEMPLATES = {
  'plain': CHATML,
  'tools': '{% if tools is not none %}You can call tools.{% endif %}' + CHATML,
  'documents': '{% if documents is not none %}DOCS{% endif %}' + CHATML,
  'tools by length': '{% if tools is not none and tools|length %}T{% endif %}'
  + CHATML,
  'generation': (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    '<|im_start|>assistant\n{% generation %}'
    "{{ m['content'] }}<|im_end|>{% endgeneration %}\n{% else %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    '{% endif %}{% endfor %}'
    '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'
  ),
  'loop controls': (
    "{% for m in messages %}{% if m['role'] == 'system' %}{% continue %}"
    '{% endif %}{% if loop.index > 90 %}{% break %}{% endif %}'
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'
  ),
  'json': '{{ {"a": "<é>"} | tojson }}' + CHATML,
  'trim': CHATML.replace("m['content']", "m['content'] | trim"),
  'opened thoughts': CHATML.replace(
    'assistant\n{% endif', 'assistant\n<think>\n{% endif'
  ),
  'bos by name': '{{ bos_token }}' + CHATML,
  'bos written': '<s>' + CHATML,
  'bos by turn': BRACKETS.replace('BOS', '{{ bos_token }}'),
  'bos written by turn': BRACKETS.replace('BOS', '<s>'),
  'no end of line': CHATML.replace(
    '<|im_end|>\n{% endfor', '<|im_end|>{{ "\n" if not loop.last }}{% endfor'
  ).replace('<|im_start|>assistant\n', '{{ "\n" }}<|im_start|>assistant\n'),
}


def model(folder, template, adds_bos=False):
  """A folder with a byte-level tokenizer and a chat template."""
  pieces = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[])
  )
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.add_special_tokens(SPECIALS)
  if adds_bos:
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
      single='<s> $A',
      special_tokens=[('<s>', tokenizer.token_to_id('<s>'))],
    )
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token='<s>', eos_token='</s>'
  )
  fast.chat_template = template
  fast.save_pretrained(str(folder))
  return fast, vocabulary_files.load(str(folder))


def prompt(vocabulary, chat, question, exemplars=()):
  """The ids of a prompt, as prepare writes them."""
  config = problem_sets.TaskConfig(chat=chat)
  template = chat_templates.applied(config.prompt, chat, vocabulary)
  rows = [
    problem_sets.Row(key=str(i), question=q, solution=a)
    for i, (q, a) in enumerate(exemplars)
  ]
  texts = problem_sets.TaskTexts(sets=[], exemplars=rows)
  parts_of = encoding.prompt_parts(template, vocabulary, texts, chat=True)
  asked = problem_sets.Row(key='x', question=question)
  return sum(parts_of(asked), []), template


@pytest.mark.parametrize('adds_bos', [True, False])
@pytest.mark.parametrize('case', TEMPLATES)
def test_a_prompt_is_what_transformers_would_send(tmp_path, case, adds_bos):
  fast, vocabulary = model(tmp_path, TEMPLATES[case], adds_bos)
  said = ['1+1?', 'It is 2.', '2+2? 日本 😀']
  roles = ['user', 'assistant', 'user']
  for turns in (said, said[2:]):
    expected = fast.apply_chat_template(
      [
        {'role': role, 'content': text}
        for role, text in zip(roles[-len(turns) :], turns, strict=True)
      ],
      add_generation_prompt=True,
      return_dict=False,
    )
    exemplars = [tuple(said[:2])] if len(turns) == 3 else []
    # White space around what is said is not sent.
    asked = f'  {turns[-1]}\n'
    found, _ = prompt(vocabulary, chat_templates.AUTO, asked, exemplars)
    bos = vocabulary.specials['<s>']
    if adds_bos and bos not in expected:
      # As llama.cpp: what the tokenizer puts before every text stands there.
      expected = [bos, *expected]
    assert vocabulary.decode(found) == vocabulary.decode(expected)
    assert found == list(expected)


def test_the_end_of_the_turn_and_of_the_document_both_end_an_answer(tmp_path):
  _, vocabulary = model(tmp_path, CHATML)
  _, template = prompt(vocabulary, chat_templates.AUTO, 'a')
  ids = [vocabulary.specials[name] for name in ('<|im_end|>', '</s>')]
  assert prompts.eos_ids(template, vocabulary) == ids
  assert prompts.eos_ids(prompts.PromptTemplate(), vocabulary) == ids[1:]


def test_the_task_says_what_the_user_says(tmp_path):
  _, vocabulary = model(tmp_path, CHATML)
  task = prompts.PromptTemplate(
    lead='Be brief. ', chat_question='{question}\nThink first.'
  )
  template = chat_templates.applied(task, chat_templates.AUTO, vocabulary)
  assert template.question == (
    '<|im_start|>user\nBe brief. {question}\nThink first.<|im_end|>\n'
    '<|im_start|>assistant\n'
  )


def test_a_template_that_writes_the_date_is_refused(tmp_path):
  """transformers gives it a clock; the prompt would change every day."""
  dated = '{{ strftime_now("%d %b %Y") }}' + CHATML
  _, vocabulary = model(tmp_path, dated)
  with pytest.raises(configuration.ConfigurationError, match='date'):
    chat_templates.applied(
      prompts.PromptTemplate(), chat_templates.AUTO, vocabulary
    )


def test_a_template_with_a_date_of_its_own_keeps_it(tmp_path):
  guarded = (
    '{% if strftime_now is defined %}{{ strftime_now("%Y") }}'
    '{% else %}26 Jul 2024{% endif %}' + CHATML
  )
  _, vocabulary = model(tmp_path, guarded)
  found, _ = prompt(vocabulary, chat_templates.AUTO, 'a')
  assert vocabulary.decode(found).startswith('26 Jul 2024')


def test_the_ids_of_generation_config_end_an_answer(tmp_path):
  _, vocabulary = model(tmp_path, CHATML)
  more = [vocabulary.specials[name] for name in ('</s>', '<|im_start|>')]
  (tmp_path / 'generation_config.json').write_text(
    json.dumps({'eos_token_id': more})
  )
  vocabulary = vocabulary_files.load(str(tmp_path))
  _, template = prompt(vocabulary, chat_templates.AUTO, 'a')
  assert prompts.eos_ids(template, vocabulary) == [
    vocabulary.specials['<|im_end|>'],
    *more,
  ]
