"""The checkpoint's vocabulary passes, any other is refused."""

import pytest
import small_tokenizers

from rest_jax.artifacts import manifests
from rest_jax.config import configuration
from rest_jax.tokenizers import vocabulary_checks, vocabulary_files


@pytest.fixture(scope='module')
def tokenizer():
  return small_tokenizers.byte_level()


@pytest.fixture
def checkpoint(tmp_path, tokenizer):
  """A GGUF file that brings its tokenizer."""
  return small_tokenizers.byte_level_gguf(tmp_path / 'base.gguf', tokenizer)


def refused(match):
  return pytest.raises(configuration.ConfigurationError, match=match)


def test_the_checkpoints_own_vocabulary_fits(checkpoint, tokenizer, tmp_path):
  own = vocabulary_files.load(checkpoint)
  # A larger embedding is padded, whatever by: its own tokenizer is the proof.
  for size in (own.size, 2 * own.size, None):
    vocabulary_checks.require_of_checkpoint(own, checkpoint, size)
  # The same tokenizer in another file, whose digest is another one.
  other = tmp_path / 'other'
  other.mkdir()
  tokenizer.save(str(other / 'tokenizer.json'))
  (other / 'config.json').write_text('{"eos_token_id": 2}')
  same = vocabulary_files.load(str(other))
  assert same.digest != own.digest
  vocabulary_checks.require_of_checkpoint(same, checkpoint, own.size)


def test_another_vocabulary_is_refused_naming_the_dial(
  checkpoint, tokenizer, tmp_path
):
  wrong = vocabulary_files.load('bytes')
  with refused('VOCABULARY: bytes is not .* brings its own: the id'):
    vocabulary_checks.require_of_checkpoint(wrong, checkpoint)
  # As many ids, nearly all of them the same, but other merges.
  merges = small_tokenizers.byte_level(digits=False)
  path = tmp_path / 'digits.gguf'
  small_tokenizers.byte_level_gguf(path, merges, pre='gpt-2')
  other = vocabulary_files.load(str(path))
  with refused('a short text gives other ids'):
    vocabulary_checks.require_of_checkpoint(other, checkpoint)


@pytest.mark.parametrize(
  ('vocab_size', 'said'),
  [
    (256, 'has 257 ids, but MODEL embeds 256'),
    (257, None),
    (384, None),  # ByT5's embedding
    (257 + vocabulary_checks.UNUSED_IDS, None),
    (32_000, 'has 257 ids, but the checkpoint .* embeds 32000'),
  ],
)
def test_without_a_tokenizer_the_numbers_of_ids_must_come_near(
  tmp_path, vocab_size, said
):
  (tmp_path / 'model.safetensors').write_bytes(b'')
  wrong = vocabulary_files.load('bytes')
  if said is None:
    vocabulary_checks.require_of_checkpoint(wrong, tmp_path, vocab_size)
    return
  with refused(said):
    vocabulary_checks.require_of_checkpoint(wrong, tmp_path, vocab_size)


def test_a_policy_that_was_trained_here_may_have_any_larger_embedding(tmp_path):
  (tmp_path / manifests.MANIFEST).write_text('{}')
  own = vocabulary_files.load('bytes')
  vocabulary_checks.require_of_checkpoint(own, tmp_path, 32_000)
  with refused('MODEL embeds 200'):
    vocabulary_checks.require_of_checkpoint(own, tmp_path, 200)
