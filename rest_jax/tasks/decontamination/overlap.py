"""N-gram overlap between training texts and evaluated problems.

    index = Index({'math/test': (ids, questions)}, n=13)
    matches = Matches(index)
    matches.add(ids, questions, questions=True)
    matches.add(ids, solutions)
    matches.found('math/test')     # an Overlap

An evaluated problem is *shared* if any n consecutive tokens of its question
also occur in a training text. A question of fewer than n tokens, but at least
MIN_TOKENS, is a single gram: all of it must occur there. A question is also
shared if it is, token for token, a training question. Its *coverage* is the
fraction of its tokens that lie in shared grams. n = 13 is that of GPT-3 (Brown
et al. 2020, Appendix C); a coverage of one half is the threshold of Tulu 3
(Lambert et al. 2024). docs/decontamination.md says what this does not find.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from rest_jax.artifacts import manifests
from rest_jax.config import configuration
from rest_jax.tasks.decontamination import ngrams
from rest_jax.tasks.decontamination.overlap_results import (
  Overlap,
  SharedProblem,
)

MIN_TOKENS = 8  # GPT-3's lower bound of n, for sets of short texts
HALF = 0.5
LISTED = 10  # shared problems that are listed by id
MAX_NGRAM = 100
_TEXTS_AT_ONCE = 4096
_BITS = 22  # of a hash that index the filter, which most grams do not pass


def check(ngram: int, *, needed: bool = False) -> None:
  """Raises ConfigurationError unless `ngram` is a length, or 0 (off)."""
  if needed and not ngram:
    raise configuration.ConfigurationError(
      'DROP_OVERLAP: got True with OVERLAP_NGRAM = 0; it needs a length. Set '
      'OVERLAP_NGRAM = 13.'
    )
  if ngram and not 2 <= ngram <= MAX_NGRAM:
    raise configuration.ConfigurationError(
      f'OVERLAP_NGRAM: got {ngram}; allowed: 0 (off), or 2 to {MAX_NGRAM} '
      'tokens.'
    )


def questions(manifest: manifests.Manifest) -> tuple[list[str], list[str]]:
  """(ids, questions) of a finished set of problems."""
  table = manifest.table(columns=['id', 'question'])
  return table['id'].to_pylist(), table['question'].to_pylist()


class Index:
  """The grams of evaluated problems.

  Attributes:
    n: tokens of a gram.
    least: tokens of the shortest question that is one gram.
    names: of the sets, in order.
    ids: of all their problems, one set behind the other.
    set_of: (problems,) the set that a problem is in.
    hashes: (grams,) distinct, sorted.
    in_set: (sets, grams) whether a set has a gram.
    tokens_of: (problems,) the length of a question.
    whole: (problems,) the hash of all of a question.
  """

  def __init__(
    self, sets: Mapping[str, tuple[Sequence[str], Sequence[str]]], n: int
  ):
    """Args:
    sets: name of an evaluated set to the (ids, questions) of its problems.
    n: tokens of a gram.
    """
    self.n, self.names, self.encode = n, list(sets), ngrams.Encoder()
    self.least = min(n, MIN_TOKENS)
    self.ids = [key for ids, _ in sets.values() for key in ids]
    self.set_of = np.repeat(
      np.arange(len(sets)), [len(ids) for ids, _ in sets.values()]
    )
    grams = self.encode(text for _, texts in sets.values() for text in texts)
    self.tokens_of, self.whole = grams.lengths, grams.whole()
    hashes, starts = grams.of(n)
    short = (grams.lengths >= self.least) & (grams.lengths < n)
    short = np.flatnonzero(short)
    # All lengths of grams to look for in training texts.
    self.sizes = sorted({n, *grams.lengths[short].tolist()})
    starts = np.concatenate([starts, grams.offsets[short]])
    self._starts = starts
    self._problem_of = grams.text_of[starts]
    self._sizes = np.minimum(n, grams.lengths[self._problem_of])
    self.hashes, self._gram_of = np.unique(
      np.concatenate([hashes, self.whole[short]]), return_inverse=True
    )
    self.in_set = np.zeros((len(sets), len(self.hashes)), bool)
    self.in_set[self.set_of[self._problem_of], self._gram_of] = True
    self._filter = np.zeros(1 << _BITS, bool)
    self._filter[_low(self.hashes)] = True

  def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Looks grams up.

    Args:
      hashes: of the grams of a training text.

    Returns:
      (positions in `hashes`, grams of the index) of those that the index has.
    """
    maybe = np.flatnonzero(self._filter[_low(hashes)])
    gram = np.searchsorted(self.hashes, hashes[maybe])
    gram = np.minimum(gram, max(0, len(self.hashes) - 1))
    same = self.hashes[gram] == hashes[maybe]
    return maybe[same], gram[same]

  def coverage(self, matched: np.ndarray) -> np.ndarray:
    """The coverage of each problem.

    Args:
      matched: (grams,) whether a training text has the gram.

    Returns:
      (problems,) the fraction of the question's tokens in matched grams.
    """
    hit = matched[self._gram_of]
    total = int(self.tokens_of.sum())
    edges = np.bincount(self._starts[hit], minlength=total + 1)
    edges -= np.bincount(
      self._starts[hit] + self._sizes[hit], minlength=total + 1
    )
    covered = np.concatenate([[0], np.cumsum(np.cumsum(edges[:total]) > 0)])
    ends = np.cumsum(self.tokens_of)
    inside = covered[ends] - covered[ends - self.tokens_of]
    return inside / np.maximum(self.tokens_of, 1)

  def partners(self, first: np.ndarray) -> np.ndarray:
    """The training row to show beside each problem.

    Args:
      first: (grams,) the first training row that has a gram, or -1.

    Returns:
      (problems,) among the rows that were the first to have one of the
      problem's grams, the one that was first for most of them; -1 if no row
      shares a gram.
    """
    row = first[self._gram_of]
    rows = int(first.max(initial=0)) + 1
    pairs, counts = np.unique(
      (self._problem_of * rows + row)[row >= 0], return_counts=True
    )
    order = np.lexsort((-pairs, counts))  # the best comes last, and stays
    result = np.full(len(self.ids), -1)
    result[pairs[order] // rows] = pairs[order] % rows
    return result


class Matches:
  """Compares the texts of one training set with the sets of an index.

  Every text is added with an id; several texts may have the same id (a
  problem's question and its solution).
  """

  def __init__(self, index: Index):
    self.index = index
    self._row_of = {}
    self._first = np.full(len(index.hashes), -1)
    self._same = np.full(len(index.ids), -1)
    self._flags = []  # (set, row) pairs of training rows that share

  def add(
    self, ids: Sequence[str], texts: Sequence[str], *, questions: bool = False
  ) -> None:
    """Compares more training texts.

    Args:
      ids: of their problems, or of kept solutions.
      texts: one for each id.
      questions: whether the texts are questions, so that they can be the same
        question as an evaluated one.
    """
    rows = [self._row_of.setdefault(key, len(self._row_of)) for key in ids]
    rows = np.array(rows, int)
    for start in range(0, len(rows), _TEXTS_AT_ONCE):
      batch = slice(start, start + _TEXTS_AT_ONCE)
      grams = self.index.encode(texts[batch])
      for size in self.index.sizes:
        hashes, starts = grams.of(size)
        position, gram = self.index.find(hashes)
        row = rows[batch][grams.text_of[starts[position]]]
        self._shared(row, gram)
      if questions:
        some = grams.lengths > 0  # texts without a token are all alike
        self._equal(rows[batch][some], grams.whole()[some])

  def found(self, name: str) -> Overlap:
    """The overlap of everything that was added with one evaluated set."""
    index = self.index
    mine = index.set_of == index.names.index(name)
    coverage = index.coverage(self._first >= 0)
    same, partner = self._same >= 0, index.partners(self._first)
    coverage[same] = 1.0
    partner = np.where(same, self._same, partner)
    shared = np.flatnonzero(mine & (partner >= 0))
    order = sorted(shared, key=lambda i: (not same[i], -coverage[i], i))
    training = list(self._row_of)
    return Overlap(
      problems=int(mine.sum()),
      short=int((mine & (index.tokens_of < index.least)).sum()),
      shared=len(shared),
      same_question=int((mine & same).sum()),
      half_covered=int((coverage[shared] >= HALF).sum()),
      training=len(training),
      training_shared=len(self.sharing([name])),
      examples=[
        SharedProblem(
          id=index.ids[i],
          partner=training[partner[i]],
          coverage=round(float(coverage[i]), 4),
          same_question=bool(same[i]),
        )
        for i in order[:LISTED]
      ],
    )

  def sharing(self, names: Sequence[str]) -> set[str]:
    """The ids on the training side that share with one of these sets."""
    wanted = [self.index.names.index(name) for name in names]
    training = list(self._row_of)
    return {
      training[row]
      for of_set, rows in self._flags
      if of_set in wanted
      for row in rows
    }

  def _shared(self, row: np.ndarray, gram: np.ndarray) -> None:
    """Notes that training row row[i] has gram[i] of the index, for all i."""
    new = self._first[gram] < 0
    # In reverse, because of several assignments to a gram numpy keeps the last,
    # and the first row is wanted.
    self._first[gram[new][::-1]] = row[new][::-1]
    for of_set, has in enumerate(self.index.in_set):
      self._flags.append((of_set, np.unique(row[has[gram]]).tolist()))

  def _equal(self, rows: np.ndarray, whole: np.ndarray) -> None:
    """Notes which training questions are evaluated questions.

    Args:
      rows: of the training questions.
      whole: the hash of all tokens of each.
    """
    first = dict(zip(whole[::-1].tolist(), rows[::-1].tolist(), strict=True))
    sharing = {}
    problems = np.flatnonzero(np.isin(self.index.whole, whole))
    for problem in problems:
      value = int(self.index.whole[problem])
      if self._same[problem] < 0:
        self._same[problem] = first[value]
      sharing.setdefault(value, set()).add(int(self.index.set_of[problem]))
    for row, value in zip(rows.tolist(), whole.tolist(), strict=True):
      for of_set in sharing.get(value, ()):
        self._flags.append((of_set, [row]))


def _low(hashes: np.ndarray) -> np.ndarray:
  return (hashes & np.uint64((1 << _BITS) - 1)).astype(np.int64)
