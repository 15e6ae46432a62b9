"""How the report writes names and numbers: one way for each kind.

The functions in FILTERS are the filters of the templates.
"""

from rest_jax.artifacts import run_paths
from rest_jax.evaluation import results

NONE = '–'  # stands where there is no value
_SPACE = '\u00a0'  # does not break an interval between two lines


def model_name(model: str) -> str:
  """A model's name for a reader, such as `iteration 3`."""
  if model == run_paths.SFT_HUMAN:
    return 'SFT on human solutions'
  iteration = run_paths.iteration_number(model)
  return model if iteration is None else f'iteration {iteration}'


def percent(value: float | None, digits: int = 1) -> str:
  """A fraction as a percentage, such as `70.0%`."""
  return NONE if value is None else f'{100 * value:.{digits}f}%'


def number(value: float | None) -> str:
  """A number that is no share: `1,921`, or four digits such as `0.006`."""
  if value is None:
    return NONE
  is_whole = value == round(value) or abs(value) >= 1000
  return f'{value:,.0f}' if is_whole else f'{value:.4g}'


def round_number(value: float | None) -> str:
  """A number that is shown without decimals, such as `1,921`."""
  return NONE if value is None else f'{value:,.0f}'


def capitalize_first(text: str) -> str:
  """With a capital first letter; the others stay as they are."""
  return text[:1].upper() + text[1:]


def reward(value: float | None, is_share: bool) -> str:
  """A mean reward: `71.0%`; or `2.500` where a reward can be above 1.

  Args:
    value: the mean; None is shown as a dash.
    is_share: whether all rewards of the run lie in 0..1, as pass rates do.
  """
  if value is None or is_share:
    return percent(value)
  return f'{value:,.3f}'


def share(part: int, whole: int) -> str:
  """A count with its share, such as `3 (0.60%)`."""
  return f'{part:,}{_SPACE}({percent(part / whole, 2)})' if part else '0'


def part_of(part: int, whole: int) -> str:
  """Such as `3 of 1,319`."""
  return f'{part:,}{_SPACE}of{_SPACE}{whole:,}'


def duration(seconds: float | None) -> str:
  """Hours, minutes and seconds, such as `1:05:09`."""
  if seconds is None:
    return NONE
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{seconds:02d}'


def interval(estimate: results.Estimate) -> str:
  """Only the interval, such as `[66.0, 74.0]`; '' where there is none."""
  if estimate.ci_low is None or estimate.ci_high is None:
    return ''
  low, high = 100 * estimate.ci_low, 100 * estimate.ci_high
  return f'[{low:.1f},{_SPACE}{high:.1f}]'


def estimated(estimate: results.Estimate | None) -> str:
  """A value with its interval, such as `70.0% [66.0, 74.0]`."""
  if estimate is None:
    return NONE
  return f'{percent(estimate.value)} {interval(estimate)}'.rstrip()


def points(fraction: float) -> str:
  """A difference in percentage points, such as `+1.5`."""
  return f'{100 * fraction:+.1f}'


def points_interval(one: results.Comparison) -> str:
  """The interval of a difference in percentage points."""
  return f'[{points(one.ci_low)},{_SPACE}{points(one.ci_high)}]'


def temperature(value: float | None) -> str:
  """A sampling temperature, such as `T = 0.7`."""
  return 'temperature not recorded' if value is None else f'T = {value:g}'


def cut(text: str, limit: int) -> str:
  """At most `limit` characters, and how many were left out."""
  if len(text) <= limit:
    return text
  return f'{text[:limit]}\u2026 [{len(text) - limit:,} characters cut]'


FILTERS = {
  function.__name__: function
  for function in (
    capitalize_first,
    cut,
    duration,
    estimated,
    interval,
    model_name,
    number,
    part_of,
    percent,
    points,
    points_interval,
    reward,
    round_number,
    share,
  )
}
