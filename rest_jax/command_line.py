"""The words and flags of `rest-jax`: stages, commands, and what they take."""

import argparse

import rest_jax
from rest_jax.config import gin_flags, packaged_gin
from rest_jax.pipeline import launch_flags

STAGES = {
  'prepare': 'turn a task, or your JSONL, into problems (and a corpus)',
  'sample': 'E-step: draw solutions from a policy',
  'score': "grade samples with the task's reward",
  'select': 'keep correct solutions as training examples',
  'train': 'M-step: fine-tune the base model on them',
  'grade_dval': "grade an M-step's D_val samples, beside it",
  'evaluate': 'pass@1, pass@k, maj@k; or all CHECKPOINTS on all TASKS',
  'report': 'one HTML page and results.json',
  'preflight': "compile a run's programs for TPUs that are not here",
}
RUN = 'run'  # all stages, one after the other
# Without gin and without a run: their module has a `run(arguments)`.
COMMANDS = {
  'grade': ('grade', "grade anybody's completions: JSONL in, JSONL out"),
  'grading-sheet': (
    'grading_sheet',
    'a sheet for exams that a person grades, and back',
  ),
  'rescore': ('rescore', "grade a run's samples again, sampling nothing"),
  'check-task': ('check_task', 'try the tests of code problems on references'),
  'tasks': ('tasks', 'list the tasks that come with the package'),
  'import': ('import_checkpoint', 'a published model as an Orbax checkpoint'),
  'export': ('export_checkpoint', 'a model for transformers, vLLM, llama.cpp'),
  'models': ('models', 'list what can be a base model'),
  'view': ('view', "serve a run's page, while it goes and after"),
  'status': ('status', 'what a run is doing, from any machine'),
  'stop': ('stop', 'stop a run, from any machine; nothing is lost'),
  'compare': ('compare', 'several runs on one page'),
}


def parser() -> argparse.ArgumentParser:
  """The flags, named as T5X names them."""
  text = '\n'.join(f'  {name:14}{what}' for name, what in STAGES.items())
  more = '\n'.join(f'  {name:14}{what}' for name, (_, what) in COMMANDS.items())
  result = argparse.ArgumentParser(
    prog='rest-jax',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description='ReST^EM self-training of language models in JAX.\n\n'
    'the whole loop, on your own model and problems:\n'
    '  rest-jax run --model=model.gguf --problems=problems.jsonl\n'
    'and with a run file (rest-jax run --help):\n'
    '  rest-jax run --gin_file=runs/math.gin --gin.RUN_DIR=runs/math …\n\n'
    f'one stage of a run:\n{text}\n\n'
    f'commands of their own (rest-jax NAME --help):\n{more}\n\n'
    f'run files, below gin/:\n{packaged_gin.listed("runs")}',
    epilog='Any dial of gin/defaults.gin: --gin.NAME=VALUE, for example '
    '--gin.TEMPERATURE=0.7 --gin.RUN_DIR=runs/x',
  )
  result.add_argument(
    '--version', action='version', version=f'rest_jax {rest_jax.__version__}'
  )
  result.add_argument('stage', nargs='?', choices=list(STAGES), metavar='STAGE')
  result.add_argument('--run_mode', choices=list(STAGES), metavar='STAGE')
  result.add_argument('--input', help='prepare: your problems.jsonl')
  result.add_argument(
    '--task', help='prepare: a published task, such as math (docs/data.md)'
  )
  result.add_argument(
    '--manual_dir', help='prepare: the files of the published task'
  )
  for name, text in (
    ('download', 'fetch them where that can be done'),
    ('allow_partial', 'some of its problems will do'),
    ('overwrite', 'build its TFDS data set anew'),
  ):
    result.add_argument(f'--{name}', action='store_true', help=text)
  for name, text in (
    ('worker_index', 'which of the workers this is, from 0'),
    ('num_workers', 'how many fill the same folders'),
  ):
    result.add_argument(f'--{name}', type=int, help=f'sample, score: {text}')
  result.add_argument(
    '--search', action='store_true', help='preflight: try other dials too'
  )
  gin_flags.add(result)
  launch_flags.add(result, of='evaluate with CHECKPOINTS: ')
  result.add_argument('--tfds_data_dir', help='where TFDS keeps its data')
  result.add_argument(
    '--seqio_additional_cache_dirs', default='', help='comma-separated'
  )
  return result
