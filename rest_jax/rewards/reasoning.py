"""What a completion says after its reasoning.

Models that reason in the open write <think>...</think> and then their answer.
What they try out inside is no answer.
"""

import re

_TAG = re.compile(
  r'<(/?)(?:think|thinking|reasoning)>|\[(/?)THINK\]', re.IGNORECASE
)


def removed(text: str) -> str:
  """What stands behind the last closing tag; all of it without tags.

  A prompt may end with the opening tag, so a closing tag needs none before it.

  Returns:
    '' where reasoning was begun and not closed: there is no answer then.
  """
  # Quicker than the search, for most texts: the ends of all tags.
  if 'INK]' not in text and 'ink]' not in text:
    if '>' not in text or not (
      'k>' in text or 'g>' in text or 'K>' in text or 'G>' in text
    ):
      return text
  tags = list(_TAG.finditer(text))
  if not tags:
    return text
  last = tags[-1]
  return text[last.end() :] if last[1] or last[2] else ''
