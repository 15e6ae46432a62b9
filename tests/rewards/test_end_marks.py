"""End marks and reasoning around an answer, in every grader of text."""

import time

import pytest

from rest_jax.rewards import end_marks, reasoning

MARKS = (
  '<|endoftext|> <|end_of_text|> <|eot_id|> <|eom_id|> <|eot|> <|EOT|> '
  '<|im_end|> <|end|> <|return|> <|eos|> <|pad|> <end_of_turn> <eos> <pad> '
  '</s> <EOS_TOKEN> <|END_OF_TURN_TOKEN|> <|endofturn|> <|end_of_role|> '
  '<end_of_utterance> <｜end▁of▁sentence｜> <｜EOT｜>'
).split()
NO_MARKS = ('x < 5', '<b>', '<|im_start|>', '<sos>', 'a <|> b', '</b>', '<end>')


@pytest.mark.parametrize('mark', MARKS)
def test_an_end_mark_is_found_wherever_it_stands(mark):
  assert end_marks.cut(f'42{mark}') == '42'
  assert end_marks.cut(f'42 {mark}\nand {mark} more') == '42 '
  assert end_marks.stripped(f'x = "{mark}"\n{mark}{mark} \n') == (
    f'x = "{mark}"\n'
  )


@pytest.mark.parametrize('text', NO_MARKS)
def test_other_brackets_are_no_mark(text):
  assert end_marks.cut(text) == text
  assert end_marks.stripped(text) == text


def test_looking_for_marks_is_linear_in_the_text():
  start = time.process_time()
  for piece in ('<', '<|', '<|end_of_', '>', '</s', '<eos> '):
    text = piece * (200_000 // len(piece))
    end_marks.cut(text)
    end_marks.stripped(text)
    reasoning.removed(text)
  assert time.process_time() - start < 5  # a quadratic search takes minutes


@pytest.mark.parametrize(
  ('text', 'left'),
  [
    ('no tags', 'no tags'),
    ('<think>a</think>b', 'b'),
    ('a</think>b', 'b'),
    ('<think>a</think>b<think>c</think>d', 'd'),
    ('<think>a', ''),
    ('b<think>a', ''),
    ('<think>a</think>b<think>c', ''),
    ('<Thinking>a</Thinking> b', ' b'),
    ('[THINK]a[/THINK]b', 'b'),
  ],
)
def test_what_follows_the_reasoning_is_left(text, left):
  assert reasoning.removed(text) == left
