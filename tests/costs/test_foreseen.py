"""What preflight takes a run to be, before there is one."""

import statistics

import pytest
import tiny_run

from rest_jax.config import configuration
from rest_jax.costs import foreseen

LLAMA = ['models/llama3_8b.gin']


def parsed(*bindings, gin_files=LLAMA):
  function, bound = foreseen.parse(
    gin_files=gin_files, bindings=bindings, search_paths=[]
  )
  assert function.__name__ == 'preflight'
  return bound


def test_lengths_are_assumed_where_no_problems_are_prepared():
  bound = parsed(
    *('PREFLIGHT_TRAIN_PROBLEMS=1000', 'PREFLIGHT_EVAL_PROBLEMS=300'),
    *('PREFLIGHT_PREFIX=500', 'PREFLIGHT_QUESTION=80', 'DVAL_SHARE=0.2'),
  )
  ahead = bound['foreseen']
  assert '1000 training and 300 test problems' in ahead.assumed
  assert len(ahead.prompts.train) == 800
  assert len(ahead.prompts.evaluated) == 200 + 300
  assert ahead.dval_problems == 200
  assert ahead.prompts.shared == 500
  # Of 800 draws with a standard deviation of 0.8 x the mean: 4 s.
  own = statistics.fmean(ahead.prompts.train) - 500
  assert own == pytest.approx(80, rel=0.12)


def test_a_small_context_shortens_what_is_assumed():
  bound = parsed('MAX_DECODE_LENGTH=64', gin_files=['models/tiny.gin'])
  longest = bound['model'].max_length - 64
  assert bound['foreseen'].prompts.longest <= longest


def test_prepared_problems_are_counted_instead(tmp_path):
  for split in ('train', 'dval', 'test'):
    tiny_run.problems(
      tmp_path / 'problems' / 't' / split,
      {f'{split}{i}': f'Q{i}:' for i in range(9)},
    )
  bound = parsed(
    *(f'RUN_DIR={tmp_path}', 'TASKS=[t]', 'EVAL_TASKS=[t]'),
  )
  ahead = bound['foreseen']
  assert ahead.assumed == ''
  assert len(ahead.prompts.train) == 9 and len(ahead.prompts.evaluated) == 18
  assert ahead.dval_problems == 9


def test_workers_are_the_smallest_slices_of_whole_hosts_that_sample():
  bound = parsed('PREFLIGHT_TOPOLOGY=v5e:16x16')
  ahead = bound['foreseen']
  assert (str(ahead.worker), ahead.workers) == ('v5e:2x2', 64)
  # 15 GiB of weights; a chip has 16. Two hold a copy, four sample faster.
  assert bound['sample_mesh'].tensor == 4
  assert bound['config'].batch_rows % 256 == 0


def test_what_is_set_is_taken_at_its_word():
  bound = parsed(
    *('SAMPLE_TOPOLOGY=v5e:2x4', 'WORKERS=3', 'GROUPS=16', 'BATCH_ROWS=512'),
  )
  ahead = bound['foreseen']
  assert (str(ahead.worker), ahead.workers) == ('v5e:2x4', 3)
  assert bound['engine'].groups == 16 and bound['config'].batch_rows == 512
  assert 'GROUPS' not in ahead.dials and 'LANES' in ahead.dials


def test_what_the_launcher_would_refuse_to_train_is_compiled_all_the_same():
  """The compiler has the last word; the launcher's sentence is told."""
  one_chip = ('PREFLIGHT_TOPOLOGY=v5e:2x2', "PREFLIGHT_PROGRAMS=['train']")
  bound = parsed(*one_chip)
  assert bound['foreseen'].refused.startswith('training: 8.03 G parameters')
  assert bound['config'].microbatches == 1
  fits = parsed("PREFLIGHT_PROGRAMS=['train']")
  assert fits['foreseen'].refused == ''
  # Where memory is short, rows have no room for a second problem.
  assert bound['config'].row_length < fits['config'].row_length


def test_a_model_that_no_worker_holds_can_still_be_trained():
  large = ['models/llama3_70b.gin']
  with pytest.raises(configuration.ConfigurationError) as refused:
    parsed(gin_files=large)
  assert 'sampling: 70.55 G parameters' in str(refused.value)
  # It names the dial of the next line.
  assert 'PREFLIGHT_PROGRAMS="[\'train\']"' in str(refused.value)
  bound = parsed("PREFLIGHT_PROGRAMS=['train']", gin_files=large)
  assert bound['programs'] == ('train',)
  assert bound['config'].batch_rows >= 256
