"""Passages: how documents are cut, and which are found for a question."""

import numpy as np
import pytest
from tiny_model import Characters

from lloco_jax.data.contexts import ContextKind, Contexts, Span
from lloco_jax.data.documents import Document
from lloco_jax.retrieval.passages import Finder, Retrieval, cut

TEXTS = {
  'a': 'oak elm fir ash yew oak oak box ',
  'b': 'fir fir fir oak elm',
  'c': 'pine',
}
WINDOW = 60


def occurrences(texts):
  """A search by the number of times that the question's word occurs."""
  return lambda question: np.array([text.count(question) for text in texts])


def make(passages=2, search=occurrences, window=WINDOW):
  contexts = Contexts(
    [Document(key, text) for key, text in TEXTS.items()],
    Characters(),
    {},
    window,
  )
  retrieval = Retrieval(search, passage_tokens=8, passages=passages)
  return contexts, Finder(retrieval, contexts, Characters())


def read(contexts, spans, reserve=0):
  context = contexts.of(ContextKind.PASSAGES, ('a', 'b'), reserve, spans)
  return Characters().decode(context.values)


def test_a_document_is_cut_without_gaps_or_overlap():
  for tokens in range(40):
    spans = cut('x', tokens, 8)
    places = [place for _, a, b in spans for place in range(a, b)]
    assert places == list(range(tokens))
    assert all(key == 'x' and b - a == 8 for key, a, b in spans[:-1])


def test_the_best_passages_come_first():
  contexts, finder = make()
  spans = finder.find(('a',), 'oak')
  # 'yew oak ' is the third passage, and 'oak box ' the fourth: with 'oak elm '
  # they hold one each, so their order is the text's.
  assert spans == (Span('a', 0, 8), Span('a', 16, 24))
  assert read(contexts, spans) == 'oak elm \n\nyew oak '
  contexts, finder = make(passages=5)
  spans = finder.find(('a',), 'box')
  assert spans[0] == Span('a', 24, 32) and len(spans) == 4


def test_passages_of_several_documents_compete():
  contexts, finder = make(passages=3)
  spans = finder.find(('a', 'b'), 'fir')
  assert spans[:2] == (Span('b', 0, 8), Span('a', 8, 16))
  assert read(contexts, spans).startswith('fir fir \n\nfir ash \n\n')
  # Alone, and asked about again, each gives its own.
  assert {span.document_id for span in finder.find(('a',), 'fir')} == {'a'}
  assert finder.find(('a', 'b'), 'fir') == spans


def test_a_short_document_is_one_passage():
  contexts, finder = make()
  assert finder.find(('c',), 'elm') == (Span('c', 0, 4),)


def test_the_window_cuts_what_it_has_no_room_for():
  contexts, finder = make(passages=4)
  spans = finder.find(('a',), 'oak')
  whole = read(contexts, spans)
  assert len(whole) == 4 * 8 + 3 * 2
  for reserve in (WINDOW - 38, WINDOW - 37, WINDOW - 18, WINDOW - 3, WINDOW):
    assert read(contexts, spans, reserve) == whole[: WINDOW - reserve]
  assert read(contexts, ()) == ''


def test_documents_are_searched_once():
  made = []

  def counted(texts):
    made.append(list(texts))
    return occurrences(texts)

  _, finder = make(search=counted)
  for question in ('oak', 'elm', 'fir'):
    finder.find(('b',), question)
  assert made == [['fir fir ', 'fir oak ', 'elm']]


@pytest.mark.parametrize('name', ['passage_tokens', 'passages'])
def test_bad_numbers(name):
  with pytest.raises(ValueError, match=f'{name} is 0; it must be >= 1'):
    Retrieval(**{name: 0})


def test_unknown_document():
  _, finder = make()
  with pytest.raises(ValueError, match="'x' is not among the documents"):
    finder.find(('x',), 'oak')
