"""The plan is Algorithm 1: who follows whom, from what, into which folder."""

import dataclasses
import re

import pytest

from rest_jax import rest_em
from rest_jax.config import configuration
from rest_jax.executors import jobs, ledger


def plan(**changes):
  arguments = {
    'run_dir': 'R',
    'num_iterations': 2,
    'tasks': ['t'],
    'eval_tasks': ['t', 'u/dval'],
    'eval_streams': ['eval/greedy', 'eval/sampled'],
    'sft_baseline': True,
    'difficulty_samples': 4,
  }
  return {job.name: job for job in rest_em.plan(**(arguments | changes))}


def binding(job, name):
  values = [
    a.partition('=')[2] for a in job.arguments if a.startswith(f'--gin.{name}=')
  ]
  assert len(values) == 1, (job.name, name)
  return values[0]


BESIDE = jobs.Resources(dval_grading='beside')
SETTINGS = [
  {},
  {'num_iterations': 0},
  {'base_checkpoint_path': '/models/x.gguf'},
  {'init_from': 'previous', 'num_iterations': 4},
  {'sft_baseline': False, 'difficulty_samples': 0},
  {'tasks': ['t', 'v'], 'eval_tasks': ['t']},
  {'resources': BESIDE},
]


@pytest.mark.parametrize('changes', SETTINGS)
def test_every_input_is_written_by_a_job_that_is_needed_and_comes_before(
  changes,
):
  made, seen = {}, set()
  for job in plan(**changes).values():
    assert set(job.needs) <= seen
    for folder in job.inputs:
      if folder.startswith('R/'):
        assert made[folder] in job.needs, (job.name, folder)
      else:
        assert folder == changes['base_checkpoint_path']
    if job.serves:  # it makes verdicts for the job that waits for them
      assert not job.outputs
      continue
    for folder in job.outputs:
      assert folder not in made, f'{folder} is written twice'
      made[folder] = job.name
    assert job.name not in seen
    seen.add(job.name)
  assert job.name == 'report' and set(job.needs) == seen - {'report'}


@pytest.mark.parametrize('changes', SETTINGS)
def test_every_folder_that_a_job_is_told_of_is_its_input_or_output(changes):
  for job in plan(**changes).values():
    told = {
      folder
      for argument in job.arguments
      for folder in re.findall(r'R/[\w/]+', argument)
      # evaluate only shows the policy's name.
      if not (job.stage == 'evaluate' and 'POLICY_DIR' in argument)
    }
    known = {*job.inputs, *job.outputs}
    # A folder of several tasks' verdicts stands for those in it.
    assert all(any(k.startswith(folder) for k in known) for folder in told)


def test_the_m_step_starts_from_the_base_and_the_e_step_from_the_last_policy():
  made = plan(num_iterations=3)
  for i in (1, 2, 3):
    train = made[f'iteration_{i:02d}/train']
    assert binding(train, 'INIT_PATH') == 'R/base/checkpoints'
    policy = binding(made[f'iteration_{i:02d}/sample'], 'POLICY_DIR')
    previous = 'base' if i == 1 else f'iteration_{i - 1:02d}'
    assert policy == f'R/{previous}/checkpoints'
  made = plan(num_iterations=3, init_from='previous')
  starts = [
    binding(made[f'iteration_{i:02d}/train'], 'INIT_PATH') for i in (1, 2, 3)
  ]
  assert starts == [
    'R/base/checkpoints',
    'R/iteration_01/checkpoints',
    'R/iteration_02/checkpoints',
  ]


def test_a_given_base_checkpoint_is_neither_pretrained_nor_written():
  made = plan(base_checkpoint_path='/m/x.gguf')
  assert 'base/train' not in made
  for name in ('base/sample_eval', 'base/sample_difficulty'):
    assert binding(made[name], 'POLICY_DIR') == '/m/x.gguf'
  assert binding(made['iteration_01/sample'], 'POLICY_DIR') == '/m/x.gguf'
  assert binding(made['sft_human/train'], 'INIT_PATH') == '/m/x.gguf'
  assert 'R/base/examples' not in made['prepare'].outputs


def test_only_base_and_final_model_are_sampled_for_pass_at_k():
  made = plan(num_iterations=3)
  sampled = {
    name: binding(job, 'STREAMS').count('eval/sampled')
    for name, job in made.items()
    if name.endswith('/sample_eval')
  }
  assert sampled == {
    'base/sample_eval': 2,
    'sft_human/sample_eval': 0,
    'iteration_01/sample_eval': 0,
    'iteration_02/sample_eval': 0,
    'iteration_03/sample_eval': 2,
  }


def test_training_reads_neither_test_problems_nor_human_solutions_but_for_sft():
  for name, job in plan().items():
    if name.endswith('/train') or name == 'iteration_01/sample':
      assert not any(folder.endswith('/test') for folder in job.inputs)
    if name.endswith('/select'):
      # It compares what it has kept with them: in the statistics alone.
      for argument in job.arguments:
        told = argument.startswith('--gin.EVAL_PROBLEMS_DIRS=')
        assert ('/test' in argument) == told, argument
      source = binding(job, 'SELECT_FROM')
      assert source == ('human' if name == 'sft_human/select' else 'samples')


def test_select_compares_with_every_evaluated_set():
  for name, job in plan(tasks=['t', 'v']).items():
    if name.endswith('/select'):
      told = "['R/problems/t/test', 'R/problems/u/dval']"
      assert binding(job, 'EVAL_PROBLEMS_DIRS') == told


def test_dval_is_never_sampled_by_the_e_step():
  for name, job in plan(eval_tasks=['t']).items():
    if job.stage in ('sample', 'select'):
      assert not any(folder.endswith('/dval') for folder in job.inputs), name


def test_sft_and_the_loop_are_trained_alike():
  made = plan()
  sft, first = made['sft_human/train'], made['iteration_01/train']

  def without_names(job):
    own = ('MODEL_NAME', 'ITERATION', 'EXAMPLES_DIR', 'CHECKPOINTS_DIR')
    return [
      a
      for a in job.arguments
      if not a.startswith(tuple(f'--gin.{name}=' for name in own))
    ]

  assert without_names(sft) == without_names(first)


def test_parallel_lists_name_the_same_task_at_each_place():
  job = plan(tasks=['t', 'v'])['iteration_01/sample']
  assert binding(job, 'PROBLEMS_DIRS') == (
    "['R/problems/t/train', 'R/problems/v/train']"
  )
  assert binding(job, 'SAMPLES_DIRS') == (
    "['R/iteration_01/samples/t', 'R/iteration_01/samples/v']"
  )
  assert binding(job, 'STREAMS') == "['e_step', 'e_step']"


def test_growing_the_number_of_iterations_keeps_all_earlier_jobs():
  small, large = plan(num_iterations=1), plan(num_iterations=2)
  small.pop('report')
  final = {'iteration_01/sample_eval', 'iteration_01/score_eval'}
  for name in set(small) - final - {'iteration_01/evaluate'}:
    assert small[name] == large[name]
  # What was drawn for the once final model stays where it was.
  for name in final:
    assert set(large[name].outputs) < set(small[name].outputs)


def test_only_sampling_and_training_ask_for_the_accelerator():
  resources = jobs.Resources(topology='v5litepod-16', slices=2)
  for job in plan(resources=resources).values():
    if job.stage in ('sample', 'train'):
      got = (job.accelerator, job.topology, job.slices)
      assert got == ('tpu', 'v5e:4x4', 2)
    else:
      assert (job.accelerator, job.topology) == ('cpu', None)


def test_until_keeps_what_the_job_needs_and_nothing_else():
  made = tuple(plan().values())
  names = [job.name for job in jobs.until(made, 'iteration_01/select')]
  assert names == [
    'prepare',
    'base/train',
    'base/sample_difficulty',
    'base/score_difficulty',
    'iteration_01/sample',
    'iteration_01/score',
    'iteration_01/select',
  ]
  whole = {job.name for job in jobs.until(made, 'iteration_01')}
  assert {n for n in plan() if n.startswith('iteration_01/')} < whole
  with pytest.raises(configuration.ConfigurationError, match='iteration_01/se'):
    jobs.until(made, 'iteration_1/select')


@pytest.mark.parametrize('grading', ['auto', 'here', 'beside'])
def test_each_m_step_with_dval_is_served_where_it_is_graded_beside(grading):
  made = plan(resources=jobs.Resources(dval_grading=grading))
  served = {job.follows[0]: job for job in made.values() if job.serves}
  validated = {*('sft_human/train', 'iteration_01/train', 'iteration_02/train')}
  assert set(served) == (validated if grading == 'beside' else set())
  for name in validated:
    told = binding(made[name], 'DVAL_GRADING')
    assert told == ('beside' if name in served else 'here')
  for name, job in served.items():
    assert name in job.needs and job.accelerator == 'cpu'
    for dial in ('CHECKPOINTS_DIR', 'DVAL_DIRS'):
      assert binding(job, dial) == binding(made[name], dial)
  assert binding(made['base/train'], 'DVAL_GRADING') == 'here'


def test_until_keeps_what_serves_a_job_that_it_keeps():
  made = tuple(plan(resources=BESIDE).values())
  names = [job.name for job in jobs.until(made, 'iteration_01/train')]
  assert names[-2:] == ['iteration_01/train', 'iteration_01/grade_dval']
  assert not any(name.startswith('sft_human') for name in names)
  names = [job.name for job in jobs.until(made, 'iteration_02/select')]
  assert 'iteration_01/grade_dval' in names
  assert 'iteration_02/grade_dval' not in names


def test_a_finished_m_step_is_not_started_again_for_where_it_was_graded():
  bindings = {'DVAL_GRADING': "'auto'", 'DVAL_EVERY': '5'}
  configured = ledger.Configuration(bindings=bindings, others=[])
  digests = [
    configured.digest(
      plan(resources=jobs.Resources(dval_grading=grading))[
        'iteration_01/train'
      ],
      'R',
    )
    for grading in ('here', 'beside')
  ]
  assert digests[0] == digests[1]
  other = dataclasses.replace(
    configured, bindings=bindings | {'DVAL_EVERY': '6'}
  )
  assert other.digest(plan()['iteration_01/train'], 'R') != digests[0]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'num_iterations': -1}, 'NUM_ITERATIONS'),
    ({'tasks': []}, 'TASKS'),
    ({'eval_tasks': ['t', 't/test']}, 'EVAL_TASKS'),
    ({'eval_streams': ['greedy']}, 'EVAL_STREAMS'),
    ({'init_from': 'last'}, 'init_from'),
    ({'tasks': 't'}, 'tasks'),
  ],
)
def test_an_impossible_plan_is_refused(changes, message):
  with pytest.raises(configuration.ConfigurationError, match=message):
    plan(**changes)


def test_a_plan_is_a_pure_function_of_its_arguments():
  assert plan() == plan()
  assert all(
    dataclasses.is_dataclass(job) and hash(job) for job in plan().values()
  )
