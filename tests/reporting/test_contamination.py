"""The report's section on contamination, behind the real stages."""

import json
import os

import pytest

from rest_jax import prepare, report, select_examples
from rest_jax.artifacts import manifests, storage
from rest_jax.reporting import run_data, run_reader
from rest_jax.tasks import jsonl

WORDS = ' '.join(f'w{i}' for i in range(20))


@pytest.fixture
def run(tmp_path):
  """A run up to the SFT baseline's select; its test set is in its problems."""
  rows = [
    {
      'id': f't{i}',
      'question': f'{" ".join(f"{i}x{j}" for j in range(15))}?',
      'solution': f'{WORDS} and so {i}' if i % 2 else 'as one sees',
      'answer': i,
    }
    for i in range(60)
  ]
  test = [{'id': 'a', 'question': f'{WORDS} again', 'answer': 1}]
  test += [{'id': 'b', 'question': 'and what of this one', 'answer': 1}]
  for name, some in (('train', rows), ('test', test)):
    text = '\n'.join(json.dumps(row) for row in some)
    (tmp_path / f'{name}.jsonl').write_text(text)

  def run(name='run', **fields):
    folder = tmp_path / name
    task = jsonl.JsonlConfig(
      name='t',
      input=str(tmp_path / 'train.jsonl'),
      input_test=str(tmp_path / 'test.jsonl'),
      vocabulary='bytes',
      num_shots=0,
    )
    prepare.prepare(run_dir=str(folder), tasks=[task], seed=0, **fields)
    select_examples.select(
      select_from='human',
      problems_dirs=[str(folder / 'problems/t/train')],
      samples_dirs=[],
      verdicts_dirs=[],
      examples_dir=str(folder / 'sft_human/examples'),
      eval_problems_dirs=[str(folder / 'problems/t/test')],
      config=select_examples.SelectionConfig(),
      **fields,
    )
    report.report(run_dir=str(folder))
    return folder

  return run


def page_of(folder):
  return (storage.path(folder) / 'report/index.html').read_text()


def section_of(folder):
  _, found, text = page_of(folder).partition('<section id="contamination"')
  text = text.partition('</section>')[0].replace('\u00a0', ' ')
  return text if found else None


def test_the_numbers_of_prepare_and_of_select_are_in_the_page(run):
  folder = run()
  text = section_of(folder)
  pairs = storage.read_json(folder / 'problems/overlap.json')['pairs']
  (pair,) = [
    p
    for p in pairs
    if (p['training_set'], p['evaluated_set']) == ('t/train', 't/test')
  ]
  statistics = manifests.load(folder / 'sft_human/examples').statistics
  kept = statistics['overlap']['found']['t/test']
  assert pair['shared'] == kept['shared'] == 1
  assert 10 < pair['training_shared'] < pair['training']
  for found in (pair, kept):
    cell = f'<td>{found["training_shared"]} of {found["training"]}</td>'
    assert cell in text
  assert text.count('<td>1 (50.00%)</td>') == 4  # shared, half covered
  assert 'SFT on human solutions' in text and '13 tokens' in text
  for one in (*pair['examples'], *kept['examples']):
    assert one['id'] in text and one['with'] in text
  assert '<a href="#contamination">Contamination</a>' in page_of(folder)


def test_the_section_is_absent_where_nothing_was_compared(run):
  assert section_of(run(overlap_ngram=0)) is None


def test_the_report_is_made_again_when_the_comparison_was(run):
  folder = run()
  assert '13 tokens' in section_of(folder)
  run(overlap_ngram=9)
  assert '9 tokens' in section_of(folder)
  assert '13 tokens' not in section_of(folder)


def test_the_problems_are_found_behind_the_vocabularys_manifest(run):
  folder = run()
  found = run_reader.find(folder)
  sets = {f'problems/t/{split}' for split in ('train', 'dval', 'test')}
  assert sets <= set(found) and 'problems' in found


def test_ids_are_shown_as_text():
  hostile = '</td><script>alert(1)</script>\u202e'
  example = {'coverage': 0.5, 'same_question': True, 'id': 'e', 'with': hostile}
  pair = {'training_set': hostile, 'evaluated_set': 'e', 'examples': [example]}
  counts = ('training', 'training_shared', 'problems', 'shared')
  pair |= dict.fromkeys((*counts, 'half_covered', 'same_question'), 1)
  run = run_data.Run(name='r', overlap={'ngram': 13, 'pairs': [pair]})
  text = report.render(run, {}, [], {'resamples': 10, 'seed': 0})
  text = text.partition('<section id="contamination"')[2]
  text = text.partition('</section>')[0]
  assert '<script>' not in text and '\u202e' not in text
  assert text.count('&lt;script&gt;') == 2 and '<td>yes</td>' in text


def test_a_report_in_a_bucket_reads_the_comparison_there(bucket, run):
  folder = run()
  for root, _, names in os.walk(folder):
    for name in names:
      if not name.endswith('.lease'):
        source = os.path.join(root, name)
        target = f'{bucket}/run/{os.path.relpath(source, folder)}'
        with open(source, 'rb') as file:
          storage.write_bytes(target, file.read())
  (storage.path(bucket) / 'run/report/index.html').unlink()
  report.report(run_dir=f'{bucket}/run')
  assert section_of(f'{bucket}/run') == section_of(folder)
