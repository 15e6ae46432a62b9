"""gcsfs for gs://, whose requests wait for a store that is away.

storage.py has fsspec take it, and with it everything that opens gs:// paths by
fsspec or epath: this package, Orbax and jax's compilation cache.
"""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from gcsfs import core

from rest_jax.artifacts import held_folders, store_patience

# It shows a traceback of its own each time before it raises.
logging.getLogger('gcsfs').setLevel(logging.CRITICAL)


# Not gcsfs' default, which asks each bucket by gRPC whether it is of a kind
# that needs other calls.
class PatientFiles(core.GCSFileSystem):
  """See store_patience.py; raises its errors too."""

  async def _request(self, method: str, path: str, *args, **kwargs) -> Any:
    ask = super()._request
    return await _patiently(
      _place(self._format_path(path, args)),
      lambda: ask(method, path, *args, **kwargs),
      writes=method.upper() != 'GET',
    )

  async def _get_file_request(self, rpath: str, *args, **kwargs) -> Any:
    ask = super()._get_file_request
    return await _patiently(
      _place(self.url(rpath)), lambda: ask(rpath, *args, **kwargs), writes=False
    )


async def _patiently(
  place: str, ask: Callable[[], Awaitable[Any]], *, writes: bool
) -> Any:
  """store_patience.patiently, in the loop of gcsfs.

  Args:
    place: what is asked about, gs://….
    ask: makes the request.
    writes: whether it changes anything. Then it is made again only while this
      process still holds its folders: another may have taken them over, and
      may have done what was asked for.
  """
  while True:
    began = time.time()
    try:
      result = await ask()
    except Exception as error:
      store_patience.failed(place, began, error)
      await asyncio.sleep(store_patience.AGAIN_SECONDS)
      if writes:
        await _in_a_thread(held_folders.check_all)
      continue
    store_patience.answered(place)
    return result


def _place(url: str) -> str:
  found = re.search(r'/b/([^/?]+)', url)
  return f'gs://{found[1]}' if found else url


async def _in_a_thread(work: Callable[[], None]) -> None:
  """Has a thread do what would stop the loop; the process need not await it."""
  loop = asyncio.get_running_loop()
  done = loop.create_future()

  def run() -> None:
    error = None
    try:
      work()
    except Exception as raised:
      error = raised
    loop.call_soon_threadsafe(end, error)

  def end(error: Exception | None) -> None:
    if done.cancelled():
      return
    if error is None:
      done.set_result(None)
    else:
      done.set_exception(error)

  threading.Thread(target=run, daemon=True).start()
  await done
