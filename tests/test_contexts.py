"""What is put before the questions about documents."""

import numpy as np
import pytest
from tiny_model import Characters

from lloco_jax.data.contexts import (
  ContextKind,
  Contexts,
  Span,
  other_documents,
)
from lloco_jax.data.documents import Document

TEXTS = {'c': 'the third one', 'a': 'abcdefghij', 'b': 'a second text'}
DOCUMENTS = tuple(Document(key, text) for key, text in TEXTS.items())
SUMMARIES = {
  key: np.full((count, 4), count, np.float32)
  for key, count in (('a', 3), ('b', 5), ('c', 4))
}


def make(kind, window=100, reserve=0):
  contexts = Contexts(DOCUMENTS, Characters(), SUMMARIES, window)
  return {key: contexts.of(kind, (key,), reserve) for key in TEXTS}


def text_of(context):
  assert context.is_text
  assert context.values.dtype == np.int32
  return Characters().decode(context.values)


@pytest.mark.parametrize(
  'kind, expected',
  [
    (ContextKind.NONE, {'a': '', 'b': '', 'c': ''}),
    (ContextKind.FULL, TEXTS),
    (ContextKind.WINDOW, TEXTS),
    (ContextKind.BUDGET, {'a': 'abc', 'b': 'a sec', 'c': 'the '}),
  ],
)
def test_text(kind, expected):
  contexts = make(kind)
  assert {key: text_of(value) for key, value in contexts.items()} == expected
  assert {key: len(value) for key, value in contexts.items()} == {
    key: len(text) for key, text in expected.items()
  }


def test_full_text_that_fits_to_the_last_position():
  assert text_of(make(ContextKind.FULL, 15, 5)['a']) == 'abcdefghij'
  assert make(ContextKind.FULL, 15, 6)['a'] is None


def test_beginning_that_fits():
  contexts = make(ContextKind.WINDOW, 15, 8)
  assert text_of(contexts['a']) == 'abcdefg'
  assert text_of(contexts['c']) == 'the thi'


def test_passages_in_their_order_with_an_empty_line_between():
  contexts = Contexts(DOCUMENTS, Characters(), {}, 20)
  spans = (Span('b', 2, 8), Span('a', 0, 3), Span('b', 9, 13))
  found = 'second\n\nabc\n\ntext'
  for reserve in (0, 3, 4, 11, 20, 30):
    context = contexts.of(ContextKind.PASSAGES, ('a', 'b'), reserve, spans)
    assert text_of(context) == found[: max(20 - reserve, 0)]
  none = contexts.of(ContextKind.PASSAGES, ('a', 'b'), 0)
  assert text_of(none) == ''


def test_budget_of_a_text_shorter_than_its_summaries():
  many = {'a': np.zeros((50, 4))}
  contexts = Contexts(DOCUMENTS, Characters(), many, 100)
  assert text_of(contexts.of(ContextKind.BUDGET, ('a',), 0)) == TEXTS['a']


def test_summaries():
  for key, context in make(ContextKind.SUMMARIES).items():
    assert not context.is_text
    np.testing.assert_array_equal(context.values, SUMMARIES[key])


def test_other_summaries_go_around_in_sorted_order():
  counts = {
    key: len(context)
    for key, context in make(ContextKind.OTHER_SUMMARIES).items()
  }
  assert counts == {'a': 5, 'b': 4, 'c': 3}


def test_nobody_is_their_own_other():
  for count in range(2, 9):
    ids = sorted(f'document {index}' for index in range(count))
    others = [other_documents((key,), ids) for key in ids]
    assert all(other != (key,) for other, key in zip(others, ids))
    assert sorted(others) == [(key,) for key in ids]


def test_others_of_several_documents():
  ids = ['a', 'b', 'c', 'd', 'e']
  assert other_documents(('b', 'd'), ids) == ('c', 'e')
  assert other_documents(('d', 'b'), ids) == ('e', 'a')
  assert other_documents(('a', 'b', 'c'), ids) == ('d', 'e', 'd')


def test_several_documents_are_joined_in_order():
  contexts = Contexts(DOCUMENTS, Characters(), SUMMARIES, 100)
  both = ('b', 'a')
  joined = 'a second text\n\nabcdefghij'
  assert text_of(contexts.of(ContextKind.FULL, both, 0)) == joined
  assert text_of(contexts.of(ContextKind.WINDOW, both, 80)) == joined[:20]
  assert contexts.of(ContextKind.FULL, both, 76) is None
  assert text_of(contexts.of(ContextKind.BUDGET, both, 0)) == 'a secabc'
  summaries = contexts.of(ContextKind.SUMMARIES, both, 0)
  np.testing.assert_array_equal(summaries.values[:, 0], [5] * 5 + [3] * 3)
  other = contexts.of(ContextKind.OTHER_SUMMARIES, both, 0)
  np.testing.assert_array_equal(other.values[:, 0], [4] * 8)


@pytest.mark.parametrize(
  'kind, documents, summaries, message',
  [
    (ContextKind.OTHER_SUMMARIES, DOCUMENTS[:1], SUMMARIES, 'no other'),
    (ContextKind.SUMMARIES, DOCUMENTS, {}, "'c' has no summaries"),
    (ContextKind.BUDGET, DOCUMENTS, {}, "'c' has no summaries"),
  ],
)
def test_errors(kind, documents, summaries, message):
  contexts = Contexts(documents, Characters(), summaries, 100)
  with pytest.raises(ValueError, match=message):
    contexts.of(kind, ('c',), 0)


def test_unknown_document():
  contexts = Contexts(DOCUMENTS, Characters(), SUMMARIES, 100)
  with pytest.raises(ValueError, match="'x' is not among the documents"):
    contexts.of(ContextKind.FULL, ('x',), 0)


def test_summaries_are_not_needed_for_text():
  contexts = Contexts(DOCUMENTS, Characters(), {}, 100)
  assert text_of(contexts.of(ContextKind.FULL, ('b',), 0)) == TEXTS['b']
