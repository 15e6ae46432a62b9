"""Messages between a launcher and a work unit: JSON, a line each, by a socket.

of the unit         {"unit": N}          first of all: which it is
                    {"line": TEXT}       of the stage's output
                    {"say": TEXT}        for the person who watches
                    {"ended": CODE, "out_of_memory": BOOL,
                     "leaves": BOOL}     whether it takes no more attempts
                    {"refused": TEXT}    a ConfigurationError of the executor
of the launcher     {"executor": NAME, "settings": {…}, "run_dir": PATH}
                    {"start": ORDER}     an attempt
                    {"do": WHAT}         stop, kill, release: executor.Task
"""

import json
import socket
from typing import Any

Message = dict[str, Any]


class Connection:
  """One end of it.

  Attributes:
    is_open: whether the other end is there.
  """

  def __init__(self, end: socket.socket):
    self.socket, self.is_open = end, True
    self._rest = b''

  def send(self, message: Message) -> None:
    """Sends a message; nothing where the other end has gone."""
    try:
      self.socket.setblocking(True)
      self.socket.sendall(json.dumps(message).encode() + b'\n')
    except OSError:
      self.is_open = False

  def receive(self) -> list[Message]:
    """The messages that have arrived, without waiting for any."""
    self.socket.setblocking(False)
    while self.is_open:
      try:
        data = self.socket.recv(65536)
      except BlockingIOError:
        break
      except OSError:
        data = b''
      self.is_open = bool(data)
      self._rest += data
    *lines, self._rest = self._rest.split(b'\n')
    return [json.loads(line) for line in lines]
