"""Your own problems: a JSONL file, no Python.

    {"id": "17", "question": "...", "answer": "42"}
    {"id": "18", "question": "...", "tests": ["assert f(2) == 4"]}
    optional: "solution" (a human one), "level", "type"

`tests` are for the grader 'program' (or your own that reads them), in one of
the forms of rewards.code.code_problems.own.

An answer in GSM8K's form, "some reasoning ... #### 42", is recognised: 42 is
the answer, the text a human solution. Without an id, the line number is one.
A bad row is left out, counted and listed by its line; a file with mostly bad
rows is refused.
"""

import dataclasses
import re

from rest_jax.config.configuration import operational
from rest_jax.tasks import jsonl_rows, problem_sets, splits
from rest_jax.tasks.problem_sets import DVAL, TEST, TRAIN

IN_TEST = 'the question is a test question too'


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonlConfig(problem_sets.TaskConfig):
  """A task from a JSONL file.

  Attributes:
    name: the task's name; letters, digits, _ and -.
    input: the problems; D_val (and the test set) are carved from them.
    input_test: test problems; None: carved from `input`.
    dval_share: share of the problems of `input` that becomes D_val.
    test_share: share that becomes the test set, where input_test is None.
    max_train: E-step problems at most, a seeded choice; 0: all.
    max_dval: problems of D_val at most; 0: all.
    max_test: test problems at most; 0: all.
    exemplars: ids of the few-shot prompt's problems; (): a seeded choice.
  """

  name: str = 'own'
  input: str | None = operational(None)
  input_test: str | None = operational(None)
  dval_share: float = 0.1
  test_share: float = 0.1
  max_train: int = 0
  max_dval: int = 0
  max_test: int = 0
  exemplars: tuple[str, ...] = ()

  def check(self):
    super().check()
    ok = re.fullmatch(r'[A-Za-z0-9_-]+', self.name)
    self.require(bool(ok), 'name', 'letters, digits, _ and -')
    self.require(
      bool(self.input),
      'input',
      'the path of your problems: --gin.INPUT=problems.jsonl (for rest-jax '
      'prepare also --input=problems.jsonl)',
    )
    for name in ('dval_share', 'test_share'):
      self.require(0 < getattr(self, name) < 1, name, 'between 0 and 1')
    ok = self.dval_share + self.test_share < 1
    self.require(ok, 'test_share', 'below 1 - dval_share')
    for name in ('max_train', 'max_dval', 'max_test'):
      self.require(getattr(self, name) >= 0, name, '>= 0 (0: all)')
    if self.exemplars:
      same = len(self.exemplars) == self.num_shots
      self.require(same, 'exemplars', f'() or num_shots = {self.num_shots} ids')

  def _more(self, split: str) -> str:
    share = f'raise {split}_share (now {getattr(self, f"{split}_share")})'
    return f', {"set INPUT_TEST, " if split == "test" else ""}or {share}'

  def folders(self):
    return [(self.name, split) for split in (TRAIN, DVAL, TEST)]

  def inputs(self):
    digests = {'input_sha256': jsonl_rows.sha256(self.input)}
    if self.input_test:
      digests['input_test_sha256'] = jsonl_rows.sha256(self.input_test)
    return digests

  def read(self, seed: int) -> problem_sets.TaskTexts:
    rows, skipped = jsonl_rows.read_rows(self.input, self.grader)
    num_read = {TRAIN: len(rows) + sum(map(len, skipped.values()))}
    if self.input_test:
      test, test_skipped = jsonl_rows.read_rows(self.input_test, self.grader)
      num_read[TEST] = len(test) + sum(map(len, test_skipped.values()))
      rest = rows
    else:
      rest, test = splits.carve(rows, TEST, self.test_share, seed)
      test_skipped = {}
    kept = splits.without(rest, test)
    if len(kept) < len(rest):
      keys = {row.key for row in kept}
      skipped[IN_TEST] = [row.key for row in rest if row.key not in keys]
    exemplars = splits.exemplars(
      kept,
      self.num_shots,
      keys=self.exemplars,
      seed=seed,
      where=f'{type(self).__name__}.exemplars: in {self.input}',
    )
    kept = splits.without(kept, exemplars)
    train, dval = splits.carve(kept, DVAL, self.dval_share, seed)
    return problem_sets.TaskTexts(
      sets=[
        splits.problem_set(
          self.name,
          split,
          rows,
          most=most,
          seed=seed,
          skipped=bad,
          advice=advice,
          num_read=num_read.get(split, 0),
        )
        for split, rows, most, bad, advice in (
          (TRAIN, train, self.max_train, skipped, ', or a smaller NUM_SHOTS'),
          (DVAL, dval, self.max_dval, {}, self._more('dval')),
          (TEST, test, self.max_test, test_skipped, self._more('test')),
        )
      ],
      exemplars=exemplars,
    )
