"""Messages between the candidate and the judge: a length, then a value.

Each side asks the other and answers what it is asked, also while it waits for
an answer: a test may hand over a function, which the candidate then calls.
"""

import os
import struct

from rest_jax.rewards.code.sandbox import codec, protocol

_MAX_MESSAGE = codec.MAX_BYTES
_LENGTH = struct.Struct('=I')


def write(data: bytes) -> None:
  """Sends one message.

  Raises:
    OSError: the other side is gone.
  """
  data = _LENGTH.pack(len(data)) + data
  while data:
    data = data[os.write(protocol.CHANNEL_FD, data) :]


def receive() -> bytes | None:
  """One message of the other side; None at its end.

  Raises:
    codec.CodecError: it announces more than is allowed.
  """
  head = _exactly(_LENGTH.size)
  if head is None:
    return None
  (length,) = _LENGTH.unpack(head)
  if length > _MAX_MESSAGE:
    raise codec.CodecError(f'a message of {length} bytes')
  return _exactly(length)


def _exactly(length: int) -> bytes | None:
  data = bytearray()
  while len(data) < length:
    part = os.read(protocol.CHANNEL_FD, min(length - len(data), 1 << 20))
    if not part:
      return None
    data += part
  return bytes(data)
