"""Examples and datasets, and what is refused as one."""

import itertools

import numpy as np
import pytest
from scipy.sparse import coo_matrix, csgraph

from lloco_jax.data.documents import Document
from lloco_jax.data.examples import (
  Dataset,
  Example,
  by_id,
  check_examples,
  linked,
)


def example(id='first', documents=('minutes',), **fields):
  fields = {'question': 'Who?', 'answers': ('Ada',), **fields}
  return Example(id=id, document_ids=documents, **fields)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'id': ''}, 'empty id'),
    ({'question': ' '}, "'first' has an empty question"),
    ({'answers': ()}, "'first' needs one or more answers"),
    ({'answers': 'Ada'}, "'first' needs one or more answers"),
    ({'answers': ('Ada', ' ')}, "'first' has an empty answer"),
    ({'answers': ('Ada \ud800',)}, "'first' holds half a surrogate pair"),
    ({'question': '\udc00?'}, "'first' holds half a surrogate pair"),
    ({'documents': ()}, "'first' needs one or more document_ids"),
    ({'tags': 'hard'}, "'first' has tags that are empty or no tuple"),
    ({'tags': ('hard', '')}, "'first' has tags that are empty or no tuple"),
  ],
)
def test_empty_fields_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    example(**fields)


def test_lists_become_tuples():
  assert example(answers=['Ada']).answers == ('Ada',)
  assert example(tags=['hard']).tags == ('hard',)


def test_an_unknown_document_is_named_with_its_example():
  examples = [example(), example('second', ('minutes', 'diary'))]
  with pytest.raises(ValueError, match="'second' asks .* 'diary'"):
    check_examples(examples, ['minutes'])
  check_examples(examples, ['minutes', 'diary'])


def test_ids_are_unique_over_all_splits():
  documents = by_id([Document('minutes', 'text')])
  splits = {'train': (example(),), 'validation': (example(),)}
  with pytest.raises(ValueError, match="id 'first'"):
    Dataset(documents, splits)
  with pytest.raises(ValueError, match="Two documents have the id 'a'"):
    by_id([Document('a', 'one'), Document('b', 'two'), Document('a', 'three')])


def test_a_document_filed_under_another_id_is_refused():
  with pytest.raises(ValueError, match="'minutes' is filed under 'diary'"):
    Dataset({'diary': Document('minutes', 'text')}, {})


def test_documents_of_a_split_come_once_in_order():
  documents = by_id(Document(id, id) for id in 'abc')
  splits = {
    'train': (example('1', ('c', 'a')), example('2', ('a',))),
    'validation': (example('3', ('b',)),),
  }
  dataset = Dataset(documents, splits)
  found = tuple(dataset.documents_of('train'))
  assert found == (documents['c'], documents['a'])
  assert tuple(dataset.documents_of('validation')) == (documents['b'],)


@pytest.mark.parametrize('seed', range(5))
def test_sets_that_share_members_are_linked(seed):
  random = np.random.default_rng(seed)
  sizes = random.integers(1, 4, size=25)
  sets = [random.integers(40, size=size) for size in sizes]
  pairs = np.array([(one[0], other) for one in sets for other in one]).T
  graph = coo_matrix((np.ones(len(pairs[0])), pairs), (40, 40))
  _, expected = csgraph.connected_components(graph, directed=False)
  found = linked([tuple(map(str, one)) for one in sets])
  for i, j in itertools.combinations(range(25), 2):
    same = expected[sets[i][0]] == expected[sets[j][0]]
    assert (found[i] == found[j]) == same
