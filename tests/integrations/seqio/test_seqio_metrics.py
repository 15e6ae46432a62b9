"""SeqIO's metrics against counting by hand, through SeqIO's own evaluator."""

import itertools
import math

import numpy as np
import pytest
import seqio
import tensorflow as tf

from rest_jax.integrations.seqio import seqio_metrics
from rest_jax.integrations.seqio.seqio_vocabularies import SeqioVocabulary
from rest_jax.rewards import registry, verdicts
from rest_jax.rewards.code.program_tests import Tests

# What a model wrote, four times for each problem: (answer, completions).
WRITTEN = [
  ('\\frac{1}{2}', ['So \\boxed{0.5}.', '\\boxed{2}', '\\boxed{2}', 'hm']),
  ('7', ['\\boxed{7}', '\\boxed{7}.\nProblem: 2 \\boxed{1}', '', '\\boxed{7}']),
  ('(1,2)', ['\\boxed{3}', 'no', '\\boxed{3}', '\\boxed{(2,1)}']),
]
STOP = ['\nProblem:']


def by_hand(k):
  """(pass@k, maj@k) over all subsets of k, graded one by one."""
  passed, won = [], []
  for answer, texts in WRITTEN:
    found = [
      registry.grade(
        'math', completion=text.split(STOP[0])[0], reference=answer
      )
      for text in texts
    ]
    right = [v.outcome == verdicts.CORRECT for v in found]
    subsets = list(itertools.combinations(range(len(texts)), k))
    passed.append(np.mean([any(right[i] for i in s) for s in subsets]))
    shares = []
    for subset in subsets:
      cast = [found[i].answer for i in subset if found[i].answer is not None]
      most = max((cast.count(a) for a in cast), default=0)
      leaders = {a for a in cast if cast.count(a) == most}
      correct = {found[i].answer for i in subset if right[i]}
      shares.append(len(leaders & correct) / max(len(leaders), 1))
    won.append(np.mean(shares))
  return np.mean(passed), np.mean(won)


def dataset(split, shuffle_files, seed=None):
  return tf.data.Dataset.from_tensor_slices(
    {
      'inputs': [f'Q{i}' for i in range(len(WRITTEN))],
      'targets': ['a solution'] * len(WRITTEN),
      'answer': [answer for answer, _ in WRITTEN],
    }
  )


@pytest.fixture(scope='module')
def task():
  vocabulary = SeqioVocabulary('bytes')
  yield seqio.TaskRegistry.add(
    'test_metrics',
    source=seqio.FunctionDataSource(dataset, ['test']),
    preprocessors=[seqio.preprocessors.tokenize_and_append_eos],
    output_features={
      'inputs': seqio.Feature(vocabulary, add_eos=False),
      'targets': seqio.Feature(vocabulary),
    },
    postprocess_fn=seqio_metrics.postprocessor('math', STOP),
    metric_fns=[seqio_metrics.metric_fn('math')],
  )
  seqio.TaskRegistry.remove('test_metrics')


def evaluate(task, written):
  """seqio.Evaluator over a model that writes this: (P, N) texts, or (P,)."""
  vocabulary = task.output_features['targets'].vocabulary

  def ids(text):
    ids = [*vocabulary.encode(text), vocabulary.eos_id]
    return ids + [0] * (80 - len(ids))

  def predict(examples, model_feature_shapes=None):
    found = [
      (int(index), [ids(text) for text in written[index]])
      if isinstance(written[index], list)
      else (int(index), ids(written[index]))
      for index, _ in examples.as_numpy_iterator()
    ]
    return found[::-1]  # a model may answer in any order

  evaluator = seqio.Evaluator(
    'test_metrics',
    seqio.EncDecFeatureConverter(pack=False),
    eval_split='test',
  )
  metrics, _ = evaluator.evaluate(compute_metrics=True, predict_fn=predict)
  return metrics.result()['test_metrics']


def test_seqio_evaluator_gives_what_counting_by_hand_gives(task):
  found = evaluate(task, [texts for _, texts in WRITTEN])
  for k in (1, 2, 4):
    passed, won = by_hand(k)
    assert found[f'pass@{k}'] == pytest.approx(passed, abs=1e-12)
    if k > 1:
      assert found[f'maj@{k}'] == pytest.approx(won, abs=1e-12)
  assert found['pass@1'] == pytest.approx(4 / 12)
  assert found['maj@4'] != found['pass@4'] and 'maj@1' not in found
  rates = [found[f'rate/{name}'] for name in verdicts.OUTCOMES]
  assert sum(rates) == pytest.approx(1)
  assert found['rate/no_answer'] == pytest.approx(3 / 12)


def test_one_prediction_a_target_gives_pass_at_1_alone(task):
  found = evaluate(task, [texts[0] for _, texts in WRITTEN])
  assert found['pass@1'] == pytest.approx(2 / 3)
  assert not any(name.startswith(('maj', 'pass@2')) for name in found)


def test_k_that_is_asked_for_is_given_and_too_large_a_one_is_nan():
  fn = seqio_metrics.metric_fn('number', pass_at=[2, 8], maj_at=[2])
  found = fn(['1', '2'], [['The answer is 1.', 'x'], ['3']])
  assert found['pass@2'] == 1.0  # the second target has one prediction only
  assert math.isnan(found['pass@8']) and 'pass@1' not in found
  assert found['maj@2'] == 1.0
  with pytest.raises(ValueError):
    fn(['1', '2'], ['1'])


def test_programs_are_graded_by_their_tests_in_the_sandbox():
  tests = Tests.stdin(['1 2\n', '5 6\n'], ['3\n', '11\n']).to_json()
  row = {'answer': b'', 'tests': tests.encode()}
  postprocess = seqio_metrics.postprocessor('program', ['\nQUESTION:'])
  right = 'print(sum(map(int, input().split())))'
  written = postprocess(
    [f'{right}\nQUESTION: more', 'print(3)', 'x ='],
    example=row,
    is_target=False,
  )
  target = postprocess('', example=row, is_target=True)
  found = seqio_metrics.metric_fn('program', num_workers=1)([target], [written])
  assert found['pass@1'] == pytest.approx(1 / 3) and found['pass@3'] == 1.0
  assert found['rate/wrong'] == found['rate/crashed'] == pytest.approx(1 / 3)
  assert not any(name.startswith('maj') for name in found)  # nothing to vote on
