"""The vocabulary in the metadata of a GGUF file (llama.cpp).

A GGUF file holds pieces, merges (or scores) and the *name* of the rule that
cuts text into words before merging. The rule itself is not in the file; the
names known here are in `piece_models.RULES`. Needs the extra `hf` (tokenizers,
gguf).
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from rest_jax.artifacts import gguf_files, storage
from rest_jax.config import configuration
from rest_jax.tokenizers import piece_models, vocabularies

# llama.cpp adds BOS to these where the file does not say.
_WITH_BOS = ('llama-bpe', 'llama3', 'llama-v3')
_UNNAMED = 'default'  # what converters wrote that did not know the rule
# The end of a document, of a turn, and of a message that calls a tool.
_EOS = ('eos_token_id', 'eot_token_id', 'eom_token_id')
# Names of special tokens in chat templates, and their metadata keys.
_NAMES = {
  'bos_token': 'bos_token_id',
  'eos_token': 'eos_token_id',
  'unk_token': 'unknown_token_id',
  'pad_token': 'padding_token_id',
}


def load(spec: str, path: storage.PathLike) -> vocabularies.Vocabulary:
  """The tokenizer in a GGUF file's metadata.

  Args:
    spec: what the user gave, for errors.
    path: the file, on a local disk.

  Raises:
    ConfigurationError: the file is not readable, or a kind of tokenizer or a
      rule for words that is not known here.
  """
  found = metadata(path)

  def get(name: str, default: Any = None) -> Any:
    return found.get(f'tokenizer.ggml.{name}', default)

  kind, pieces, merges = get('model'), get('tokens'), get('merges')
  types = get('token_type', [piece_models.NORMAL] * len(pieces or ()))
  pre = get('pre', _UNNAMED)
  if kind != 'llama' and not (kind == 'gpt2' and pre in piece_models.RULES):
    raise _unknown_kind(spec, kind, pre)
  tokenizer = piece_models.built(found)
  table = piece_models.bytes_of(found)
  specials = {
    piece: token
    for token, (piece, type_) in enumerate(zip(pieces, types, strict=True))
    if type_ == piece_models.CONTROL
  }
  size = len(pieces)
  eos_ids = [
    vocabularies.checked_eos(f'{spec}: tokenizer.ggml.{name}', get(name), size)
    for name in _EOS
    if name == _EOS[0] or get(name) is not None
  ]
  ids = {name: get(key) for name, key in _NAMES.items()}
  bos = ids['bos_token']
  add_bos = get('add_bos_token', kind == 'llama' or pre in _WITH_BOS)
  # Of the EOS ids only the first: so that an identity from before the others
  # were read stays.
  content = [kind, pre, pieces, types, merges, get('eos_token_id')]
  return vocabularies.Vocabulary(
    spec=spec,
    encoder=vocabularies.without_dummy_prefix(_encoder(tokenizer), table),
    table=table,
    eos_id=eos_ids[0],
    more_eos_ids=eos_ids[1:],
    bos_id=int(bos) if add_bos and bos is not None else None,
    specials=specials,
    names={
      name: pieces[id_]
      for name, id_ in ids.items()
      if id_ is not None and 0 <= id_ < size
    },
    digest=vocabularies.digest_of(
      json.dumps([*content, bool(add_bos)], default=float).encode()
    ),
  )


def metadata(path: storage.PathLike) -> dict[str, Any]:
  """The file's keys that begin with 'tokenizer.', and their values.

  Args:
    path: the file, on a local disk.
  """
  return {
    name: value
    for name, value in gguf_files.opened(path).fields.items()
    if name.startswith('tokenizer.')
  }


def chat_template(path: storage.PathLike) -> str | None:
  """The Jinja chat template in a GGUF file's metadata, if it has one."""
  return gguf_files.opened(path).field('tokenizer.chat_template')


def _unknown_kind(
  spec: str, kind: Any, pre: str
) -> configuration.ConfigurationError:
  way_out = "Set VOCABULARY to the model's tokenizer.json."
  if kind == 'gpt2' and pre == _UNNAMED:
    return configuration.ConfigurationError(
      f'vocabulary {spec}: the file does not say how text is cut into words '
      f'(tokenizer.ggml.pre is missing or {_UNNAMED!r}), and another rule '
      f'gives other ids than the model was trained with. {way_out} Or convert '
      'the model again with a newer llama.cpp.'
    )
  return configuration.ConfigurationError(
    f'vocabulary {spec}: tokenizer {kind!r} with words {pre!r}; allowed: '
    f"'llama', or 'gpt2' with {' | '.join(piece_models.RULES)}. {way_out}"
  )


def _encoder(tokenizer: Any) -> Callable[[str], Sequence[int]]:
  return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
