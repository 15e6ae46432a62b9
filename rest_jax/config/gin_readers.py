"""Opens gin files, local ones and those on a store.

A run on gs:// has its automatic.gin there, and jobs on other machines read a
user's own gin files from there.
"""

import os
import re
from typing import IO

_ON_A_STORE = re.compile(r'\w+://')


def is_file(path: str) -> bool:
  """Whether there is such a file."""
  if not _ON_A_STORE.match(path):
    return os.path.isfile(path)
  return _store(path).isfile(path)


def opened(path: str) -> IO[str]:
  """A file's text, as `open` gives it."""
  if not _ON_A_STORE.match(path):
    return open(path)
  return _store(path).open(path, 'r')


def _store(path: str):
  """Imported only where it is used: most files are local ones."""
  import fsspec

  # Another process may have written the file a moment ago.
  return fsspec.filesystem(path.partition('://')[0], use_listings_cache=False)
