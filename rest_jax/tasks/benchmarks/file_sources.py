"""The files of a published data set: in a folder, or in an archive.

An archive is read where it is and never unpacked, so that nothing in it can be
written to the disk. An archive with paths that lead out of it ('../x') is
refused nevertheless. File names are relative, with '/', and without the folder
that GitHub puts around a repository (`NAME-main/`).
"""

import contextlib
import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import BinaryIO

from rest_jax.artifacts import storage
from rest_jax.config import configuration

MAX_DEPTH = 4  # folders below the one that is named
MAX_FILES = 200_000
ARCHIVES = ('.tar', '.tar.gz', '.tgz', '.zip')
# What the readers of the standard library raise for a truncated or overwritten
# file.
DAMAGE = (
  EOFError,
  gzip.BadGzipFile,
  tarfile.TarError,
  zipfile.BadZipFile,
  zlib.error,
)
_OUTER = re.compile(r'^[\w.+-]+-(?:main|master)/')
_FILE, _LINK = 'file', 'link'


class NotFoundError(configuration.ConfigurationError):
  """No file of the data set was found."""


class Source:
  """Files that are read by name.

  Attributes:
    where: the folder or archive, for messages.
    names: of its files, sorted.
    links: names of the links in an archive, which are never followed.
  """

  where: str
  names: tuple[str, ...]
  links: tuple[str, ...] = ()

  def path(self, name: str) -> str:
    """The path of the file, or of the archive that holds it."""
    raise NotImplementedError

  def open(self, name: str) -> BinaryIO:
    """Opens a file for reading bytes; the caller closes it."""
    raise NotImplementedError

  def stream(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of these files, in the order that is fastest to read."""
    raise NotImplementedError


class Folder(Source):
  """The files of a folder, and of those within it."""

  def __init__(self, where: str, files: Mapping[str, storage.PathLike]):
    """Args:
    where: what to call it in messages.
    files: name to path.
    """
    self.where = where
    self._files = {
      inner: storage.path(files[name])
      for inner, name in _without_outer(files).items()
    }
    self.names = tuple(sorted(self._files))

  def path(self, name: str) -> str:
    return str(self._files[name])

  def open(self, name: str) -> BinaryIO:
    return self._files[name].open('rb')

  def stream(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    for name in sorted(names):
      yield name, self._files[name].read_bytes()


class Archive(Source):
  """The files of a .tar, .tar.gz or .zip, read without unpacking it."""

  def __init__(self, path: storage.PathLike, name: str):
    """Args:
    path: of the archive.
    name: of its file; the ending tells the format.
    """
    self.where = str(path)
    self.name = name
    self._path = storage.path(path)
    self._is_zip = name.endswith('.zip')
    members, links = [], []
    with damage(self.where), self._path.open('rb') as file:
      for member, kind in (_zip if self._is_zip else _tar)(file):
        self._check(member)
        if kind == _LINK:
          links.append(member)
        elif kind == _FILE and _is_visible(member):
          members.append(member)
    self._members = _without_outer(members)
    self.names = tuple(sorted(self._members))
    self.links = tuple(links)

  def path(self, name: str) -> str:
    return self.where

  def open(self, name: str) -> BinaryIO:
    return io.BytesIO(dict(self.stream([name]))[name])

  def stream(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    wanted = {self._members[name]: name for name in names}
    with damage(self.where), self._path.open('rb') as file:
      if self._is_zip:
        with zipfile.ZipFile(file) as archive:
          for member, name in wanted.items():
            yield name, archive.read(member)
        return
      # A tar has no index: one pass from the beginning finds all members.
      with tarfile.open(fileobj=file) as archive:
        for member in archive:
          if member.isreg() and member.name in wanted:
            yield wanted[member.name], archive.extractfile(member).read()

  def _check(self, name: str) -> None:
    if name.startswith('/') or '..' in name.split('/') or '\\' in name:
      raise configuration.ConfigurationError(
        f'{self.where}: it holds {name!r}, a path that leads out of it; the '
        'published archives hold none. Nothing was unpacked. Download it again '
        'from where it is published.'
      )


@contextlib.contextmanager
def damage(where: str) -> Iterator[None]:
  """Turns what a damaged file raises into a ConfigurationError.

  Args:
    where: the file, for the message.
  """
  try:
    yield
  except DAMAGE as error:
    raise configuration.ConfigurationError(
      f'{where}: truncated or damaged ({type(error).__name__}: {error}). '
      'Download it again.'
    ) from error


def folder(path: storage.PathLike) -> Folder:
  """The files in a folder and its subfolders, hidden ones left out.

  Args:
    path: local or gs://.

  Raises:
    NotFoundError: the folder is missing or empty.
    ConfigurationError: it holds more than MAX_FILES files.
  """
  root = storage.path(path).expanduser()
  if not root.is_dir():
    raise NotFoundError(f'{root}: no such folder.')
  found = dict(_walk(root))
  if not found:
    raise NotFoundError(f'{root}: the folder is empty.')
  return Folder(str(root), found)


def _walk(root: storage.Path) -> Iterator[tuple[str, storage.Path]]:
  """(name, path) of the files down to MAX_DEPTH folders."""
  stack, count = [(root, '', MAX_DEPTH)], 0
  while stack:
    parent, prefix, depth = stack.pop()
    for entry in parent.iterdir():
      name = f'{prefix}{entry.name}'
      if not _is_visible(entry.name):
        continue
      if entry.is_dir():
        if depth:
          stack.append((entry, f'{name}/', depth - 1))
        continue
      count += 1
      if count > MAX_FILES:
        raise configuration.ConfigurationError(
          f'{root}: more than {MAX_FILES} files. Name the folder of the one '
          'data set.'
        )
      yield name, entry


def _zip(file: BinaryIO) -> Iterator[tuple[str, str]]:
  """(name, kind) of all members."""
  with zipfile.ZipFile(file) as archive:
    for member in archive.infolist():
      is_link = member.external_attr >> 28 == 0o12  # S_IFLNK of its mode
      kind = _LINK if is_link else '' if member.is_dir() else _FILE
      yield member.filename, kind


def _tar(file: BinaryIO) -> Iterator[tuple[str, str]]:
  """(name, kind) of all members."""
  with tarfile.open(fileobj=file) as archive:
    for member in archive:
      is_link = member.issym() or member.islnk()
      yield member.name, _LINK if is_link else _FILE if member.isreg() else ''


def _is_visible(name: str) -> bool:
  parts = name.removeprefix('./').split('/')
  return not any(part.startswith(('.', '__MACOSX')) for part in parts)


def _without_outer(names: Iterable[str]) -> dict[str, str]:
  """Name without the folder around the repository, to the name as it is."""
  # Sorted so that of a file inside and one outside of that folder, which get
  # the same name, the one outside wins.
  names = sorted(names, key=lambda name: _OUTER.match(name) is None)
  return {
    _OUTER.sub('', name.removeprefix('./'), count=1): name for name in names
  }
