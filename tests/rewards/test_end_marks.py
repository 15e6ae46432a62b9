"""End marks and reasoning around an answer, in every grader of text."""

import time

import pytest

from rest_jax.rewards import end_marks, reasoning, registry, verdicts

MARKS = (
  '<|endoftext|> <|end_of_text|> <|eot_id|> <|eom_id|> <|eot|> <|EOT|> '
  '<|im_end|> <|end|> <|return|> <|eos|> <|pad|> <end_of_turn> <eos> <pad> '
  '</s> <EOS_TOKEN> <|END_OF_TURN_TOKEN|> <|endofturn|> <|end_of_role|> '
  '<end_of_utterance> <｜end▁of▁sentence｜> <｜EOT｜>'
).split()
NO_MARKS = ('x < 5', '<b>', '<|im_start|>', '<sos>', 'a <|> b', '</b>', '<end>')

# (grader, reference, a right completion, a wrong one)
ANSWERS = (
  ('math', '42', '\\boxed{42}', '\\boxed{41}'),
  ('math', '42', 'The answer is 42.', 'The answer is 41.'),
  ('math', '42', 'The answer is 42', 'The answer is 41'),
  ('gsm8k', '42', '#### 42', '#### 41'),
  ('gsm8k', '42', 'So she has 42.', 'So she has 41.'),
  ('number', '42', 'The answer is 42.', 'The answer is 41.'),
  ('exact', 'Paris', 'The answer is Paris.', 'The answer is Rome.'),
  ('exact', 'Paris', 'Paris', 'Rome'),
  ('bbh', '(A)', 'So the answer is (A).', 'So the answer is (B).'),
  ('bbh_direct', 'Yes', 'yes', 'no'),
)


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


@pytest.mark.parametrize(('grader', 'reference', 'right', 'wrong'), ANSWERS)
def test_no_grader_of_text_reads_marks_or_reasoning(
  grader, reference, right, wrong
):
  def outcome(completion):
    verdict = registry.grade(grader, completion=completion, reference=reference)
    return verdict.outcome

  assert outcome(right) == verdicts.CORRECT
  assert outcome(wrong) == verdicts.WRONG
  for mark in MARKS:
    assert outcome(f'{right}{mark}') == verdicts.CORRECT
    assert outcome(f'{right} {mark}\n{wrong}') == verdicts.CORRECT
    assert outcome(f'{wrong}{mark}{right}') == verdicts.WRONG
  assert outcome(f'<think>{wrong}</think>\n{right}') == verdicts.CORRECT
  assert outcome(f'{wrong}\n</think>\n\n{right}<|im_end|>') == verdicts.CORRECT
  assert outcome(f'<think>{right}</think>\n{wrong}') == verdicts.WRONG
  for text in (f'<think>{right}', f'<think>{right}</think>', f'{right}<think>'):
    assert outcome(text) == verdicts.NO_ANSWER


@pytest.mark.parametrize('grader', sorted({row[0] for row in ANSWERS}))
def test_half_a_surrogate_pair_is_graded_and_written(grader):
  for text in (
    'The answer is yes \ud83d',
    '\\boxed{\\text{ok \ud83d}}',
    '\\boxed{\ud83d}',
    '#### 3\ud83d',
    '\ud83d',
  ):
    verdict = registry.grade(grader, completion=text, reference='3')
    assert verdict.outcome in (verdicts.WRONG, verdicts.NO_ANSWER)
    f'{verdict.answer} {verdict.detail}'.encode()  # raises where it cannot be
