"""The stage `prepare`: tasks become problems as token ids, and a corpus.

    RUN_DIR/problems/manifest.json           the run's one vocabulary
    RUN_DIR/problems/vocabulary.model        (if it is trained here)
    RUN_DIR/problems/<task>/<split>/         Problem records, with a task card
    RUN_DIR/problems/overlap.json            what training and test share
    RUN_DIR/base/examples/                   the pretraining corpus, if any

Everything downstream reads token ids from here; no text is encoded again.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from rest_jax.artifacts import (
  manifests,
  model_formats,
  progress_lines,
  records,
  run_paths,
  stage_work,
  storage,
  task_card,
  twins,
)
from rest_jax.config import configuration
from rest_jax.distributed import preemption
from rest_jax.tasks import (
  chat_templates,
  encoding,
  prepared_summary,
  problem_sets,
  prompts,
  run_vocabulary,
)
from rest_jax.tasks.decontamination import problem_overlap
from rest_jax.tokenizers import vocabularies, vocabulary_files

VERSION = 2
_PROBLEMS_PER_PART = 2048
_DOCUMENTS_PER_PART = 1000


@configuration.checked
def prepare(
  *,
  run_dir: str,
  tasks: Sequence[problem_sets.TaskConfig],
  seed: int,
  overlap_ngram: int = 13,
  drop_overlap: bool = False,
  base_checkpoint_path: str | None = None,
) -> None:
  """Writes the problems of all tasks, and the corpus of the base model.

  Args:
    run_dir: the run's folder.
    tasks: what to prepare; the list may grow.
    seed: of generated problems, and of which problems are D_val.
    overlap_ngram: tokens in a row that training and test problems are
      compared by; 0: they are not.
    drop_overlap: leave out the training problems that share an n-gram.
    base_checkpoint_path: the base model; one that brings its own vocabulary
      is compared with the run's. None: the run makes its base.

  Raises:
    ConfigurationError: tasks that do not fit together, unusable input, or a
      run_dir prepared with another configuration.
  """
  preemption.watch()
  run = storage.path(run_dir)
  trainer = _check_tasks(tasks)
  if base_checkpoint_path is not None:
    model_formats.of_weights(base_checkpoint_path)  # raises where none is
  reader = problem_overlap.Reader(tasks, seed, overlap_ngram, drop_overlap)
  vocabulary = run_vocabulary.of_run(
    run / 'problems', tasks, trainer, seed, base_checkpoint_path
  )
  tasks = [
    dataclasses.replace(
      config,
      prompt=chat_templates.applied(config.prompt, config.chat, vocabulary),
    )
    for config in tasks
  ]
  done = []
  folders = [(config, name) for config in tasks for name in config.folders()]
  meter = progress_lines.Meter(len(folders), print)
  for config, name in folders:
    preemption.check('prepare')
    meter.at(len(done), f'the problems of {"/".join(name)}', now=True)
    done.append(_problems(run, config, name, vocabulary, reader, seed))
  corpus = None
  if trainer is not None:
    corpus = _corpus(run / 'base' / 'examples', trainer, vocabulary, seed)
  shared = problem_overlap.write(run / 'problems', overlap_ngram)
  told = [
    *shared,
    *prepared_summary.prompts(done),
    *prepared_summary.counts(done, corpus, vocabulary.size),
  ]
  for line in told:
    print(line, flush=True)


def _check_tasks(
  tasks: Sequence[problem_sets.TaskConfig],
) -> problem_sets.TaskConfig | None:
  """The task with a corpus, if there is one; raises on clashes."""
  if not tasks:
    raise configuration.ConfigurationError(
      'prepare.tasks: got none. Set TASK_CONFIGS, as gin/tasks/*.gin do.'
    )
  folders = [folder for config in tasks for folder in config.folders()]
  for folder in folders:
    if folders.count(folder) > 1:
      raise configuration.ConfigurationError(
        f'prepare.tasks: {"/".join(folder)} comes from two of them. Give one '
        'another name.'
      )
  trainers = [config for config in tasks if config.num_documents()]
  if len(trainers) > 1:
    raise configuration.ConfigurationError(
      'prepare.tasks: two of them have a pretraining corpus; allowed: one.'
    )
  return trainers[0] if trainers else None


def _problems(
  run: storage.Path,
  config: problem_sets.TaskConfig,
  name: tuple[str, str],
  vocabulary: vocabularies.Vocabulary,
  reader: problem_overlap.Reader,
  seed: int,
) -> manifests.Manifest:
  """Writes one split of one task."""
  folder = run / 'problems' / name[0] / name[1]
  semantic = {'seed': seed, 'task': config, **config.inputs()}
  semantic |= reader.semantic(name[1])
  with stage_work.work_on(
    folder,
    stage='prepare',
    kind=records.Problem,
    semantic=semantic,
    inputs={'vocabulary': vocabulary.digest},
    version=VERSION,
  ) as work:
    if work.done is not None:
      return work.done
    texts = reader.read(name)
    problem_set = next(s for s in texts.sets if (s.task, s.split) == name)
    rows = encoding.problems(problem_set, texts, config, vocabulary)
    parts = max(1, -(-len(rows) // _PROBLEMS_PER_PART))
    for part in range(parts):
      source = manifests.digest_of([work.fingerprint, name, part, parts])
      some = rows[part * _PROBLEMS_PER_PART : (part + 1) * _PROBLEMS_PER_PART]
      work.write(records.part_name(part, parts), some, source=source)
    card = _card(problem_set, config, vocabulary, run, rows).to_statistics()
    twin = twins.of(work, lambda one: _same_problems(one, work, card))
    return work.finish(
      statistics={
        **card,
        **_prompts(rows, card, vocabulary, twin),
        'num_shots': len(texts.exemplars),
        'num_shots_asked': config.num_shots,
        'longest_prompt': max(
          (sum(len(ids) for ids in row.prompt_parts) for row in rows),
          default=0,
        ),
        'skipped_rows': problem_set.skipped_rows,
        'num_read': problem_set.num_read,
      },
      recorded={'vocabulary': vocabulary.spec, 'rest_jax': VERSION},
      twin=twin,
    )


def _same_problems(
  before: manifests.Manifest, work: stage_work.Work, card: Mapping[str, Any]
) -> bool:
  """Whether a folder that was set aside is what later stages would see now."""
  ours = manifests.content_of(work.parts())
  return (
    manifests.content_of(before.parts) == ours
    and task_card.same(before.statistics, card)
    and before.fingerprint['inputs'] == work.fingerprint['inputs']
  )


def _prompts(
  rows: Sequence[records.Problem],
  card: Mapping[str, Any],
  vocabulary: vocabularies.Vocabulary,
  twin: manifests.Manifest | None,
) -> dict[str, str]:
  """The digest of all that sampling depends on; see task_card.prompts."""
  if twin is not None and task_card.PROMPTS not in twin.statistics:
    return {}  # its samples name the digest of the whole folder
  return task_card.prompts_entry(rows, card, vocabulary.digest)


def _card(
  problem_set: problem_sets.ProblemSet,
  config: problem_sets.TaskConfig,
  vocabulary: vocabularies.Vocabulary,
  run: storage.Path,
  rows: Sequence[records.Problem],
) -> task_card.TaskCard:
  """What later stages need to know of a task."""
  spec = vocabulary.spec
  if spec == vocabulary_files.resolve(
    str(run / 'problems' / run_paths.VOCABULARY)
  ):
    spec = (
      f'../../{run_paths.VOCABULARY}'  # so that a run's folder can be moved
    )
  eos_id = prompts.eos_id(config.prompt, vocabulary)
  return task_card.TaskCard(
    task=problem_set.task,
    split=problem_set.split,
    grader=config.grader,
    stop=tuple(prompts.stop_strings(config.prompt, vocabulary)),
    vocabulary=spec,
    vocab_size=vocabulary.size,
    eos_id=eos_id,
    eos_ids=tuple(prompts.eos_ids(config.prompt, vocabulary)),
    bos_id=vocabulary.bos_id,
    num_problems=len(problem_set.rows),
    skipped=dict(problem_set.skipped),
    shown_problem=rows[0].id if rows else '',
    shown_prompt=vocabulary.shown(
      [token for part in rows[0].prompt_parts for token in part]
    )
    if rows
    else '',
  )


def _corpus(
  folder: storage.Path,
  config: problem_sets.TaskConfig,
  vocabulary: vocabularies.Vocabulary,
  seed: int,
) -> manifests.Manifest:
  """Writes the pretraining corpus, document by document."""
  with stage_work.work_on(
    folder,
    stage='prepare',
    kind=records.Example,
    semantic={'seed': seed, 'task': config},
    inputs={'vocabulary': vocabulary.digest},
    version=VERSION,
  ) as work:
    if work.done is not None:
      return work.done
    number = config.num_documents()
    parts = -(-number // _DOCUMENTS_PER_PART)
    for part in range(parts):
      preemption.check('prepare')
      name = records.part_name(part, parts)
      source = manifests.digest_of([work.fingerprint, part, parts])
      if not work.has(name, source=source):
        start = part * _DOCUMENTS_PER_PART
        stop = min(number, start + _DOCUMENTS_PER_PART)
        rows = encoding.documents(config, vocabulary, seed, start, stop)
        work.write(name, rows, source=source)
    lengths = [
      length
      for part in range(parts)
      for length in pc.list_value_length(
        records.read_part(
          folder / records.part_name(part, parts),
          records.Example,
          columns=['token_ids'],
        )['token_ids']
      ).to_pylist()
    ]
    return work.finish(
      statistics={
        'num_documents': number,
        'num_tokens': sum(lengths),
        'longest_document': max(lengths),
      }
    )
