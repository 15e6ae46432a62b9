"""Defaults for a model and problems of one's own, where a dial is 'auto'.

    MODEL, CHAT, NUM_SHOTS        from the checkpoint
    GRADER                        from the answers
    NUM_ITERATIONS, NUM_SAMPLES, MAX_DECODE_LENGTH, LEARNING_RATES
                                  from the model's size and the devices
    MAX_STEPS, MAX_EPOCHS, WARMUP_STEPS, DVAL_EVERY, LOG_EVERY, SAVE_EVERY
                                  from the number of problems

On a CPU the defaults are those of a trial of minutes, on accelerators those of
the paper where it reports any.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from rest_jax.config import configuration
from rest_jax.executors.machine import Machine
from rest_jax.models.architecture import DecoderConfig
from rest_jax.models.checkpoints import described
from rest_jax.pipeline import sizes, training_sizes
from rest_jax.pipeline.sizes import Dial
from rest_jax.tasks import grader_choice
from rest_jax.tokenizers import vocabulary_files

BEFORE_PLAN = (
  *('MODEL', 'CHAT', 'NUM_SHOTS', 'GRADER', 'NUM_ITERATIONS'),
  *('NUM_SAMPLES', 'MAX_DECODE_LENGTH', 'LEARNING_RATES'),
)
_EPOCHS = 2
_VALIDATIONS = 4  # of an M-step, after the one of step 0
_SHOTS = 4
# Learning rates of adamw: the more parameters, the smaller the step. Full
# fine-tuning of published models of these sizes uses such rates.
_RATES = ((0.3e9, 5e-5), (3e9, 2e-5), (math.inf, 1e-5))


def before_plan(
  wanted: Sequence[str],
  *,
  checkpoint: str | None,
  vocabulary: str | None,
  source: str | None,
  find_machine: Callable[[], Machine],
) -> dict[str, Dial]:
  """What follows from the checkpoint, the input and the devices.

  Args:
    wanted: some of BEFORE_PLAN.
    checkpoint: BASE_CHECKPOINT_PATH.
    vocabulary: VOCABULARY; None: that of the checkpoint.
    source: INPUT.
    find_machine: gives the devices.

  Raises:
    ConfigurationError: the checkpoint or the input is not there, or cannot be
      read.
  """
  found: dict[str, Dial] = {}
  network = None
  if {'MODEL', 'LEARNING_RATES'} & {*wanted}:
    if not checkpoint:
      raise configuration.ConfigurationError(
        "MODEL: 'auto' reads the network from a checkpoint, and "
        'BASE_CHECKPOINT_PATH is not set: --model=PATH, or bind MODEL '
        '(gin/models/ has examples).'
      )
    network = described.network(checkpoint)
    found['MODEL'] = Dial(
      network,
      f'as {checkpoint} describes it: {network.num_parameters:,} parameters',
    )
    found['LEARNING_RATES'] = _rate(network)
  if {'CHAT', 'NUM_SHOTS'} & {*wanted}:
    found |= _prompting(vocabulary or checkpoint)
  if 'GRADER' in wanted:
    if not source:
      raise configuration.ConfigurationError(
        'INPUT: not set, and the grader follows from its answers: '
        '--problems=FILE.jsonl, or --gin.INPUT=FILE.jsonl.'
      )
    found['GRADER'] = Dial(*grader_choice.guess(source))
  if {'NUM_ITERATIONS', 'NUM_SAMPLES', 'MAX_DECODE_LENGTH'} & {*wanted}:
    found |= _extent(find_machine())
  return {name: dial for name, dial in found.items() if name in wanted}


def _rate(network: DecoderConfig) -> Dial:
  size = network.num_parameters
  rate = next(rate for most, rate in _RATES if size < most)
  return Dial([rate], f'for {size / 1e9:.2g} G parameters')


def _prompting(spec: str | None) -> dict[str, Dial]:
  template = None
  if spec:
    template = vocabulary_files.chat_template(vocabulary_files.resolve(spec))
  if template is None:
    reason = f'{spec} comes with no chat template'
    return {'CHAT': Dial(None, reason), 'NUM_SHOTS': Dial(_SHOTS, reason)}
  return {
    # 'auto' to prepare: the template that comes with the vocabulary.
    'CHAT': Dial('auto', f'{spec} comes with a chat template'),
    'NUM_SHOTS': Dial(0, 'a chat model is asked without examples'),
  }


def _extent(machine: Machine) -> dict[str, Dial]:
  reason = f'for {machine}'
  on_cpu = machine.kind == 'cpu'
  return {
    'NUM_ITERATIONS': Dial(2 if on_cpu else 3, reason),
    'NUM_SAMPLES': Dial(4 if on_cpu else 32, reason),
    'MAX_DECODE_LENGTH': Dial(96 if on_cpu else 512, reason),
  }


def schedule(
  asked: sizes.Asked, prompts: sizes.Prompts, found: Mapping[str, Dial]
) -> dict[str, Dial]:
  """The M-step's length, and how often it validates and logs.

  Args:
    asked: the dials that are set.
    prompts: of the run's problems.
    found: what sampling_sizes.derive and training_sizes.derive gave.
  """

  def size(name: str, value: sizes.Size | None) -> int:
    return found[name].value if value in (sizes.AUTO, None) else value

  row = size('ROW_LENGTH', asked.row_length)
  rows = size('BATCH_ROWS', asked.batch_rows)
  kept = min(asked.num_samples, asked.solutions_kept)
  tokens = training_sizes.epoch_tokens(asked, prompts, kept)
  steps = max(4, math.ceil(_EPOCHS * tokens / (row * rows)))
  # Half of the samples are not expected to be right.
  every = max(1, steps // 2 // _VALIDATIONS)
  many = f'{len(prompts.train)} problems, at most {kept} solutions of each'
  return {
    'MAX_EPOCHS': Dial(_EPOCHS, 'of the kept solutions'),
    'MAX_STEPS': Dial(steps, f'{_EPOCHS} epochs of {many}'),
    'WARMUP_STEPS': Dial(max(1, steps // 10), 'a tenth of the steps'),
    'DVAL_EVERY': Dial(every, f'about {_VALIDATIONS} validations'),
    'SAVE_EVERY': Dial(
      max(every, 100), 'a step is saved where it is validated'
    ),
    'LOG_EVERY': Dial(max(1, steps // 50), '50 lines at most'),
  }
