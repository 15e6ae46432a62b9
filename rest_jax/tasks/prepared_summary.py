"""What the stage prepare tells of the problems that it wrote, line by line."""

from collections.abc import Sequence

from rest_jax.artifacts import manifests, progress_lines, task_card
from rest_jax.tasks import problem_sets

_SHOWN_LINES, _SHOWN_CHARACTERS = 24, 160  # of a prompt, on the terminal


def prompts(done: Sequence[manifests.Manifest]) -> list[str]:
  """Lines that show the prompt of one problem of each task."""
  lines, tasks = [], set()
  for manifest in done:
    card = task_card.of(manifest)
    if card.task in tasks or not card.shown_prompt:
      continue
    tasks.add(card.task)
    text = card.shown_prompt.split('\n')
    if len(text) > _SHOWN_LINES:
      half = _SHOWN_LINES // 2
      left_out = f'… {len(text) - 2 * half} lines left out …'
      text = [*text[:half], left_out, *text[-half:]]
    stop = f', or at {", ".join(map(repr, card.stop))}' if card.stop else ''
    lines.append(f'the prompt of {card.shown_problem}, as the model sees it:')
    lines += [f'  | {line[:_SHOWN_CHARACTERS]}' for line in text]
    lines.append(f'  a completion ends at the token {card.eos_id}{stop}')
  return [progress_lines.show(line) for line in lines]


def _left_out(manifest: manifests.Manifest) -> str | None:
  """A warning that names the rows which became no problem, or None."""
  card, statistics = task_card.of(manifest), manifest.statistics
  number = sum(card.skipped.values())
  if not number:
    return None
  reasons = []
  for reason, count in card.skipped.items():
    places = list(statistics['skipped_rows'].get(reason, ()))
    if places and all(place.startswith('line ') for place in places):
      places = [place.removeprefix('line ') for place in places]
      places[0] = f'{"line" if count == 1 else "lines"} {places[0]}'
    more = [f'{count - len(places)} more'] if count > len(places) else []
    reasons.append(f'{", ".join([*places, *more])}: {reason}')
  total = statistics.get('num_read') or card.num_problems + number
  return progress_lines.warning(
    f'{number} of {total} rows left out ({"; ".join(reasons)}), of '
    f'{card.task}/{card.split}'
  )


def counts(
  done: Sequence[manifests.Manifest],
  corpus: manifests.Manifest | None,
  vocab_size: int,
) -> list[str]:
  """Lines that say what was left out, and one with all counts.

  Args:
    done: the finished folders of problems.
    corpus: the finished pretraining corpus, if there is one.
    vocab_size: ids of the run's vocabulary.
  """
  lines, counts = [], []
  for manifest in done:
    card = task_card.of(manifest)
    name = f'{card.task}/{card.split}'
    counts.append(f'{name} {card.num_problems}')
    lines += filter(None, [_left_out(manifest)])
    shots, asked = (
      manifest.statistics[key] for key in ('num_shots', 'num_shots_asked')
    )
    if shots < asked and card.split == problem_sets.TRAIN:
      lines.append(
        f'{name}: {shots} exemplars in the few-shot prompt, not {asked}: no '
        'other problem of the input has a solution'
      )
  longest = max(m.statistics['longest_prompt'] for m in done)
  text = f'prepare: {", ".join(counts)}; longest prompt {longest} tokens'
  if corpus is not None:
    numbers = corpus.statistics
    text += (
      f'; corpus {numbers["num_documents"]} documents, '
      f'{numbers["num_tokens"]} tokens, longest {numbers["longest_document"]}'
    )
  return [*lines, f'{text}; vocabulary {vocab_size} ids']
