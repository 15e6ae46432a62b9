"""HTML: escaping, tables, figures, and one page that needs nothing else.

Whatever comes from a model or a data set goes through `escape`. The page has
no external resource; its content security policy allows its own style and its
own script (by hash) and nothing else, so that text which slipped through could
still not run.
"""

import base64
import hashlib
import html
import importlib.resources
import re
from collections.abc import Iterable, Sequence

# Control characters, and those that reorder or hide the text around them
# (Unicode TR 36, bidirectional controls; zero-width characters).
_INVISIBLE = re.compile(
  '[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e'
  '\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]'
)


def visible(text: str) -> str:
  """`text` with each control or reordering character named: <U+202E>."""
  return _INVISIBLE.sub(lambda m: f'\u27e8U+{ord(m.group()):04X}\u27e9', text)


def escape(value: object) -> str:
  """Any value as text that is safe in an element and in an attribute."""
  return html.escape(visible(str(value)), quote=True)


def section(name: str, title: str, *body: str) -> str:
  """A section with a heading that the navigation links to."""
  return (
    f'<section id="{name}" aria-labelledby="{name}-h">'
    f'<h2 id="{name}-h">{escape(title)}</h2>{"".join(body)}</section>'
  )


def paragraph(text: str, kind: str = '') -> str:
  """A paragraph of plain text."""
  attribute = f' class="{kind}"' if kind else ''
  return f'<p{attribute}>{escape(text)}</p>'


def absent(text: str) -> str:
  """The sentence that stands where a figure cannot be."""
  return paragraph(text, 'absent')


def table(
  caption: str,
  header: Sequence[str],
  rows: Iterable[Sequence[object]],
  *,
  total: bool = False,
) -> str:
  """A table; each row's first cell is its heading.

  Args:
    caption, header, rows: plain text.
    total: whether the last row is one of all others.
  """
  head = ''.join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
  body = []
  for first, *rest in rows:
    cells = ''.join(f'<td>{escape(cell)}</td>' for cell in rest)
    body.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
  kind = ' class="totalled"' if total else ''
  return (
    '<div class="scroll" tabindex="0" role="region" '
    f'aria-label="{escape(caption)}"><table{kind}><caption>{escape(caption)}'
    f'</caption><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody>'
    '</table></div>'
  )


def folded(summary: str, *body: str) -> str:
  """Content behind a line to click on."""
  return (
    f'<details><summary>{escape(summary)}</summary>{"".join(body)}</details>'
  )


def panel(caption: str, small: str, chart: str, legend: str = '') -> str:
  """One chart with what it shows above it."""
  return (
    f'<figure><figcaption>{escape(caption)}<small>{escape(small)}</small>'
    f'</figcaption>{chart}{legend}</figure>'
  )


def panels(charts: Sequence[str]) -> str:
  """Charts side by side where there is room."""
  return f'<div class="panels">{"".join(charts)}</div>'


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
  """The whole document.

  Args:
    title, subtitle: plain text.
    sections: made by `section`; their ids and titles become the navigation.
  """
  style, script = _template('page.css'), _template('page.js')
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  policy = (
    "default-src 'none'; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
  )
  links = []
  for text in sections:
    found = re.match(r'<section id="([^"]+)".*?<h2 [^>]*>(.*?)</h2>', text)
    name = re.sub(r'^Figure \d+: ', '', found.group(2))
    links.append(f'<li><a href="#{found.group(1)}">{name}</a></li>')
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<meta name="color-scheme" content="light dark">'
    f'<title>{escape(title)}</title><style>{style}</style></head><body>'
    '<a class="skip" href="#main">Skip to the content</a>'
    f'<header><h1>{escape(title)}</h1>{paragraph(subtitle, "quiet")}'
    f'<nav aria-label="Sections"><ul>{"".join(links)}</ul></nav></header>'
    f'<main id="main">{"".join(sections)}</main>'
    f'<script>{script}</script></body></html>\n'
  )


def _template(name: str) -> str:
  folder = importlib.resources.files('rest_jax.reporting') / 'templates'
  return (folder / name).read_text(encoding='utf-8')
