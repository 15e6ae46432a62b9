"""What the tests of the embedded tasks share."""

import hashlib

from rest_jax.tasks import prompts


def corpus_of(config, number=None):
  """The problems of the first documents of a corpus; by default of all."""
  number = number or config.corpus.num_documents
  return [item for index in range(number) for item in config.document(0, index)]


def digest(config, seed, *, reference):
  """A sha256 of every problem, and of the first 100 documents.

  Args:
    config: of the task.
    seed: of the task.
    reference: the field of a problem that its grader reads.
  """
  parts = [
    repr(
      (r.key, r.question, getattr(r, reference), r.level, r.type, r.solution)
    )
    for s in config.read(seed).sets
    for r in s.rows
  ]
  parts += [
    prompts.document_text(config.prompt, page)
    for page in config.documents(seed, 0, 100)
  ]
  return hashlib.sha256('\n'.join(parts).encode()).hexdigest()


def is_near(count, rate, number):
  """Whether a count is within 5 sigma of a rate: odds of a false alarm 6e-7."""
  return abs(count - rate * number) < 5 * (number * rate * (1 - rate)) ** 0.5
