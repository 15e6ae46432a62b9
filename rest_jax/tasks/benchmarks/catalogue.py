"""The published tasks of the paper, one row each.

A row says what a task is made of: its data, prompt, exemplars and grader.
published_files.py reads the files of the data set; integrations/seqio/
registers the task with SeqIO and turns it into a run's problems.

Exemplars of the few-shot prompt are named by their keys, so that no text of a
data set is copied here. Those of MATH are the four of Lewkowycz et al. 2022
(Minerva), which are training problems, with the data set's own solutions.
"""

import difflib
from collections.abc import Mapping

from rest_jax.config import configuration
from rest_jax.tasks.benchmarks.published_task import Benchmark
from rest_jax.tasks.prompts import PromptTemplate

_MATH_TEMPLATE = PromptTemplate(
  question='Problem:\n{question}\n\nSolution:',
  solution=' {solution}',
  separator='\n\n',
  stop=('\nProblem:',),  # not the separator: solutions have empty lines
)
_BBH_FILES = 'bbh/*.json and cot-prompts/*.txt, as in the repository'
_BBH_COUNTS = {'prompts': 81, 'test': 6511}
_MATH_EXEMPLARS = (
  '88e5ad20fa27',
  '8dab2730ad83',
  'b85bc186b2da',
  '7d564506cdbc',
)
# The stop sequences of Chen et al. 2021, section 2.1: each of them begins a new
# statement behind the finished function.
_CODE_STOP = ('\nclass', '\ndef', '\n#', '\nif', '\nprint')
_GITHUB = 'https://raw.githubusercontent.com'

CATALOGUE: Mapping[str, Benchmark] = {
  row.name: row
  for row in (
    Benchmark(
      name='math',
      title='MATH (Hendrycks et al. 2021, arXiv 2103.03874)',
      licence='MIT',
      homepage='https://github.com/hendrycks/math',
      files='MATH/{train,test}/<subject>/<number>.json as in MATH.tar; or '
      'train.jsonl and test.jsonl, or train*.parquet and test*.parquet (also '
      'one pair per subject), with problem, level, type and solution, such as '
      'EleutherAI/hendrycks_math on the Hugging Face hub',
      urls={'MATH.tar': 'https://people.eecs.berkeley.edu/~hendrycks/MATH.tar'},
      counts={'train': 7500, 'test': 5000},
      grader='math',
      template=_MATH_TEMPLATE,
      num_shots=4,
      exemplars=_MATH_EXEMPLARS,
      trainable=True,
    ),
    Benchmark(
      name='math500',
      title='MATH-500 (Lightman et al. 2023, arXiv 2305.20050): 500 of the '
      '5,000 test problems of MATH',
      licence='MIT',
      homepage='https://github.com/openai/prm800k',
      files='test.jsonl, math500.jsonl, or test*.parquet, with problem, '
      'answer, subject, level, solution, such as HuggingFaceH4/MATH-500 on '
      'the Hugging Face hub',
      urls={
        'test.jsonl': 'https://huggingface.co/datasets/HuggingFaceH4/MATH-500/'
        'resolve/main/test.jsonl'
      },
      counts={'test': 500},
      grader='math',
      template=_MATH_TEMPLATE,
      num_shots=4,
      exemplars=_MATH_EXEMPLARS,
      exemplars_from='math',
    ),
    Benchmark(
      name='apps',
      title='APPS (Hendrycks et al. 2021, arXiv 2105.09938)',
      licence='MIT',
      homepage='https://github.com/hendrycks/apps',
      files='APPS/{train,test}/<number>/{question.txt, input_output.json, '
      'solutions.json, metadata.json, starter_code.py} as in APPS.tar.gz; or '
      'train.jsonl and test.jsonl (codeparrot/apps on the Hugging Face hub)',
      urls={
        'APPS.tar.gz': 'https://people.eecs.berkeley.edu/~hendrycks/APPS.tar.gz'
      },
      counts={'train': 5000, 'test': 5000},
      grader='program',
      template=PromptTemplate(
        question='QUESTION:\n{question}\n\nANSWER:\n',
        solution='{solution}',
        separator='\n\n\n',
        stop=('\nQUESTION:',),
      ),
      num_shots=2,
      exemplars=('2366', '2403'),
      trainable=True,
    ),
    Benchmark(
      name='gsm8k',
      title='GSM8K (Cobbe et al. 2021, arXiv 2110.14168)',
      licence='MIT',
      homepage='https://github.com/openai/grade-school-math',
      files='train.jsonl and test.jsonl with question and answer; or '
      'train*.parquet and test*.parquet (openai/gsm8k, folder main, on the '
      'Hugging Face hub)',
      urls={
        f'{split}.jsonl': f'{_GITHUB}/openai/grade-school-math/master/'
        f'grade_school_math/data/{split}.jsonl'
        for split in ('train', 'test')
      },
      counts={'train': 7473, 'test': 1319},
      grader='gsm8k',
      template=PromptTemplate(stop=('\n\nQ:',)),
      num_shots=8,
      # Chosen because they are short: two to four steps.
      exemplars=(
        '001b8d495644',
        '0052676c7828',
        '00591be81fb3',
        '007cac6f3d67',
        '009066f19f9d',
        '00c19d9f514a',
        '00c29ee45b70',
        '00f985f7164e',
      ),
      trainable=True,
    ),
    Benchmark(
      name='humaneval',
      title='HumanEval (Chen et al. 2021, arXiv 2107.03374)',
      licence='MIT',
      homepage='https://github.com/openai/human-eval',
      files='HumanEval.jsonl.gz (or HumanEval.jsonl, or test*.parquet)',
      urls={
        'HumanEval.jsonl.gz': f'{_GITHUB}/openai/human-eval/master/data/'
        'HumanEval.jsonl.gz'
      },
      counts={'test': 164},
      grader='program',
      template=PromptTemplate(
        question='{question}',
        solution='{solution}',
        separator='\n\n\n',
        stop=_CODE_STOP,
      ),
      num_shots=0,
    ),
    Benchmark(
      name='mbpp',
      title='MBPP (Austin et al. 2021, arXiv 2108.07732)',
      licence='CC-BY-4.0',
      homepage='https://github.com/google-research/google-research/tree/'
      'master/mbpp',
      files='mbpp.jsonl, or {prompt,train,validation,test}*.parquet '
      '(google-research-datasets/mbpp, folder full, on the Hugging Face hub)',
      urls={
        'mbpp.jsonl': f'{_GITHUB}/google-research/google-research/master/mbpp/'
        'mbpp.jsonl'
      },
      # By task_id: 1-10, 11-510, 511-600, 601-974 (its README).
      counts={'prompt': 10, 'test': 500, 'validation': 90, 'train': 374},
      grader='program',
      template=PromptTemplate(
        lead='',
        question='You are an expert Python programmer, and here is your task: '
        '{question}\n[BEGIN]\n',
        chat_question='You are an expert Python programmer, and here is your '
        'task: {question}',
        solution='{solution}',
        separator='\n[DONE]\n\n',
        stop=('\n[DONE]',),
      ),
      num_shots=3,
      exemplars=('2', '3', '4'),
      exemplars_split='prompt',
      trainable=True,
    ),
    Benchmark(
      name='bbh',
      title='BIG-Bench Hard (Suzgun et al. 2022, arXiv 2210.09261), worked '
      'step by step',
      licence='MIT; never to be trained on (its canary)',
      homepage='https://github.com/suzgunmirac/BIG-Bench-Hard',
      files=_BBH_FILES,
      urls={
        'BIG-Bench-Hard-main.zip': 'https://github.com/suzgunmirac/'
        'BIG-Bench-Hard/archive/refs/heads/main.zip'
      },
      counts=_BBH_COUNTS,
      grader='bbh',
      template=PromptTemplate(
        question="Q: {question}\nA: Let's think step by step.",
        chat_question="{question}\nLet's think step by step.",
        solution='\n{solution}',
        separator='\n\n',
        stop=('\n\nQ:',),
      ),
      num_shots=3,
      exemplars_split='prompts',
    ),
    Benchmark(
      name='bbh_direct',
      title='BIG-Bench Hard, answered directly',
      licence='MIT; never to be trained on (its canary)',
      homepage='https://github.com/suzgunmirac/BIG-Bench-Hard',
      files=_BBH_FILES,
      counts=_BBH_COUNTS,
      grader='bbh_direct',
      template=PromptTemplate(stop=('\n',)),
      num_shots=3,
      exemplars_split='prompts',
      answers_only=True,
      data='bbh',
    ),
    Benchmark(
      name='hungarian_exam',
      title='Hungarian national finals of 2023 in mathematics (Paster 2023)',
      licence='see its page',
      homepage='https://huggingface.co/datasets/keirp/'
      'hungarian_national_hs_finals_exam',
      files='test.jsonl or test*.parquet (or any one *.csv with the column '
      'Question), 33 problems; a person grades the answers',
      counts={'test': 33},
      grader='by_hand',
      template=_MATH_TEMPLATE,
      num_shots=1,
      exemplars=_MATH_EXEMPLARS[2:3],
      exemplars_from='math',
    ),
  )
}


def get(name: str) -> Benchmark:
  """The row of a task.

  Raises:
    ConfigurationError: there is no task of this name. The message names the
      nearest one.
  """
  if name in CATALOGUE:
    return CATALOGUE[name]
  near = difflib.get_close_matches(name, CATALOGUE, n=1, cutoff=0.4)
  hint = f'Nearest: {near[0]}. ' if near else ''
  raise configuration.ConfigurationError(
    f'task: got {name!r}. {hint}Published tasks: {", ".join(CATALOGUE)}.'
  )
