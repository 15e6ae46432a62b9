"""SentencePiece vocabularies: read from a *.model file, and trained.

SentencePiece is imported where it is used: most stages need no vocabulary.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration
from rest_jax.tokenizers import tokenizer_json, vocabularies
from rest_jax.tokenizers.vocabularies import Vocabulary

_UNKNOWN = '\ufffd'.encode()


def load(spec: str, path: storage.Path) -> Vocabulary:
  """The vocabulary of a SentencePiece model.

  Args:
    spec: what the user gave, for errors.
    path: the *.model file.

  Raises:
    ConfigurationError: it is no such model, or has no end-of-sequence id.
  """
  import sentencepiece

  data = path.read_bytes()
  try:
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
  except RuntimeError as error:
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: not a SentencePiece model ({error}).'
    ) from error
  table, specials = [], {}
  for token in range(model.vocab_size()):
    piece = model.id_to_piece(token)
    if model.is_control(token):
      specials[piece] = token
      table.append(b'')
    elif model.is_unknown(token):
      table.append(_UNKNOWN)
    else:
      table.append(
        vocabularies.piece_bytes(piece, is_byte=model.is_byte(token))
      )
  if model.eos_id() < 0:
    raise configuration.ConfigurationError(
      f'vocabulary {spec}: has no end-of-sequence id, and samples need one.'
    )
  ids = {
    'bos_token': model.bos_id(),
    'eos_token': model.eos_id(),
    'unk_token': model.unk_id(),
    'pad_token': model.pad_id(),
  }
  return Vocabulary(
    spec=spec,
    encoder=vocabularies.without_dummy_prefix(model.encode, table),
    table=table,
    eos_id=model.eos_id(),
    bos_id=model.bos_id() if model.bos_id() >= 0 else None,
    specials=specials,
    names={n: model.id_to_piece(i) for n, i in ids.items() if i >= 0},
    digest=vocabularies.digest_of(data),
    unk_id=model.unk_id() if model.unk_id() >= 0 else None,
  )


def metadata(path: storage.Path) -> dict[str, Any]:
  """The tokenizer in the words of GGUF: the keys 'tokenizer.ggml.…'.

  No space is put before a text, whatever the model says: prompts here are
  joined from parts, and a policy was trained on them so.

  Args:
    path: the *.model file.

  Raises:
    ConfigurationError: it is not a byte-pair model, or rewrites text.
  """
  from sentencepiece import sentencepiece_model_pb2

  model = sentencepiece_model_pb2.ModelProto()
  model.ParseFromString(path.read_bytes())
  rules, trainer = model.normalizer_spec, model.trainer_spec
  problem = None
  if trainer.model_type != trainer.BPE:
    problem = 'is no byte-pair model (model_type bpe)'
  elif rules.precompiled_charsmap or rules.remove_extra_whitespaces:
    problem = f'rewrites texts before it cuts them ({rules.name})'
  if problem:
    raise configuration.ConfigurationError(
      f'{path}: {problem}, which cannot be written as another format. Give '
      "the model's tokenizer in the format that is wanted: --tokenizer=PATH."
    )
  ids = {
    'bos_token_id': trainer.bos_id,
    'eos_token_id': trainer.eos_id,
    'unknown_token_id': trainer.unk_id,
    'padding_token_id': trainer.pad_id,
  }
  found = {
    'model': 'llama',
    'pre': 'default',
    'tokens': [piece.piece for piece in model.pieces],
    'scores': [piece.score for piece in model.pieces],
    'token_type': [int(piece.type) for piece in model.pieces],
    **{name: id_ for name, id_ in ids.items() if id_ >= 0},
    'add_bos_token': trainer.bos_id >= 0,
    'add_eos_token': False,
    'add_space_prefix': False,
  }
  result = {f'tokenizer.ggml.{name}': value for name, value in found.items()}
  template = chat_template(path)
  return result | ({'tokenizer.chat_template': template} if template else {})


def chat_template(path: storage.Path) -> str | None:
  """The Jinja chat template beside a *.model file, as Hugging Face puts it."""
  return tokenizer_json.chat_template(path)


def train(
  lines: Iterable[str],
  size: int,
  target: storage.PathLike,
  pieces: Sequence[str] = (),
) -> None:
  """Trains a byte-pair vocabulary that can write any text exactly.

  Digits are single pieces (but for `pieces`), a newline is one piece, unknown
  characters are spelt in bytes, nothing is normalised. Single-threaded and with
  integer counts only: the same lines give the same file.

  Args:
    lines: the texts to learn from.
    size: number of ids; 260 of them are special tokens, bytes and newline.
    target: the *.model file to write.
    pieces: texts that are one piece each, wherever they stand.

  Raises:
    ConfigurationError: the lines do not have so many pieces in them.
  """
  import io

  import sentencepiece

  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines),
      model_writer=model,
      model_type='bpe',
      vocab_size=size,
      character_coverage=1.0,
      normalization_rule_name='identity',
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      split_digits=True,
      byte_fallback=True,
      allow_whitespace_only_pieces=True,
      user_defined_symbols=['\n', *pieces],
      unk_id=0,
      eos_id=1,
      bos_id=-1,
      pad_id=-1,
      max_sentence_length=1 << 20,
      num_threads=1,
      minloglevel=2,
    )
  except RuntimeError as error:
    raise configuration.ConfigurationError(
      f'vocab_size: got {size}; SentencePiece says: {error}.'
    ) from error
  storage.write_bytes(target, model.getvalue())
