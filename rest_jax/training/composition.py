"""Which examples lie in one row: bin packing.

Rows of a training are composed once, before its first step (packing.py).
"""

from collections.abc import Sequence

_OPEN_ROWS = 128  # how many rows are tried for an item
# Items whose largest come first: small ones fill what those leave. Rows of 4096
# tokens that share prompts, as of MATH, are 97 % full so, and 92 % without.
_TOGETHER = 256


def first_fit(
  order: Sequence[int], places: Sequence[int], row_length: int
) -> list[list[int]]:
  """Puts each example in the first of the open rows that has room.

  Args:
    order: examples, as they come; of each _TOGETHER of them the largest come
      first.
    places: what each takes.
    row_length: what a row has.
  """
  rows: list[list[int]] = []
  opened: list[int] = []  # numbers of open rows
  room: list[int] = []  # and what they have left
  by_size = (
    example
    for first in range(0, len(order), _TOGETHER)
    for example in sorted(
      order[first : first + _TOGETHER], key=lambda example: -places[example]
    )
  )
  for example in by_size:
    need = places[example]
    for slot, left in enumerate(room):
      if left >= need:
        rows[opened[slot]].append(example)
        room[slot] = left - need
        break
    else:
      if len(opened) == _OPEN_ROWS:
        fullest = room.index(min(room))
        del opened[fullest], room[fullest]
      opened.append(len(rows))
      room.append(row_length - need)
      rows.append([example])
  return rows
