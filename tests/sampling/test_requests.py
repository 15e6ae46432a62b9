"""What the engine is told of a task's text, from the card of its problems."""

import tiny_run

from rest_jax.artifacts import manifests
from rest_jax.sampling import requests, stops


def text_of(folder, **card):
  folder = tiny_run.problems(folder, {'a': '1?'}, card=card)
  return requests.text_of(manifests.load(folder))


def test_every_id_of_the_card_ends_a_completion(tmp_path):
  """A turn that ends with another id than a document does not run on."""
  text = text_of(tmp_path / 'p', eos_id=256, eos_ids=[256, 3])
  sampled = [*b'The answer is 42.', 3, *b'user\nAnd then?']
  end = stops.find_end(
    sampled, text.decode, eos_ids=text.eos_ids, stop=text.stop
  )
  assert (end.text, end.finish_reason) == ('The answer is 42.', 'eos')
  assert end.target_length == len('The answer is 42.')


def test_a_card_from_before_several_ids_has_its_one(tmp_path):
  text = text_of(tmp_path / 'p', eos_id=256)
  assert list(text.eos_ids) == [256]
