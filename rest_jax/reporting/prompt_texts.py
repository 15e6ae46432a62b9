"""The prompts of a run as text: which vocabulary made them, and decoding."""

from collections.abc import Sequence

from rest_jax.reporting import run_data
from rest_jax.tokenizers import vocabularies, vocabulary_files


class Vocabularies:
  """The vocabularies of a run, each loaded when it is first asked for."""

  def __init__(self, found: run_data.Manifests):
    """Loads nothing yet.

    Args:
      found: the manifests of the run.
    """
    self._found = found
    self._loaded: dict[str, vocabularies.Vocabulary | None] = {}

  def of(self, split: str) -> vocabularies.Vocabulary | None:
    """The one that made a set's prompts; None where it cannot be read here.

    Args:
      split: the set of problems, such as gsm8k/test.
    """
    manifest = self._found.get(f'problems/{split}')
    card = manifest.statistics.get('task', {}) if manifest else {}
    if not card.get('vocabulary'):
      return None
    spec = vocabulary_files.resolve(card['vocabulary'], manifest.folder)
    if spec not in self._loaded:
      try:
        found = vocabulary_files.load(spec)
      except (ValueError, OSError, RuntimeError):
        found = None  # moved or damaged, or its package is missing
      prepared = self._found.get('problems')
      if found and prepared and prepared.statistics['digest'] != found.digest:
        found = None  # another one lies there now: its text would be wrong
      self._loaded[spec] = found
    return self._loaded[spec]


def decoded(vocabulary: vocabularies.Vocabulary, ids: Sequence[int]) -> str:
  """The text of a prompt, its special tokens written out.

  Args:
    vocabulary: that encoded it.
    ids: its tokens.
  """
  names = {token: name for name, token in vocabulary.specials.items()}
  text = b''.join(
    names[token].encode()
    if token in names
    else vocabulary.decode_bytes([token])
    for token in ids
  )
  return text.decode('utf-8', errors='replace')
