"""Dials that are bound to 'auto': derived once for a run, and fixed from then.

    before the plan   MODEL, CHAT, GRADER, …: from the checkpoint and the input
    after prepare     GROUPS, ROW_LENGTH, …: from the problems' lengths too

What was derived stands in RUN_DIR/automatic.gin, each with its reason. A later
launch reads it there, for sizes are part of the fingerprints of what was made;
a dial that a gin file or the command line sets is no longer derived.
"""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import gin_parser
from rest_jax.executors import machine
from rest_jax.executors.jobs import Resources
from rest_jax.models import architecture
from rest_jax.pipeline import (
  automatic_file,
  derived_sizes,
  estimates,
  own_defaults,
  prompt_lengths,
  sizes,
)
from rest_jax.pipeline.sizes import AUTO, Dial

_DIALS_OF_NEEDS = (
  *('GROUPS', 'LANES', 'GREEDY_GROUPS', 'PROMPT_BUCKET'),
  *('SAMPLE_MESH_TENSOR', 'DVAL_MESH_TENSOR', 'BATCH_ROWS', 'ROW_LENGTH'),
  *('MICROBATCHES', 'MAX_STEPS', 'DVAL_EVERY', 'DVAL_PROBLEMS'),
)
# Read before anything is derived.
_CONTEXT = (
  *('RUN_DIR', 'BASE_CHECKPOINT_PATH', 'VOCABULARY', 'INPUT', 'TOPOLOGY'),
  *('SLICES', 'SAMPLE_TOPOLOGY', 'WORKERS', 'TASKS', 'EVAL_TASKS'),
  *('CHECKPOINTS', 'INPUT_TEST', 'MANUAL_DIR', 'ATTENTION'),
)
_MODEL_FIELDS = 'architecture.DecoderConfig.'
# What 'auto' means follows from the devices (architecture.attention_on) or the
# executor (dval_places.py), and a run may go on with others.
_OF_THE_LAUNCH = ('ATTENTION', 'DVAL_GRADING')


@dataclasses.dataclass
class Automatic:
  """The dials of a run that are derived.

  Attributes:
    stage: a plan, a key of gin_parser.STAGES.
    gin_files: of the user.
    bindings: of the user's command line.
    search_paths: of the user.
    entries: what is derived: name to its text in automatic.gin.
    context: the dials that others are derived from, as they are set.
  """

  stage: str
  gin_files: Sequence[str]
  bindings: Sequence[str]
  search_paths: Sequence[str]
  entries: dict[str, str] = dataclasses.field(default_factory=dict)
  context: dict[str, Any] = dataclasses.field(default_factory=dict)
  _work: tuple[sizes.Asked, sizes.Prompts, str] | None = None

  def __post_init__(self):
    self.context = self._macros(_CONTEXT)
    self._asked = [
      name
      for name, value in self._bound().items()
      if value == repr(AUTO) and name.isupper() and name not in _OF_THE_LAUNCH
    ]
    standing = automatic_file.read(self._file) if self._file else {}
    self.entries = {
      name: text
      for name, text in standing.items()
      if name in self._asked
      or (name.startswith(_MODEL_FIELDS) and 'MODEL' in self._asked)
    }

  @contextlib.contextmanager
  def readable(self) -> Iterator[list[str]]:
    """The gin files to read now: automatic.gin may not be written yet."""
    with tempfile.TemporaryDirectory() as folder:
      file = os.path.join(folder, automatic_file.FILE)
      with open(file, 'w') as stream:
        stream.write(automatic_file.text(self.entries))
      yield [*self.gin_files, file]

  @property
  def files(self) -> list[str]:
    """The gin files to read: the user's, and automatic.gin behind them."""
    if not self.entries:
      return list(self.gin_files)
    return [*self.gin_files, str(self._file)]

  @property
  def remaining(self) -> list[str]:
    """The user's bindings, less those of 'auto' that automatic.gin answers.

    A binding of the command line would override that file.
    """
    derived = self.entries.keys() & {*self._asked}
    names = ((b, b.partition('=')[0].strip()) for b in self.bindings)
    return [binding for binding, name in names if name not in derived]

  @property
  def pending(self) -> list[str]:
    """The dials that are 'auto' and not derived yet."""
    return [name for name in self._asked if name not in self.entries]

  def devices(self, stage: str = 'train') -> machine.Machine:
    """What the run's jobs of train, or one worker of sample, will find."""
    resources = Resources(
      topology=self.context.get('TOPOLOGY'),
      slices=self.context.get('SLICES', 1),
      sample_topology=self.context.get('SAMPLE_TOPOLOGY'),
    )
    resources = resources.of_stage(stage)
    found = machine.find(resources)
    if stage == 'sample' and resources.topology is None:
      return found.shared(self.context.get('WORKERS', 1))
    return found

  def before_plan(self) -> dict[str, Dial]:
    """Derives what follows from the checkpoint and the input alone.

    Returns:
      What was derived now, by its dial.

    Raises:
      ConfigurationError: the checkpoint, or the input, is not what it must be,
        or the devices have not the kernel that ATTENTION names.
    """
    asked = self.context.get('ATTENTION')
    if asked in ('splash', 'cudnn'):
      architecture.require_kernel(self.devices().kind, asked)
    wanted = [name for name in self.pending if name in own_defaults.BEFORE_PLAN]
    if not wanted:
      return {}
    found = own_defaults.before_plan(
      wanted,
      checkpoint=self._checkpoint(),
      vocabulary=self.context.get('VOCABULARY'),
      source=self.context.get('INPUT'),
      find_machine=self.devices,
    )
    self._add(found)
    return found

  def asked(self) -> sizes.Asked:
    """The dials that sizes are derived from, checked.

    Raises:
      ConfigurationError: a value is wrong, or LORA_TARGETS matches nothing.
    """
    with self.readable() as files:
      _, bound = gin_parser.parse(
        'sizes',
        gin_files=files,
        bindings=self.remaining,
        search_paths=self.search_paths,
      )
    asked = sizes.sizes(**bound)
    return dataclasses.replace(asked, derives_remat='MODEL' in self._asked)

  def after_prepare(self) -> dict[str, Dial]:
    """Derives what follows from the prepared problems too.

    Returns:
      What was derived now, by its dial.

    Raises:
      ConfigurationError: the model does not fit into the devices' memory, or
        prompts into the model.
    """
    if not self.pending:
      return {}
    asked, prompts = self.asked(), self.prompts()
    sizes.require_room(asked, prompts)
    found = derived_sizes.derive(
      *(asked, prompts, self.devices('sample'), self.devices())
    )
    self._work = asked, prompts, found['REMAT'].value
    return self.take(found)

  def take(self, found: Mapping[str, Dial]) -> dict[str, Dial]:
    """Binds those of derived dials that are open; returns them."""
    fields = {}
    if 'MODEL' in self._asked:
      fields = {
        f'{_MODEL_FIELDS}{field}': found[field.upper()]
        for field in ('remat', 'decode_loop')
        if field.upper() in found
      }
    taken = {n: dial for n, dial in found.items() if n in self.pending}
    self._add(taken | fields)
    return taken | fields

  def needs(self) -> estimates.Needs | None:
    """What the run will need; None where nothing was derived by this launch.

    Raises:
      ConfigurationError: sizes that were set by hand do not fit into memory.
    """
    if self._work is None:
      return None
    with self.readable() as files:
      dials = gin_parser.macros(
        'sizes',
        [*_DIALS_OF_NEEDS, 'NUM_ITERATIONS'],
        gin_files=files,
        bindings=self.remaining,
        search_paths=self.search_paths,
      )
    asked, prompts, remat = self._work
    iterations = dials.pop('NUM_ITERATIONS', 0)
    devices = estimates.Devices(
      self.devices('sample'), self.devices(), self.context.get('WORKERS', 1)
    )
    found = estimates.of_run(
      asked,
      prompts,
      devices,
      dials,
      remat=remat,
      iterations=iterations,
      cores=len(os.sched_getaffinity(0)),
    )
    estimates.require_memory(found, devices, dials, trains=iterations > 0)
    return found

  def write(self) -> None:
    """Writes automatic.gin, where anything is derived."""
    if self.entries and self._file:
      storage.write_bytes(
        self._file, automatic_file.text(self.entries).encode()
      )

  # ---- reading --------------------------------------------------------------

  @property
  def _file(self) -> storage.Path | None:
    run_dir = self.context.get('RUN_DIR')
    return storage.path(run_dir) / automatic_file.FILE if run_dir else None

  def _checkpoint(self) -> str | None:
    """What describes the run's one network."""
    evaluated = self.context.get('CHECKPOINTS') or [None]
    first, *_ = (
      evaluated.values() if isinstance(evaluated, Mapping) else evaluated
    )
    return self.context.get('BASE_CHECKPOINT_PATH') or first

  def _macros(self, names: Sequence[str]) -> dict[str, Any]:
    return gin_parser.macros(
      self.stage,
      names,
      gin_files=self.gin_files,
      bindings=self.bindings,
      search_paths=self.search_paths,
    )

  def _bound(self) -> Mapping[str, str]:
    """The text of every binding; those of the command line too."""
    gin_parser.read(
      self.stage,
      gin_files=self.gin_files,
      bindings=self.bindings,
      search_paths=self.search_paths,
    )
    return gin_parser.bindings()

  def prompts(self) -> sizes.Prompts:
    """The lengths of all prepared prompts of the run.

    Raises:
      ConfigurationError: they are not prepared yet.
    """
    trained, tested = self.context['TASKS'], self.context.get('EVAL_TASKS', ())
    if self.stage == 'batch':  # its TASKS are evaluated, and nothing trains
      trained, tested = (), trained
    return prompt_lengths.read(self.context['RUN_DIR'], trained, tested)

  def _add(self, found: Mapping[str, Dial]) -> None:
    for name, dial in found.items():
      self.entries[name] = automatic_file.entry(name, dial)
