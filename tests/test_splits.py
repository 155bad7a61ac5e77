"""Which documents train, and which examples are taken."""

import dataclasses

import numpy as np
import pytest

from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Dataset, Example, by_id
from lloco_jax.data.splits import sample, split_documents, teach_every_answer

DOCUMENTS = [f'd{n}' for n in range(12)]
EXAMPLES = tuple(
  Example(f'{name}-{n}', 'Who?', ('Ada', 'she'), (name,))
  for name in DOCUMENTS
  for n in range(5)
)


def dataset(examples=EXAMPLES, split='validation', order=1):
  documents = by_id(Document(name, name) for name in DOCUMENTS[::order])
  return Dataset(documents, {split: examples}, ('file',))


def sides(found):
  return [{d.id for d in found.documents_of(s)} for s in found.splits]


def test_documents_are_divided_disjointly_and_wholly():
  found = split_documents(dataset(), 0.25, 0)
  train, validation = sides(found)
  assert list(found.splits) == ['train', 'validation']
  assert not train & validation and len(validation) == 3
  assert train | validation == set(DOCUMENTS)
  assert sorted(e.id for s in found.splits.values() for e in s) == sorted(
    e.id for e in EXAMPLES
  )
  assert found.files == ('file',)


def test_a_training_split_alone_is_divided_as_another_is():
  found = split_documents(dataset(split='train'), 0.25, 0, 'test')
  assert list(found.splits) == ['train', 'test']
  assert sides(found) == sides(split_documents(dataset(), 0.25, 0))
  # What trains is evaluated: without the others, as in training.
  found = split_documents(dataset(split='train'), 0.25, 0, 'train')
  assert list(found.splits) == ['train', 'validation']
  assert sides(found) == sides(split_documents(dataset(), 0.25, 0))


def test_a_side_depends_on_the_seed_and_the_id_alone():
  first = sides(split_documents(dataset(), 0.5, 1))
  again = split_documents(dataset(EXAMPLES[::-1], order=-1), 0.5, 1)
  assert sides(again) == first
  assert sides(split_documents(dataset(), 0.5, 0)) != first
  assert sides(split_documents(dataset(), 0.75, 1))[1] > first[1]
  # A committed value: the same documents on every machine and version.
  assert sorted(first[1]) == ['d1', 'd10', 'd2', 'd4', 'd8', 'd9']


def test_documents_of_one_example_are_on_one_side():
  both = [('d1', 'd0'), ('d3', 'd0'), ('d2', 'd5')]
  more = tuple(Example(f'x{n}', 'Who?', ('a',), e) for n, e in enumerate(both))
  found = split_documents(dataset((*EXAMPLES, *more)), 0.25, 1)
  train, validation = sides(found)
  assert not train & validation and train | validation == set(DOCUMENTS)
  assert found.splits['validation'][-2:] == (more[0], more[1])
  assert found.splits['train'][-1] == more[2]
  # Those that no example links are where they are without such examples.
  alone = sides(split_documents(dataset(), 0.25, 1))[1]
  assert validation == alone | {'d0', 'd1', 'd3'} and 'd1' in alone


@pytest.mark.parametrize(
  ('data', 'share', 'message'),
  [
    (dataset(), 1.0, 'share of documents to validate is 1.0'),
    (
      Dataset(
        dataset().documents, {'train': EXAMPLES[1:], 'test': EXAMPLES[:1]}
      ),
      0.5,
      'has the splits train, test; only data with one',
    ),
    (dataset(EXAMPLES[:5]), 0.5, '1 documents cannot be divided'),
    (
      dataset((*EXAMPLES, Example('x', 'Who?', ('a',), tuple(DOCUMENTS)))),
      0.5,
      '12 documents cannot be divided .* two or more that no examples link',
    ),
  ],
)
def test_what_cannot_be_divided_is_refused(data, share, message):
  with pytest.raises(ValueError, match=message):
    split_documents(data, share, 0)


def test_a_sample_is_the_references():
  """`datasets` shuffles by this generator, and takes the first rows."""
  order = np.random.default_rng(42).permutation(len(EXAMPLES))
  expected = {EXAMPLES[place].id for place in order[:20]}
  found = sample(EXAMPLES, 20, seed=42)
  assert {e.id for e in found} == expected
  assert list(found) == [e for e in EXAMPLES if e.id in expected]
  assert set(sample(EXAMPLES, 10, seed=42)) < set(found)
  assert set(sample(EXAMPLES, 20, seed=43)) != set(found)


def test_zero_is_all():
  assert sample(EXAMPLES) == EXAMPLES
  assert sample(EXAMPLES, 99, 99, 99) == EXAMPLES
  assert sample((), 5) == ()


def test_documents_and_their_questions_are_limited():
  found = sample(EXAMPLES, documents=4)
  assert len(found) == 20 and len({e.document_ids for e in found}) == 4
  found = sample(EXAMPLES, documents=4, questions_per_document=2)
  assert len(found) == 8 and len({e.document_ids for e in found}) == 4
  assert len(sample(EXAMPLES, 5, 4, 2)) == 5
  # No document is left without a question while another has two.
  for seed in range(20):
    found = sample(EXAMPLES, 9, 8, seed=seed)
    assert len(found) == 9 and len({e.document_ids for e in found}) == 8
  # Examples about several documents need all of them.
  both = Example('x', 'Who?', ('a',), ('d0', 'd1'))
  found = sample((*EXAMPLES, both), documents=11)
  left = set(DOCUMENTS) - {id for e in found for id in e.document_ids}
  assert len(left) == 1 and (both in found) == (not left & {'d0', 'd1'})


@pytest.mark.parametrize('name', ['count', 'documents'])
def test_a_negative_limit_is_refused(name):
  with pytest.raises(ValueError, match=f'{name} is -1'):
    sample(EXAMPLES, **{name: -1})


def test_every_answer_is_taught_once():
  example = Example('x', 'Who?', ('a', 'b', 'c'), ('d0',), ('hard',))
  first, second, third = teach_every_answer([example])
  assert first == example
  assert (second.id, second.answers) == ('x (2)', ('b', 'a', 'c'))
  assert (third.id, third.answers) == ('x (3)', ('c', 'a', 'b'))
  assert third.tags == ('hard',)
  # An id of the data is nobody else's.
  other = dataclasses.replace(example, id='x (2)', answers=('d',))
  ids = [each.id for each in teach_every_answer([example, other])]
  assert ids == ['x', 'x (3)', 'x (4)', 'x (2)']
