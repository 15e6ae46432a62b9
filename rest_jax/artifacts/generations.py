"""Objects of a store that are written only if nobody else has changed them.

Google Cloud Storage numbers every write of an object: its generation. A write
may state the generation that it expects to replace (0: no object yet); the
store refuses it where another one stands, in one atomic step. gcsfs has no
public call for this, so that google-cloud-storage is used.

https://cloud.google.com/storage/docs/request-preconditions
"""

import contextlib
import dataclasses
import errno
import functools
import os
from collections.abc import Iterator
from typing import Any

from rest_jax.artifacts import storage
from rest_jax.config import configuration

REQUEST_SECONDS = 10.0  # that one request may take
RETRY_SECONDS = 20.0  # for which a request is tried again while the store fails


class ChangedError(RuntimeError):
  """The object's generation is not the expected one: nothing was written."""


@dataclasses.dataclass(frozen=True)
class Version:
  """An object's content and the generation of just this content."""

  data: bytes
  generation: int


class StoreObject:
  """One object of Google Cloud Storage."""

  def __init__(self, path: storage.PathLike):
    """Names an object; nothing is read yet.

    Args:
      path: gs://BUCKET/NAME.

    Raises:
      ConfigurationError: the path is on another kind of store.
    """
    self.path = os.fspath(path)
    kind, _, rest = self.path.partition('://')
    if kind != 'gs':
      raise configuration.ConfigurationError(
        f'{self.path}: a folder that is written must be local or on gs://, '
        f'the store whose writes can exclude each other; got {kind}://.'
      )
    self._bucket, _, self._name = rest.partition('/')

  def read(self) -> Version | None:
    """The object as it is now, or None where there is none.

    Raises:
      OSError: the store does not answer, or refuses.
    """
    from google.api_core import exceptions

    try:
      with self._errors():
        blob = self._blob()
        data = blob.download_as_bytes(**_limits())
    except exceptions.NotFound:
      return None
    return Version(data, int(blob.generation))

  def write(self, data: bytes, *, replaces: int) -> int:
    """Writes the object if its generation is still `replaces`.

    Args:
      data: the content; no two writers may write the same bytes, since an
        answer that was lost is recognised by them.
      replaces: the generation that is replaced; 0: there must be no object.

    Returns:
      The new generation.

    Raises:
      ChangedError: another generation stands.
      OSError: the store does not answer, or refuses.
    """
    from google.api_core import exceptions

    try:
      with self._errors():
        blob = self._blob()
        blob.upload_from_string(data, if_generation_match=replaces, **_limits())
    except exceptions.PreconditionFailed as error:
      # The client tries again after a lost answer; then it meets its own write.
      found = self.read()
      if found is not None and found.data == data:
        return found.generation
      raise ChangedError(self.path) from error
    except exceptions.NotFound as error:
      raise configuration.ConfigurationError(
        f'{self.path}: there is no bucket {self._bucket!r}. Make it, or set '
        'RUN_DIR to a folder in a bucket that exists.'
      ) from error
    return int(blob.generation)

  def delete(self, *, generation: int) -> None:
    """Deletes the object if it has this generation still.

    Raises:
      ChangedError: it has another one, or is gone.
      OSError: the store does not answer, or refuses.
    """
    from google.api_core import exceptions

    try:
      with self._errors():
        self._blob().delete(if_generation_match=generation, **_limits())
    except (exceptions.PreconditionFailed, exceptions.NotFound) as error:
      raise ChangedError(self.path) from error

  def _blob(self) -> Any:
    return (
      _client(os.environ.get('STORAGE_EMULATOR_HOST'))
      .bucket(self._bucket)
      .blob(self._name)
    )

  @contextlib.contextmanager
  def _errors(self) -> Iterator[None]:
    """Turns the client's errors into OSError, but those that callers expect."""
    import requests
    from google.api_core import exceptions
    from google.auth import exceptions as auth_exceptions

    try:
      yield
    except (exceptions.NotFound, exceptions.PreconditionFailed):
      raise
    except auth_exceptions.DefaultCredentialsError as error:
      raise configuration.ConfigurationError(f'{self.path}: {error}') from error
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
      raise PermissionError(errno.EACCES, str(error), self.path) from error
    except (
      exceptions.GoogleAPIError,
      auth_exceptions.GoogleAuthError,
      requests.RequestException,
    ) as error:
      raise OSError(errno.EIO, str(error), self.path) from error


def _limits() -> dict[str, Any]:
  from google.cloud.storage import retry

  return {
    'timeout': REQUEST_SECONDS,
    'retry': retry.DEFAULT_RETRY.with_timeout(RETRY_SECONDS),
  }


@functools.cache
def _client(emulator: str | None) -> Any:
  """One client of the store for this process (and for an emulator's address).

  The project is not asked for: only objects are used, never buckets.
  """
  from google.cloud import storage as google_storage

  return google_storage.Client(project='none')
