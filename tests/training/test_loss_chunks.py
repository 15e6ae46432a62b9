"""How many targets get their scores together, by the device's memory."""

import pytest

from rest_jax.distributed import chips
from rest_jax.training import loss_chunks

LLAMA3, GEMMA, MISTRAL = 128_256, 256_128, 32_000
KINDS = sorted(chips.HBM_BYTES)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('vocabulary', [MISTRAL, LLAMA3, GEMMA])
@pytest.mark.parametrize('rows', [1, 2, 4])
def test_scores_take_a_small_part_of_a_tpus_memory(kind, vocabulary, rows):
  memory = chips.HBM_BYTES[kind]
  places = loss_chunks.chunk_places(rows, 4096, vocabulary, memory)
  scores = 4 * rows * places * vocabulary
  assert scores <= memory / 32 and places % 128 == 0
  # One tile more of each row would be too much.
  more = rows * (places + 128)
  assert more > 4096 or 4 * more * vocabulary > memory / 32


def test_chips_of_more_memory_take_more_targets_of_llama_3_together():
  found = [
    loss_chunks.chunk_places(1, 4096, LLAMA3, chips.HBM_BYTES[kind])
    for kind in ('TPU v5 lite', 'TPU v6 lite', 'TPU v5')
  ]
  assert found == [1024, 2048, 4096]


def test_other_devices_keep_small_chunks():
  for rows in (1, 4, 8):
    places = loss_chunks.chunk_places(rows, 4096, MISTRAL, None)
    assert rows * places == 1024
  assert 2**29 >= 4 * LLAMA3 * loss_chunks.chunk_places(1, 8192, LLAMA3, None)


@pytest.mark.parametrize('memory', [None, *chips.HBM_BYTES.values()])
def test_a_chunk_has_a_place_and_no_more_than_a_row(memory):
  assert loss_chunks.chunk_places(1, 300, MISTRAL, memory) == 300
  assert loss_chunks.chunk_places(2**14, 64, GEMMA, memory) == 1


def test_larger_chunks_are_counted_where_the_memory_is_planned():
  needed = [
    loss_chunks.held_bytes(8192, LLAMA3, 4096, 2, 256, chips.HBM_BYTES[kind])
    for kind in ('TPU v5 lite', 'TPU v6 lite')
  ]
  assert needed[1] - needed[0] == 3 * 4 * LLAMA3 * 1024
