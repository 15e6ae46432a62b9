"""The marks with which language models end a text or a turn.

A tokenizer that does not know a mark as special leaves it in the completion:
'The answer is 42.<|eot_id|>'. Graders remove it, all in the same way.
"""

import re

# <|endoftext|> <|end_of_text|> <|eot_id|> <|im_end|> <|end|> <|return|>
# <end_of_turn> <eos> </s> <pad>, DeepSeek's full-width <｜end▁of▁sentence｜>,
# and others built in the same way. Bounded and without nested repetition.
_MARK = re.compile(
  r'<[|｜](?:end(?:[_▁ ]?of[_▁ ]?[a-z]{2,12}(?:_token)?)?|end(?:text|turn)'
  r'|eo[tms](?:_id|_token)?|im_end|return|pad)[|｜]>'
  r'|<(?:eos|pad|eos_token|end_?of_?(?:turn|text|utterance|sentence))>'
  r'|</s>',
  re.IGNORECASE,
)
_SECOND = frozenset('|｜/eEpP')  # the characters behind a mark's '<'


def cut(text: str) -> str:
  """The text before its first end mark; all of it where there is none.

  For answers in words or numbers: what follows a mark is another text.
  """
  start = text.find('<')
  while start >= 0:  # faster than a search, for most texts have few of them
    if text[start + 1 : start + 2] in _SECOND and _MARK.match(text, start):
      return text[:start]
    start = text.find('<', start + 1)
  return text


def stripped(text: str) -> str:
  """The text without the end marks, and the spaces between them, at its end.

  For programs, which may hold a mark inside a string.
  """
  end = len(text)
  while True:
    last = end
    while last and text[last - 1].isspace():
      last -= 1
    start = text.rfind('<', 0, last)
    if start < 0 or _MARK.fullmatch(text, start, last) is None:
      return text[:end]
    end = start
