"""Texts cut into pieces: nothing lost, stable under growth."""

import random

import pytest

from lloco_jax.library.pieces import cut


def texts():
  draw = random.Random(0)
  letters = 'ab .\n\t é☃!'
  for length in (1, 2, 9, 10, 11, 40, 200):
    for _ in range(40):
      yield ''.join(draw.choices(letters, k=length))
  yield ''
  yield 'x' * 35
  yield ' ' * 35
  yield ' ' * 35 + 'x' + '\n' * 35


@pytest.mark.parametrize('most', [1, 2, 10])
def test_pieces_are_the_text_and_none_is_blank_or_too_long(most):
  for text in texts():
    pieces = cut(text, most)
    assert ''.join(pieces) == text
    if not text.strip():
      assert len(pieces) == bool(text)
      continue
    assert all(piece.strip() for piece in pieces)
    assert all(len(piece.strip()) <= most for piece in pieces)


def test_a_text_that_grows_keeps_all_but_its_last_pieces():
  for text in texts():
    for stop in range(0, len(text), 7):
      before, after = cut(text[:stop], 10), cut(text, 10)
      # The last piece was not cut; what stands before it was.
      kept = before[:-1]
      assert after[: len(kept)] == kept


def test_where_a_piece_ends():
  paragraph = 'One two. Three\nfour.\n\nFive six seven eight.'
  assert cut(paragraph, 30)[0] == 'One two. Three\nfour.\n\n'
  assert cut(paragraph, 19)[0] == 'One two. Three\n'
  assert cut(paragraph, 13)[0] == 'One two. '
  assert cut('onetwo threefour', 10)[0] == 'onetwo '
  assert cut('onetwothreefour', 10) == ['onetwothre', 'efour']
  # A paragraph that ends in the first half leaves too small a piece.
  assert cut('A.\n\nbcd efg hij klm', 16)[0] == 'A.\n\nbcd efg hij '


def test_a_piece_of_nothing():
  with pytest.raises(ValueError, match='0 characters holds nothing'):
    cut('text', 0)
