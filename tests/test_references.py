"""References that no answer can reach are told."""

import pytest
from tiny_model import Characters

from lloco_jax.data.examples import Example
from lloco_jax.evaluation.references import unreachable


def said(*answers, metric='f1', most=8, first_line=True):
  examples = [Example('q', 'Who?', each, ('d',)) for each in answers]
  return unreachable(examples, Characters(), metric, most, first_line)


@pytest.mark.parametrize(
  'answers, options, what',
  [
    ([('Ada Lovelace',), ('Ada',)], {}, '1 have no reference of up to 8 tok'),
    ([('a\nb',), ('a b',)], {}, '1 have no reference of one line'),
    ([('A',), ('the',)], {}, '2 have no reference with a word that counts'),
  ],
)
def test_what_cannot_be_reached(answers, options, what):
  (sentence,) = said(*answers, **options)
  assert sentence.startswith('Of 2 questions ') and what in sentence


def test_one_reference_is_enough():
  assert not said(('Ada Lovelace', 'Ada'), ('a\nb', ' b \n'), ('A', 'Ada'))
  assert not said(('a\nb',), first_line=False)
  assert not said(('A',), metric='accuracy')
  assert not said(('Ada Lovelace',), most=12)
