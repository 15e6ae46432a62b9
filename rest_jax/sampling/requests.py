"""The engine's requests and completions; from problems, and to records."""

import dataclasses
from collections.abc import Iterable, Sequence

from rest_jax.artifacts import manifests, records, task_card
from rest_jax.sampling import stops
from rest_jax.tokenizers import vocabularies, vocabulary_files


@dataclasses.dataclass(frozen=True)
class Request:
  """Samples wanted of one problem.

  Attributes:
    problem_id: of the problem.
    prompt: ids, all parts concatenated.
    sample_indices: of the samples.
    prefix: how many ids of the prompt many other requests begin with too. They
      are read once for all of them.
  """

  problem_id: str
  prompt: Sequence[int]
  sample_indices: Sequence[int]
  prefix: int = 0


@dataclasses.dataclass(frozen=True)
class Completion:
  """One sample; the fields are those of records.Sample."""

  problem_id: str
  sample_index: int
  token_ids: list[int]
  target_length: int
  text: str
  logprobs: list[float]
  sampling_logprobs: list[float]
  finish_reason: str


@dataclasses.dataclass(frozen=True)
class Text:
  """What the engine must know of the task's text."""

  decode: stops.Decode
  vocab_size: int  # ids from here on are padding of the embedding
  eos_ids: Sequence[int]
  stop: Sequence[str]


def prompt_of(problem: records.Problem, few_shot: bool) -> list[int]:
  """The ids of a prompt: lead, question, and exemplars if few_shot."""
  lead, exemplars, question = problem.prompt_parts
  return [*lead, *(exemplars if few_shot else []), *question]


def request(
  problem: records.Problem,
  samples: Sequence[int],
  few_shot: bool,
  shares_prefix: bool = False,
) -> Request:
  """A request for these samples of a problem.

  Args:
    problem: with its prompt.
    samples: their indices.
    few_shot: whether the prompt holds the exemplars.
    shares_prefix: whether many problems have the same lead and exemplars.
  """
  prompt = prompt_of(problem, few_shot)
  own = len(problem.prompt_parts[-1])
  return Request(
    problem.id, prompt, samples, len(prompt) - own if shares_prefix else 0
  )


_PER_PREFIX = 8  # problems


def shares_prefix(
  prompts: Iterable[Sequence[Sequence[int]]], few_shot: bool
) -> bool:
  """Whether what comes before the questions is worth a cache of its own.

  Problems are decoded together only if they have the same prefix, so that each
  must belong to many of them.

  Args:
    prompts: the prompt parts of all problems of a folder.
    few_shot: whether prompts hold the exemplars.
  """
  prefixes, number = set(), 0
  for *before, _ in prompts:
    prefixes.add(tuple(map(tuple, before if few_shot else before[:1])))
    number += 1
  return len(prefixes) <= max(1, number // _PER_PREFIX)


def vocabulary_of(problems: manifests.Manifest) -> vocabularies.Vocabulary:
  """The vocabulary of a folder of problems."""
  card = task_card.of(problems)
  return vocabulary_files.load(card.vocabulary, base=problems.folder)


def text_of(
  problems: manifests.Manifest,
  vocabulary: vocabularies.Vocabulary | None = None,
) -> Text:
  """What the engine must know of the text of a folder of problems.

  Args:
    problems: the folder.
    vocabulary: of the folder, where it has been loaded.
  """
  card = task_card.of(problems)
  vocabulary = vocabulary or vocabulary_of(problems)
  return Text(
    decode=vocabulary.decode,
    vocab_size=vocabulary.size,
    eos_ids=card.eos_ids,
    stop=card.stop,
  )


def to_sample(
  completion: Completion,
  *,
  stream: str,
  policy_digest: str,
  prompt: Sequence[int],
  engine_fingerprint: str,
) -> records.Sample:
  """A completion as a record.

  Args:
    completion: of the engine.
    stream: its name.
    policy_digest: of the weights that it was sampled from.
    prompt: the ids that it was sampled behind.
    engine_fingerprint: what its bits depend on beside these.
  """
  return records.Sample(
    problem_id=completion.problem_id,
    sample_index=completion.sample_index,
    stream=stream,
    policy_digest=policy_digest,
    prompt_digest=records.prompt_digest([prompt]),
    token_ids=completion.token_ids,
    target_length=completion.target_length,
    text=completion.text,
    logprobs=completion.logprobs,
    sampling_logprobs=completion.sampling_logprobs,
    finish_reason=completion.finish_reason,
    engine_fingerprint=engine_fingerprint,
  )
