"""Searches against scores written out by hand, and what they find."""

import collections
import importlib.util
import logging
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from lloco_jax.retrieval import extra
from lloco_jax.retrieval.search import SEARCHES, best, embedding, fuse, hybrid

pytest.importorskip('bm25s', reason="needs the extra 'retrieval'")
pytest.importorskip('wordllama', reason="needs the extra 'retrieval'")

TEXTS = (
  'The ferry to the island leaves at nine, and the fare is six crowns.',
  'A mill on the river grinds barley; its roof is slate.',
  'Captain Oduya signed the ledger of the ferry in March.',
  '',
  'The river, the river, THE RIVER floods in spring.',
  'Ærø: the snow-white goose of 1884.',
)


def words_of(text):
  return re.findall(r'\w+', text.lower())


def okapi(texts, question, k1=1.5, b=0.75):
  """BM25 term by term (Robertson and Zaragoza 2009), with idf above zero."""
  texts = [words_of(text) for text in texts]
  average = sum(map(len, texts)) / len(texts)
  scores = []
  for text in texts:
    counts, score = collections.Counter(text), 0.0
    for word in words_of(question):
      having = sum(word in other for other in texts)
      weight = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
      norm = k1 * (1 - b + b * len(text) / average)
      score += weight * counts[word] / (counts[word] + norm)
    scores.append(score)
  return scores


@pytest.mark.parametrize(
  'question',
  [
    'Who signed the ledger of the ferry?',
    'river river mill',
    'ÆRØ in 1884',
    'nothing-known zebra',
    '?!',
    '',
  ],
)
def test_bm25_is_the_sum_of_its_terms(question):
  scores = SEARCHES['bm25'](TEXTS)(question)
  np.testing.assert_allclose(scores, okapi(TEXTS, question), atol=1e-5)


def test_bm25_of_random_words():
  random = np.random.default_rng(0)

  def draw(count):
    return ' '.join(f'w{n}' for n in random.integers(0, 30, count))

  texts = [draw(random.integers(1, 60)) for _ in range(40)]
  search = SEARCHES['bm25'](texts)
  for _ in range(20):
    question = draw(5)
    expected = okapi(texts, question)
    assert max(expected) > 0
    np.testing.assert_allclose(search(question), expected, atol=1e-5)


@pytest.mark.parametrize('texts', [['', '...'], ['one']])
def test_texts_without_known_words_score_nothing(texts):
  assert SEARCHES['bm25'](texts)('two').tolist() == [0.0] * len(texts)


def test_embedding_is_the_cosine():
  """Found by comparing the question with one text after another."""
  random = np.random.default_rng(1)
  vectors = {f't{n}': random.normal(size=7) * (n + 1) for n in range(50)}
  questions = {f'q{n}': random.normal(size=7) for n in range(9)}

  def encode(texts):
    return np.array([(vectors | questions)[text] for text in texts])

  search = embedding(list(vectors), encode)
  for question, asked in questions.items():
    cosines = [
      sum(x * y for x, y in zip(asked, vector))
      / math.sqrt(sum(x * x for x in asked) * sum(y * y for y in vector))
      for vector in vectors.values()
    ]
    scores = search(question)
    np.testing.assert_allclose(scores, cosines, atol=1e-6)
    order = sorted(range(50), key=lambda place: -cosines[place])
    assert best(scores, 5) == order[:5]


def test_fusion_by_hand():
  """Shares 1, 1/2 and 0 of the best score of words, weighed 3 to 2."""
  found = fuse(np.array([8.0, 4.0, 0.0]), np.array([-0.5, 0.5, 1.0]))
  np.testing.assert_allclose(found, [0.6 - 0.2, 0.3 + 0.2, 0.4])
  # No word of the question was found.
  found = fuse(np.zeros(2), np.array([0.5, 1.0]))
  np.testing.assert_allclose(found, [0.2, 0.4])


def test_hybrid_joins_both():
  def encode(texts):
    return np.array([[len(text), 1.0] for text in texts])

  question = 'the ferry'
  words = np.array(okapi(TEXTS, question))
  vectors = embedding(TEXTS, encode)(question)
  found = hybrid(TEXTS, encode)(question)
  np.testing.assert_allclose(found, fuse(words, vectors), rtol=1e-5)


def test_equal_scores_keep_the_order_of_the_texts():
  assert best(np.array([0.0, 2.0, 0.0, 2.0, 1.0]), 4) == [1, 3, 4, 0]
  assert best(np.array([1.0]), 5) == [0]


ASKED = {
  'When does the ferry to the island leave?': 0,
  'What is the roof of the mill made of?': 1,
  'Who signed the ledger?': 2,
  'When does the river flood?': 4,
}


@pytest.mark.parametrize('name', SEARCHES)
def test_recall_on_a_tiny_corpus(name):
  search = SEARCHES[name](TEXTS)
  found = {question: best(search(question), 1)[0] for question in ASKED}
  assert found == ASKED


def test_embedding_finds_what_shares_no_word():
  texts = ['Shares fell sharply on Monday.', 'The kitten slept.', '']
  for question, place in {'A small cat': 1, 'stock market losses': 0}.items():
    assert best(SEARCHES['embedding'](texts)(question), 1) == [place]
    assert not any(okapi(texts, question))


@pytest.mark.parametrize(
  ('encode', 'message'),
  [
    (lambda texts: np.zeros((1, 3)), r'an array \[1, 3\] for 6 texts'),
    (lambda texts: np.zeros(len(texts)), r'an array \[6\] for 6 texts'),
    (lambda texts: np.full((len(texts), 2), np.nan), 'NaN'),
  ],
)
def test_bad_encoders_are_told(encode, message):
  with pytest.raises(ValueError, match=message):
    embedding(TEXTS, encode)


@pytest.mark.parametrize('package', ['bm25s', 'wordllama'])
def test_missing_packages_name_the_extra(monkeypatch, package):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    extra.importlib.util,
    'find_spec',
    lambda name: None if name == package else find(name),
  )
  with pytest.raises(ImportError, match=f"package {package}, of the extra 'r"):
    extra.need(package)
  assert extra.need('numpy') is None


def test_the_default_encoder_needs_no_network_and_leaves_logging_alone():
  """In a process of its own, where nothing can be fetched or was before."""
  program = (
    'import logging, socket, sys\n'
    'def refuse(*_, **__): raise OSError("no network")\n'
    'socket.socket.connect = socket.getaddrinfo = refuse\n'
    'from lloco_jax.retrieval.search import hybrid\n'
    'assert "wordllama" not in sys.modules and "bm25s" not in sys.modules\n'
    'scores = hybrid(["the ferry", "a mill"])("ferry")\n'
    'assert scores[0] > scores[1], scores\n'
    'assert logging.getLogger().level == logging.WARNING\n'
    'assert not logging.getLogger().handlers\n'
    'assert not {"torch", "tensorflow", "transformers"} & set(sys.modules)\n'
  )
  result = subprocess.run(
    [sys.executable, '-c', program],
    capture_output=True,
    text=True,
    env={'PATH': '', 'HOME': '', 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': '.'},
    cwd=importlib.util.find_spec('lloco_jax').submodule_search_locations[0]
    + '/..',
  )
  assert result.returncode == 0, result.stderr
  assert not result.stderr
  assert logging.getLogger('bm25s').level in (logging.NOTSET, logging.WARNING)
