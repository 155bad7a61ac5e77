"""Search of texts: by words, by text embedding, or by both.

A search is made of texts and then gives each of them a score for a question.
All of them are scored: texts are the passages of a few documents, and an exact
search of so few is one product of matrices.
"""

from collections.abc import Callable, Sequence
import logging
import re

import numpy as np

from lloco_jax.retrieval.encoder import Encoder, embed
from lloco_jax.retrieval.extra import need

# A question to the scores [n] of the texts, the higher the better.
Scores = Callable[[str], np.ndarray]

_WORD = re.compile(r'\w+')
# Robertson and Zaragoza 2009: k1 from 1.2 to 2, b from 0.5 to 0.8.
_K1, _B = 1.5, 0.75
# Weight of words where they are joined with text embedding, whose weight is the
# rest to 1; of 0.5 to 0.8 all are much the same (docs/LOG.md).
_WORDS = 0.6


def bm25(texts: Sequence[str]) -> Scores:
  """Okapi BM25 over words in lower case, with the idf that is never negative.

  Raises:
    ImportError: bm25s is not installed.
  """
  need('bm25s')
  import bm25s

  # It lets its messages for debugging through, unlike other packages.
  logging.getLogger('bm25s').setLevel(logging.WARNING)
  texts = [_words(text) for text in texts]
  if not any(texts):
    return lambda question: np.zeros(len(texts), np.float32)
  index = bm25s.BM25(k1=_K1, b=_B, method='lucene')
  index.index(texts, show_progress=False)

  def scores(question):
    known = [word for word in _words(question) if word in index.vocab_dict]
    if not known:
      return np.zeros(len(texts), np.float32)
    return index.get_scores(known)

  return scores


def embedding(texts: Sequence[str], encode: Encoder = embed) -> Scores:
  """Cosines of the vectors that `encode` gives questions and texts.

  Raises:
    ValueError: `encode` does not give one finite vector a text.
    ImportError: as `embed`.
  """
  vectors = unit_vectors(encode, list(texts))
  return lambda question: vectors @ unit_vectors(encode, [question])[0]


def hybrid(texts: Sequence[str], encode: Encoder = embed) -> Scores:
  """BM25 and text embedding, joined by `fuse`.

  Raises:
    ValueError, ImportError: as `bm25` and `embedding`.
  """
  words, vectors = bm25(texts), embedding(texts, encode)
  return lambda question: fuse(words(question), vectors(question))


SEARCHES = {'bm25': bm25, 'embedding': embedding, 'hybrid': hybrid}


def fuse(words: np.ndarray, cosines: np.ndarray) -> np.ndarray:
  """One score [n] of both searches, the higher the better.

  A sum of scores, of which those of words are shares of the best one: ranks
  would say nothing of how much better a text is than the next (Bruch, Gai and
  Ingber 2023, arXiv 2210.11934).

  Args:
    words: [n], of BM25, none below 0.
    cosines: [n], of text embedding.
  """
  most = np.max(words, initial=0)
  return _WORDS * words / (most or 1) + (1 - _WORDS) * cosines


def best(scores: np.ndarray, count: int) -> list[int]:
  """Places of the highest scores, best first, of equal ones the first."""
  return np.argsort(-scores, kind='stable')[:count].tolist()


def unit_vectors(encode: Encoder, texts: list[str]) -> np.ndarray:
  """Vectors [n, D] of length one; that of an empty text stays zero.

  Raises:
    ValueError: `encode` does not give one finite vector a text.
    ImportError: as `embed`.
  """
  vectors = np.asarray(encode(texts), np.float32)
  if vectors.ndim != 2 or len(vectors) != len(texts):
    raise ValueError(
      f'The encoder gave an array {list(vectors.shape)} for {len(texts)} '
      'texts; it must give one vector a text.'
    )
  if not np.isfinite(vectors).all():
    raise ValueError('The encoder gave a vector with NaN or infinity.')
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  return vectors / np.where(lengths == 0, 1, lengths)


def _words(text: str) -> list[str]:
  return _WORD.findall(text.lower())
