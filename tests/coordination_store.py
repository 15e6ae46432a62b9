"""What a coordination service's client does, within one process."""

import threading


class Store:
  """Keys and values; `lost` makes every call fail, as without the service."""

  def __init__(self):
    self.values, self.changed = {}, threading.Condition()
    self.largest, self.lost = 0, False

  def _require(self):
    if self.lost:  # as jaxlib 0.10 says it
      raise RuntimeError('UNAVAILABLE: recvmsg:Connection reset by peer')

  def key_value_set(self, key, value, allow_overwrite=False):
    self._require()
    with self.changed:
      assert allow_overwrite or key not in self.values
      self.values[key] = value
      self.largest = max(self.largest, len(self.values))
      self.changed.notify_all()

  def blocking_key_value_get(self, key, timeout_ms):
    with self.changed:
      there = self.changed.wait_for(
        lambda: self.lost or key in self.values, timeout=timeout_ms / 1000
      )
      self._require()
      if not there:  # as jaxlib 0.10 says it
        raise RuntimeError(f'DEADLINE_EXCEEDED: GetKeyValue() timed out: {key}')
      return self.values[key]

  def key_value_dir_get(self, key):
    self._require()
    with self.changed:
      return [(k, v) for k, v in self.values.items() if k.startswith(key)]

  def key_value_delete(self, key):
    with self.changed:
      for k in [k for k in self.values if k.startswith(key)]:
        del self.values[k]

  def lose(self):
    """The service is gone: also those that wait are told."""
    with self.changed:
      self.lost = True
      self.changed.notify_all()
