"""Figure 4: the verdict classes of each model's samples."""

from rest_jax.reporting import charts, formatting, run_data
from rest_jax.rewards import verdicts

# The order of the segments, and the number of each one's colour.
STYLES = {
  verdicts.CORRECT: 2,
  verdicts.WRONG: 1,
  verdicts.NO_ANSWER: 4,
  verdicts.TRUNCATED: 5,
  verdicts.TIMEOUT: 3,
  verdicts.CRASHED: 7,
  verdicts.HARNESS_ERROR: 6,
  verdicts.UNGRADED: 0,
}


def outcomes(run: run_data.Run) -> list[charts.StackedBars]:
  """A chart per evaluated stream and per E-step, a bar per model."""
  groups = {}
  for model in run.models:
    for graded in run.streams_of(model):
      row = (formatting.model_name(model.name), graded.outcomes)
      groups.setdefault(_title(graded, graded.stream), []).append(row)
  for model in run.policies:
    for graded in model.e_step:
      names = map(formatting.model_name, (model.sampled_model, model.name))
      row = (', for '.join(names), graded.outcomes)
      groups.setdefault(_title(graded, 'E-step'), []).append(row)
  seen = {name for rows in groups.values() for _, one in rows for name in one}
  return [
    charts.StackedBars(
      title=title,
      detail='n is a number of samples',
      rows=rows,
      classes={name: style for name, style in STYLES.items() if name in seen},
    )
    for title, rows in groups.items()
  ]


def _title(graded: run_data.GradedStream, stream: str) -> str:
  heat = formatting.temperature(graded.temperature)
  return f'{graded.task}/{graded.split}, {stream}, {heat}'
