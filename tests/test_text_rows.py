"""Rows of plain text, against the text they were cut from."""

import numpy as np
import pytest

from lloco_jax.data.text_rows import (
  TextRowConfig,
  cut_pieces,
  draw_lengths,
  text_batches,
)

CONFIG = TextRowConfig(segment_length=12, shortest=4, segments=3, seed=1)
BOUNDS = [0, 50, 57, 88, 95, 102, 120]
TOKENS = np.arange(1, 121, dtype=np.uint16)


def read(batch, row):
  """The tokens of a row, in order."""
  parts = zip(batch['segments'][row], batch['lengths'][row])
  return np.concatenate([segment[:length] for segment, length in parts])


def test_pieces_are_in_order_and_cross_no_document():
  assert CONFIG.tokens == 24
  # Behind them what is too short for two segments of four is left.
  assert cut_pieces(BOUNDS, CONFIG) == [(0, 24), (24, 48), (57, 81), (102, 120)]
  assert cut_pieces([0, 7, 15], CONFIG) == [(7, 15)]
  # A row of one segment needs no second; of a long one, an eighth is enough.
  assert cut_pieces([0, 3, 7], TextRowConfig(12, 4, 1)) == [(3, 7)]
  assert cut_pieces([0, 11, 23], TextRowConfig(96, 2, 2)) == [(11, 23)]


@pytest.mark.parametrize('substep', [1, 2, 4, 3, None])
def test_substeps_of_whole_rows_are_equally_long(substep):
  """3 does not divide, and is no more than what is drawn at once."""
  config = TextRowConfig(12, 4, 4, substep=substep)
  rng = np.random.default_rng(0)
  drawn = np.stack([draw_lengths(32, config, rng) for _ in range(200)])
  assert (drawn.sum(1) == 32).all() and drawn.min() >= 4 and drawn.max() <= 12
  parts = drawn.reshape(200, -1, substep if substep in (1, 2) else 4).sum(2)
  assert (parts == parts[0, 0]).all()
  if substep != 1:
    assert len(np.unique(drawn, axis=0)) > 20


@pytest.mark.parametrize('total', range(8, 25))
def test_lengths_add_up_within_their_bounds(total):
  rng = np.random.default_rng(total)
  seen = set()
  for _ in range(300):
    lengths = draw_lengths(total, CONFIG, rng)
    assert lengths.sum() == total
    assert lengths.max() <= 12
    there = lengths[lengths > 0]
    assert (lengths[: len(there)] > 0).all()
    assert (there[:-1] >= 4).all() and len(there) > 1
    if total == CONFIG.tokens:
      assert len(there) == 3 and lengths.min() >= 4
    seen.add(tuple(lengths))
  assert len(seen) > min(total - 8, 5)


def test_fixed_lengths_leave_nothing_to_chance():
  config = TextRowConfig(segment_length=8, shortest=8, segments=3)
  rng = np.random.default_rng(0)
  np.testing.assert_array_equal(draw_lengths(24, config, rng), [8, 8, 8])
  np.testing.assert_array_equal(draw_lengths(19, config, rng), [8, 8, 3])
  np.testing.assert_array_equal(draw_lengths(16, config, rng), [8, 8, 0])


def test_an_epoch_reads_every_piece_once_with_new_lengths():
  batches = text_batches(TOKENS, BOUNDS, CONFIG, 2)
  pieces = {TOKENS[a:b].tobytes() for a, b in cut_pieces(BOUNDS, CONFIG)}
  epochs = [[batches[step] for step in range(2 * n, 2 * n + 2)] for n in (0, 1)]
  for epoch in epochs:
    rows = [read(batch, row) for batch in epoch for row in range(2)]
    assert {row.astype(np.uint16).tobytes() for row in rows} == pieces
  first, second = (
    {(read(batch, row)[0], *batch['lengths'][row]) for batch in epoch
     for row in range(2)}
    for epoch in epochs
  )  # fmt: skip
  assert first != second
  for batch in epochs[0]:
    assert batch['segments'].shape == (2, 3, 12)
    assert batch['segments'].dtype == batch['lengths'].dtype == np.int32
    padding = np.arange(12) >= batch['lengths'][..., None]
    assert not batch['segments'][padding].any()


def test_batches_are_those_of_their_seed():
  same, other = (
    text_batches(TOKENS, BOUNDS, config, 2)[3]['segments']
    for config in (CONFIG, TextRowConfig(12, 4, 3, seed=2))
  )
  again = text_batches(TOKENS, BOUNDS, CONFIG, 2)[3]['segments']
  np.testing.assert_array_equal(same, again)
  assert not np.array_equal(same, other)


def test_too_little_text():
  with pytest.raises(ValueError, match='give 4 rows of 24 tokens, fewer'):
    text_batches(TOKENS, BOUNDS, CONFIG, 5)


@pytest.mark.parametrize(
  'fields', [{'shortest': 0}, {'shortest': 13}, {'segments': 0}]
)
def test_settings_out_of_range(fields):
  with pytest.raises(ValueError, match='must be'):
    TextRowConfig(**{'segment_length': 12, 'shortest': 4, **fields})
