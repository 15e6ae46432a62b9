"""The report page: Jinja templates filled with a run.

Completions of a model are untrusted text. Every value that a template prints
is escaped (Jinja autoescape), and its control characters are made visible. The
page loads nothing from outside. Its content security policy allows its own
style and its own script, which is named by its hash, so that markup in a
completion could not run even if it were not escaped.

templates/page.html.jinja is the document, macros.html.jinja and
charts.html.jinja are what its sections share, and every section has a template
of its name.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import jinja2
import markupsafe

from rest_jax.artifacts import run_paths
from rest_jax.reporting import formatting, table_csv

# Control characters, and those that reorder or hide the text around them
# (Unicode TR 36, bidirectional controls; zero-width characters).
_INVISIBLE = re.compile(
  '[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e'
  '\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]'
)


def visible(value: Any) -> Any:
  """A text with its control characters named, such as `⟨U+202E⟩`.

  Args:
    value: any value; markup that a template made is returned as it is.
  """
  if isinstance(value, markupsafe.Markup):
    return value
  return _INVISIBLE.sub(
    lambda found: f'\u27e8U+{ord(found.group()):04X}\u27e9', str(value)
  )


def render(sections: Mapping[str, str], **values: Any) -> str:
  """The whole document, one file that needs nothing else.

  Args:
    sections: {name: title} in the order of the page; `name` is the id of the
      section and its template is name.html.jinja.
    **values: what the templates show: title, lead, perhaps facts, and what the
      sections need. live: the digest of the state that a served page shows;
      a page without it is complete in itself.
  """
  script = _source('page.js')
  digest = hashlib.sha256(script.encode()).digest()
  return _ENVIRONMENT.get_template('page.html.jinja').render(
    {'live': None, 'facts': ()},
    sections=sections,
    style=markupsafe.Markup(_source('page.css')),
    script=markupsafe.Markup(script),
    script_hash=base64.b64encode(digest).decode(),
    BASE=run_paths.BASE,
    SFT_HUMAN=run_paths.SFT_HUMAN,
    **values,
  )


def render_macro(template: str, name: str, *arguments: Any) -> str:
  """The HTML that one macro of a template gives."""
  module = _ENVIRONMENT.get_template(f'{template}.html.jinja').module
  return str(getattr(module, name)(*arguments))


def _source(name: str) -> str:
  text, _, _ = _ENVIRONMENT.loader.get_source(_ENVIRONMENT, name)
  return text


_ENVIRONMENT = jinja2.Environment(
  loader=jinja2.PackageLoader('rest_jax.reporting', 'templates'),
  autoescape=True,
  finalize=visible,
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(
  formatting.FILTERS,
  csv_link=table_csv.csv_link,
  csv_name=table_csv.csv_name,
)
_ENVIRONMENT.globals.update(zip=zip)
