"""Small problems of our own, written in the layouts of the published sets.

`write(layout, folder, splits)` puts tables of any set into a folder; `archive`
packs a folder as the published archives are packed.
"""

import csv
import gzip
import io
import json
import pathlib
import tarfile
import zipfile

import pyarrow as pa
from pyarrow import parquet

MATH = {
  'train': [
    {
      'problem': 'What is $1+1$?',
      'level': 'Level 1',
      'type': 'Algebra',
      'solution': 'Not $\\boxed{}$ but\n\n$1+1=\\boxed{2}.$',
    },
    {
      'problem': 'Halve one. ',
      'level': 'Level ?',
      'type': 'Counting & Probability',
      'solution': 'It is $\\boxed{\\frac{1}{2}}$.',
    },
  ],
  'test': [
    {
      'problem': 'Solve $x=3é$.',
      'level': 'Level 5',
      'type': 'Algebra',
      'solution': '$\\boxed{3}$',
    },
  ],
}
APPS_STDIN = {
  'problem_id': 7,
  'question': 'Print twice the number.\r\n\r\n',
  'solutions': json.dumps(['', '  n = int(input())\r\n  print(2 * n)\r\n']),
  'input_output': json.dumps({'inputs': ['2\n'], 'outputs': ['4\n']}),
  'difficulty': 'introductory',
  'url': 'https://example.com/7',
  'starter_code': '',
}
APPS_CALLS = {
  'problem_id': 12,
  'question': 'Add one.',
  'solutions': json.dumps(['def up(x):\n    return x + 1\n']),
  'input_output': json.dumps(
    {'fn_name': 'up', 'inputs': [[1]], 'outputs': [2]}
  ),
  'difficulty': 'interview',
  'url': 'https://example.com/12',
  'starter_code': '\ndef up(x):\n    ',
}
APPS = {'train': [APPS_CALLS, APPS_STDIN], 'test': [APPS_STDIN]}
GSM8K = {
  'train': [
    {
      'question': 'Ann has 3 pens and buys 4. How many? ',
      'answer': 'She has 3+4=<<3+4=7>>7 pens.\n#### 7',
    }
  ],
  'test': [{'question': 'Two times 600?', 'answer': 'It is 1200.\n#### 1,200'}],
}
HUMANEVAL = {
  'test': [
    {
      'task_id': f'HumanEval/{number}',
      'prompt': f'def plus{number}(x):\n    """Adds {number}."""\n',
      'entry_point': f'plus{number}',
      'canonical_solution': f'    return x + {number}\n',
      'test': f'def check(candidate):\n    assert candidate(1) == {1 + number}'
      '\n',
    }
    for number in (0, 10)
  ]
}
MBPP_ROWS = [
  {
    'task_id': number,
    'text': f'Write a function to add {number}.',
    'code': f'def add{number}(x):\r\n\treturn x + {number}',
    'test_list': [f'assert add{number}(0) == {number}'],
    'test_setup_code': '',
    'challenge_test_list': [],
  }
  for number in (10, 11, 510, 511, 600, 601, 974)
]
MATH500 = {
  'test': [
    {
      'problem': 'Solve $x=3é$.',
      'solution': '$\\boxed{3}$',
      'answer': '3',
      'subject': 'Algebra',
      'level': 5,
      'unique_id': 'test/algebra/1.json',
    }
  ]
}
EXAM = {
  'test': [
    {'problem': 'Draw a circle.', 'idx': 0, 'solution': ''},
    {'problem': 'Draw it again. ', 'idx': 1, 'solution': ''},
  ]
}
_CANARY = 'A canary stands here.\n-----\n'
_STEP = "A: Let's think step by step."
# One file's reasoning goes on behind the sentence, as in the published set.
BBH_PROMPTS = {
  'counting': _CANARY
  + 'Count the things.\n\n'
  + '\n\n'.join(
    f'Q: How many in {number} bags?\nOptions:\n(A) {number}\n{_STEP}\n'
    f'One each.\n\nThat is {number}. So the answer is (A).'
    for number in (1, 2, 3)
  ),
  'liking': _CANARY
  + 'Say whether it is so.\n\n'
  + '\n\n'.join(
    f'Q: Is {number} odd?\n{_STEP} It may be. So the answer is {word}.'
    for number, word in ((1, 'yes'), (2, 'no'), (3, 'yes'))
  ),
}
BBH_PROBLEMS = {
  'counting': [{'input': 'How many in 9 bags?', 'target': '(A)'}],
  'liking': [
    {'input': 'Is 4 odd?', 'target': 'no'},
    {'input': 'Is 5 odd?', 'target': 'yes'},
  ],
}


def write(layout: str, folder: pathlib.Path, splits: dict) -> None:
  """Writes tables: one of the names in TABLES."""
  for split, rows in splits.items():
    for name, part in _names(layout, split, rows):
      target = folder / name
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes(_encode(name, part))


def _names(layout, split, rows):
  if layout == 'shards':  # as the hub writes large tables
    for number, row in enumerate(rows):
      yield f'data/{split}-{number:05d}-of-{len(rows):05d}.parquet', [row]
  elif layout == 'converted':  # as the hub converts other formats
    yield f'default/{split}/0000.parquet', rows
  elif layout == 'nested':
    yield f'data/{split}.jsonl', rows
  else:
    yield f'{split}.{layout}', rows


TABLES = (
  'jsonl',
  'jsonl.gz',
  'json',
  'parquet',
  'shards',
  'nested',
)


def _encode(name: str, rows: list[dict]) -> bytes:
  if name.endswith('.parquet'):
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()
  if name.endswith('.csv'):
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
  if name.endswith('.json'):
    return json.dumps(rows, ensure_ascii=False).encode()
  lines = ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  data = lines.encode()
  return gzip.compress(data) if name.endswith('.gz') else data


def write_math_folders(folder: pathlib.Path) -> None:
  """A file for each problem, as MATH.tar has them."""
  for split, rows in MATH.items():
    for number, row in enumerate(rows):
      subject = row['type'].lower().replace(' & ', '_and_')
      target = folder / 'MATH' / split / subject / f'{number}.json'
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_text(json.dumps(row))


def write_apps_folders(folder: pathlib.Path) -> None:
  """A folder for each problem, as APPS.tar.gz has them."""
  for split, rows in APPS.items():
    for row in rows:
      target = folder / 'APPS' / split / f'{row["problem_id"]:04d}'
      target.mkdir(parents=True)
      (target / 'question.txt').write_bytes(row['question'].encode())
      (target / 'solutions.json').write_text(row['solutions'])
      (target / 'input_output.json').write_text(row['input_output'])
      metadata = {'difficulty': row['difficulty'], 'url': row['url']}
      (target / 'metadata.json').write_text(json.dumps(metadata))
      if row['starter_code']:
        (target / 'starter_code.py').write_text(row['starter_code'])


def write_bbh(folder: pathlib.Path) -> None:
  """bbh/*.json and cot-prompts/*.txt, and what else lies beside them."""
  for name in ('bbh', 'cot-prompts'):
    (folder / name).mkdir(parents=True, exist_ok=True)
  (folder / 'README.md').write_text('read me')
  for subtask, rows in BBH_PROBLEMS.items():
    data = {'canary': 'here', 'examples': rows}
    (folder / 'bbh' / f'{subtask}.json').write_text(json.dumps(data))
  for subtask, prompt in BBH_PROMPTS.items():
    (folder / 'cot-prompts' / f'{subtask}.txt').write_text(prompt)


def archive(folder: pathlib.Path, target: pathlib.Path, outer='') -> None:
  """Packs the files of a folder, within a folder `outer` if that is named."""
  files = sorted(path for path in folder.rglob('*') if path.is_file())
  names = [outer + str(path.relative_to(folder)) for path in files]
  if target.suffix == '.zip':
    with zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED) as packed:
      for path, name in zip(files, names, strict=True):
        packed.write(path, name)
    return
  mode = 'w' if target.suffix == '.tar' else 'w:gz'
  with tarfile.open(target, mode) as packed:
    for path, name in zip(files, names, strict=True):
      packed.add(path, name)
