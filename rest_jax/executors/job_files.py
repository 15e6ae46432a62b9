"""Which of the user's files a job depends on, and their digests.

The problems (INPUT, INPUT_TEST), a chat template, the vocabulary, a checkpoint
that the run did not make, and the source of the grader. A file is named by the
dial that names it, so that it may lie elsewhere tomorrow.
"""

import ast
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rest_jax.artifacts import (
  file_digests,
  manifests,
  model_formats,
  storage,
  task_card,
  weight_digests,
)
from rest_jax.config import configuration
from rest_jax.executors.jobs import Job
from rest_jax.rewards import registry

_POLICIES = ('POLICY_DIR', 'INIT_PATH')  # arguments of sample and train
# What lies beside a tokenizer and says more of it (tokenizers/).
_BESIDE = (
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'config.json',
  'chat_template.jinja',
)
_FLAG = '--gin.'
GRADER = 'GRADER'
_DIGITS = 32  # of a file's digest


@dataclasses.dataclass(frozen=True)
class File:
  """A file, or a folder of some, that a job depends on.

  Attributes:
    dial: what names it, such as INPUT.
    path: as it was given; of a grader 'module:function'.
    shown: the dial that the user knows, where it is another one.
    digest: takes its digest; None where it is not there.
  """

  dial: str
  path: str
  digest: Callable[[file_digests.Cache], str | None]
  shown: str = ''

  @property
  def key(self) -> str:
    """What it is called in a job's record."""
    return f'{GRADER} {self.path}' if self.dial == GRADER else self.dial

  def __str__(self) -> str:
    return f'{self.path} ({self.shown or self.dial})'


def of(
  job: Job, reached: Mapping[str, str], bound: Mapping[str, str], run_dir: str
) -> list[File]:
  """The files of a job.

  Args:
    job: a job.
    reached: gin_names.reached() of it.
    bound: all bindings of the launch.
    run_dir: the run's folder; what lies in it is no file of the user's.
  """
  found = [
    File(dial, path, _there(path, field.digest), shown)
    for dial, path, field, shown in paths(job, reached, bound, run_dir)
    if field.digest is not None
  ]
  if job.stage == 'score':
    for name in _graders(job.inputs):
      found.append(File(GRADER, name, _grader(name)))
  return found


def paths(
  job: Job, reached: Mapping[str, str], bound: Mapping[str, str], run_dir: str
) -> list['Named']:
  """The paths of the user's that a job's configuration names.

  Args: as of `of`.
  """
  found = {}
  for key, text in reached.items():
    name = key.rpartition('.')[2].lower()
    dial, path = _resolved(key, text, bound)
    if name in FIELDS and path is not None:
      # One dial may name two: the model's file is its vocabulary too.
      found[dial, name] = Named(dial, path, FIELDS[name])
  for argument in job.arguments:
    dial, _, path = argument.removeprefix(_FLAG).partition('=')
    if dial in _POLICIES and path in job.inputs:
      if not path.startswith(f'{run_dir}/'):
        shown = _policy_dial(path, bound)
        found[dial, ''] = Named(dial, path, _POLICY, shown)
  return list(found.values())


def stated(job: Job) -> dict[str, str]:
  """What the folders that a job has made say of its files; by File.key.

  It is for records of an earlier version, which name no files.
  """
  found = {}
  for folder in job.outputs:
    try:
      manifest = manifests.load_if_done(folder)
    except configuration.ConfigurationError:
      continue
    if manifest is None or manifest.stage != job.stage:
      continue
    semantic = manifest.fingerprint['semantic']
    inputs = manifest.fingerprint['inputs']
    said = {
      'POLICY_DIR': inputs.get('policy'),
      'INIT_PATH': inputs.get('init'),
      'INPUT': semantic.get('input_sha256', '')[:_DIGITS],
      'INPUT_TEST': semantic.get('input_test_sha256', '')[:_DIGITS],
    }
    if job.stage == 'score':
      label = semantic['grader']
      said[f'{GRADER} {label.rpartition("/")[0]}'] = label
    found |= {key: digest for key, digest in said.items() if digest}
  return found


def _resolved(
  key: str, text: str, bound: Mapping[str, str]
) -> tuple[str, str | None]:
  """(the dial that names a file, its path) of a binding; None: no path."""
  while text.startswith('%') and text[1:] in bound:
    key, text = text[1:], bound[text[1:]]
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = None
  return key, value if isinstance(value, str) and value else None


def _policy_dial(path: str, bound: Mapping[str, str]) -> str:
  """The dial by which the user named a checkpoint."""
  text = bound.get('BASE_CHECKPOINT_PATH', '')
  base = _resolved('BASE_CHECKPOINT_PATH', text, bound)[1]
  return 'BASE_CHECKPOINT_PATH' if base == path else 'CHECKPOINTS'


def _there(
  path: str, digest: Callable[[str, file_digests.Cache], str]
) -> Callable[[file_digests.Cache], str | None]:
  """Takes a digest; None where nothing is at the path, or no such thing."""

  def take(cache: file_digests.Cache) -> str | None:
    if not storage.path(path).exists():
      return None
    try:
      return digest(path, cache)
    except (configuration.ConfigurationError, OSError):
      # A checkpoint, say, that is none any more: surely not what it was. The
      # stage that reads it says what is wrong with it.
      return 'unreadable'

  return take


def _text(path: str, cache: file_digests.Cache) -> str:
  return cache.content(path)


def _vocabulary(path: str, cache: file_digests.Cache) -> str:
  """A tokenizer's file, and the files beside it that say more of it."""
  place = storage.path(path)
  row = model_formats.of_vocabulary(place)
  if row is not None and row.weights:
    return weight_digests.digest(place, cache)  # one file that holds both
  folder = place if place.is_dir() else place.parent
  # Of formats that are one file, with a tokenizer and nothing else.
  single = [
    row for row in model_formats.FORMATS if not (row.holds or row.weights)
  ]
  tokenizers = [
    file.name
    for file in sorted(folder.iterdir())
    if any(row.matches(file) for row in single)
  ]
  names = [*_BESIDE, *tokenizers]
  if not place.is_dir():
    names = [place.name, *(name for name in _BESIDE if name != place.name)]
  files = [folder / name for name in names if (folder / name).exists()]
  return manifests.digest_of([cache.content(file) for file in files])


def _graders(inputs: Sequence[str]) -> list[str]:
  """The graders of the folders of problems among a job's inputs."""
  found = {}
  for folder in inputs:
    manifest = manifests.load_if_done(folder)
    if manifest is not None and manifest.kind == 'Problem':
      found[task_card.of(manifest).grader] = None
  return list(found)


def _grader(name: str) -> Callable[[file_digests.Cache], str | None]:
  return lambda cache: registry.label(name)


class Field(NamedTuple):
  """A field of stages' configurations whose value is a path of the user's.

  Attributes:
    dial: that sets it, where nothing else is bound to it.
    expected: what must lie there when a run is launched; '': it is looked for
      where it is read.
    digest: takes the digest of what a job depends on; None: it has none, or
      another field says it.
    words: values that are no paths.
  """

  dial: str
  expected: str = ''
  digest: Callable[[str, file_digests.Cache], str] | None = None
  words: tuple[str, ...] = ()


class Named(NamedTuple):
  """A path that a configuration names.

  Attributes:
    dial: that names it.
    path: as it was given; or one of the field's words.
    field: what it is.
    shown: the dial that the user knows, where it is another one.
  """

  dial: str
  path: str
  field: Field
  shown: str = ''


_POLICY = Field('', digest=weight_digests.digest)  # an argument of the job
# By the names of the fields, and of the macros in lower case.
FIELDS = {
  'input': Field('INPUT', 'a JSONL file of your problems (--problems)', _text),
  'input_test': Field(
    'INPUT_TEST', 'a JSONL file of your test problems', _text
  ),
  'chat': Field('CHAT', digest=_text, words=('auto',)),
  'vocabulary': Field('VOCABULARY', digest=_vocabulary, words=('bytes',)),
  'manual_dir': Field(
    'MANUAL_DIR', 'the folder of the published files (docs/data.md)'
  ),
  'data_dir': Field('TFDS_DATA_DIR'),
  'base_checkpoint_path': Field('BASE_CHECKPOINT_PATH'),
}
