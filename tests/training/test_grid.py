"""What the trainings of a grid share, as it is made from examples."""

import dataclasses

import pytest
import tiny_run

from rest_jax.artifacts import manifests
from rest_jax.config import configuration
from rest_jax.training import grid


def test_ids_that_the_network_does_not_embed_are_refused(tmp_path):
  folder = tiny_run.examples(tmp_path / 'examples', [('1+1=', '2')])
  table = manifests.load(folder).table(columns=['token_ids'])
  grid._require_ids(table, tiny_run.MODEL, folder)
  small = dataclasses.replace(tiny_run.MODEL, vocab_size=tiny_run.EOS)
  with pytest.raises(configuration.ConfigurationError, match='token id 256'):
    grid._require_ids(table, small, folder)
