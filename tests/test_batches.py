"""Packed rows, field by field."""

import numpy as np
import pytest

from lloco_jax.data.batches import IGNORED, pack, packed_size, round_up
from lloco_jax.nn.visibility import UNSEEN


def test_round_up():
  sizes = [round_up(value, 8) for value in (0, 1, 8, 9)]
  assert sizes == [8, 8, 8, 16]


def test_packed_size():
  assert packed_size([([1, 2, 3], [4, 5]), ([1], [2])]) == (4 + 1, 2 + 1)


def test_pack():
  rows = [[([11, 12, 13], [14, 2]), ([21], [22, 23, 2])], [([31, 32], [33])]]
  packed = pack(rows, width_multiple=4, targets_multiple=3)
  expected = {
    # An answer's last token is predicted and never read.
    'tokens': [[11, 12, 13, 14, 21, 22, 23, 0], [31, 32] + [0] * 6],
    'offsets': [[0, 1, 2, 3, 0, 1, 2, UNSEEN], [0, 1] + [UNSEEN] * 6],
    'groups': [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1] + [0] * 6],
    'predicting': [[2, 3, 4, 5, 6, 0], [1] + [0] * 5],
    'targets': [[14, 2, 22, 23, 2, IGNORED], [33] + [IGNORED] * 5],
  }
  assert set(packed) == set(expected)
  for name, values in expected.items():
    assert packed[name].dtype == np.int32
    assert packed[name].tolist() == values, name


@pytest.mark.parametrize('question', [([], [1]), ([1], [])])
def test_questions_without_a_prompt_or_an_answer_are_refused(question):
  with pytest.raises(ValueError, match='needs a prompt and an answer'):
    pack([[([1], [2]), question]])
