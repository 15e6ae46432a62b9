"""The vocabulary of a run. A run has one model, and so one vocabulary."""

from collections.abc import Sequence

from rest_jax.artifacts import (
  manifests,
  model_formats,
  records,
  run_paths,
  stage_work,
  storage,
)
from rest_jax.config import configuration
from rest_jax.tasks import problem_sets, prompts
from rest_jax.tokenizers import (
  sentencepiece_vocabularies,
  vocabularies,
  vocabulary_checks,
  vocabulary_files,
)

VERSION = 1  # of what the manifest describes
_DOCUMENTS = 2000  # of the corpus that a trained vocabulary learns from


def of_run(
  folder: storage.Path,
  tasks: Sequence[problem_sets.TaskConfig],
  trainer: problem_sets.TaskConfig | None,
  seed: int,
  base_checkpoint: str | None = None,
) -> vocabularies.Vocabulary:
  """The run's vocabulary: the one that all tasks name, or a trained one.

  Args:
    folder: RUN_DIR/problems; its manifest names the vocabulary, and a trained
      one is written there.
    tasks: of the run.
    trainer: the task with a pretraining corpus, if there is one.
    seed: of the corpus.
    base_checkpoint: the base model's path, if it is not made by this run.

  Raises:
    ConfigurationError: the tasks name none or several, the base model brings
      another one, or the ids that end a sequence have changed since the run
      was prepared.
    CorruptPartError: the trained one was changed.
  """
  specs = {
    vocabulary_files.resolve(c.vocabulary): c.vocabulary
    for c in tasks
    if c.vocabulary
  }
  size = trainer.vocabulary_size() if trainer else None
  if size is None and len(specs) == 1:
    vocabulary = vocabulary_files.load(*specs.values())
    if base_checkpoint is not None:
      vocabulary_checks.require_of_checkpoint(vocabulary, base_checkpoint)
    semantic = {'vocabulary': vocabulary.digest}
  elif size is not None and not specs:
    vocabulary = None
    semantic = {'vocabulary': 'trained', 'task': trainer, 'seed': seed}
  elif specs:
    raise configuration.ConfigurationError(
      'prepare.tasks: a run has one model and so one vocabulary; got '
      f'{sorted(specs)}{" and a trained one" if size else ""}. Set the '
      'vocabulary of all tasks to the same file.'
    )
  else:
    raise configuration.ConfigurationError(
      'prepare.tasks: no vocabulary. Set VOCABULARY to the one of the model: '
      f'{model_formats.expected_vocabulary()}.'
    )
  with stage_work.work_on(
    folder,
    stage='prepare',
    kind=None,
    semantic=semantic,
    inputs={},
    version=VERSION,
  ) as work:
    target = folder / run_paths.VOCABULARY
    if vocabulary is None:
      if work.done is None or not target.exists():
        lines = _vocabulary_lines(trainer, seed)
        pieces = trainer.vocabulary_pieces()
        sentencepiece_vocabularies.train(lines, size, target, pieces)
      vocabulary = vocabulary_files.load(str(target))
    if work.done is None:
      work.finish(
        content=vocabulary.digest,
        statistics={
          'digest': vocabulary.digest,
          'size': vocabulary.size,
          'eos_ids': list(vocabulary.eos_ids),
        },
        recorded={'spec': vocabulary.spec},
      )
    elif work.done.statistics['digest'] != vocabulary.digest:
      raise records.CorruptPartError(
        f'{target}: not the vocabulary that {folder / manifests.MANIFEST} '
        'describes: edited or damaged. Delete that manifest and run prepare '
        'again.'
      )
    else:
      _require_same_eos(folder, work.done, vocabulary)
  return vocabulary


def _require_same_eos(
  folder: storage.Path,
  done: manifests.Manifest,
  vocabulary: vocabularies.Vocabulary,
) -> None:
  """Raises where the files beside the tokenizer name other EOS ids than then.

  The problems that stand carry the ids in their cards; the vocabulary's digest
  covers the first only. A run of an earlier version does not list them.
  """
  stands = done.statistics.get('eos_ids', list(vocabulary.eos_ids))
  if stands != list(vocabulary.eos_ids):
    raise configuration.ConfigurationError(
      f'{folder}: prepared with the end-of-sequence ids {stands}; '
      f'{vocabulary.spec} now has {list(vocabulary.eos_ids)}. Restore the '
      'files beside it (generation_config.json, config.json), or use another '
      'RUN_DIR.'
    )


def _vocabulary_lines(trainer: problem_sets.TaskConfig, seed: int) -> list[str]:
  template = trainer.prompt
  stop = min(trainer.num_documents(), _DOCUMENTS)
  return [
    line
    for document in trainer.documents(seed, 0, stop)
    for line in prompts.document_text(template, document).splitlines()
  ]
