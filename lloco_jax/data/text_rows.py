"""Rows of plain text to train a compressor on, cut into random segments.

A document is read in order, piece by piece; no piece crosses its end. The
lengths of a piece's segments are drawn anew every time it comes (Chevalier et
al. 2023, section 3.2), in arrays of one shape.
"""

from collections.abc import Sequence
import dataclasses

import grain
import numpy as np


@dataclasses.dataclass(frozen=True)
class TextRowConfig:
  """What a row of training holds; lengths are in tokens.

  A row has `segments` segments of `shortest` to `segment_length` tokens, as
  many tokens in all as segments of the mean of the two; the last piece of a
  document may have fewer, down to two segments of `shortest`. Of a whole row
  all runs of `substep` segments, if they divide it, have equally many, as in
  the AutoCompressors' code; None is all of the row.
  """

  segment_length: int = 2048
  shortest: int = 1024
  segments: int = 4
  seed: int = 0
  substep: int | None = None

  def __post_init__(self):
    if not 1 <= self.shortest <= self.segment_length:
      raise ValueError(
        f'shortest is {self.shortest}; it must be from 1 to segment_length, '
        f'{self.segment_length}.'
      )
    if self.segments < 1:
      raise ValueError(f'segments is {self.segments}; it must be >= 1.')

  @property
  def tokens(self) -> int:
    """Tokens of a whole row."""
    return self.segments * (self.shortest + self.segment_length) // 2

  @property
  def fewest(self) -> int:
    """Tokens that are worth a row, which takes as long however little it holds:
    of two segments, or the one of a row, and an eighth of the longest."""
    least = min(self.segments, 2) * self.shortest
    return max(least, self.segment_length // 8)


def cut_pieces(
  bounds: Sequence[int], config: TextRowConfig
) -> list[tuple[int, int]]:
  """Spans of the pieces of documents that lie one behind the other.

  Args:
    bounds: [D + 1], where documents begin, and the end of the last one.
    config: of the rows.

  Returns:
    (start, stop) of each piece. What has fewer tokens than `config.fewest` is
    in none.
  """
  pieces = []
  for start, end in zip(bounds[:-1], bounds[1:]):
    for first in range(int(start), int(end), config.tokens):
      stop = min(first + config.tokens, int(end))
      if stop - first >= config.fewest:
        pieces.append((first, stop))
  return pieces


def draw_lengths(
  total: int, config: TextRowConfig, rng: np.random.Generator
) -> np.ndarray:
  """Lengths int32 [segments] that add up to `total`, 0 where there is none.

  Whole rows have no segment shorter than `shortest`; of a shorter one the
  last segment may be.
  """
  substep = config.substep or config.segments
  parts, rest = divmod(config.segments, substep)
  if total == config.tokens and parts > 1 and not rest:
    part = dataclasses.replace(config, segments=substep, substep=None)
    if part.tokens * parts == total:
      drawn = [draw_lengths(part.tokens, part, rng) for _ in range(parts)]
      return np.concatenate(drawn)
  lengths = np.zeros(config.segments, np.int32)
  left = total
  for index in range(config.segments):
    behind = config.segments - index - 1
    least = max(config.shortest, left - behind * config.segment_length)
    most = config.segment_length
    if total == config.tokens:
      most = min(most, left - behind * config.shortest)
    elif not index and behind:
      most = min(most, total - config.shortest)
    lengths[index] = min(rng.integers(least, most + 1), left)
    left -= lengths[index]
  return lengths


def text_batches(
  tokens: Sequence[int],
  bounds: Sequence[int],
  config: TextRowConfig,
  batch_size: int,
  here: Sequence[int] | None = None,
) -> grain.MapDataset:
  """An endless dataset of batches `segments` [B, S, T], `lengths` [B, S].

  Args:
    tokens: ids of all documents, one behind the other; may lie on disk.
    bounds: see `cut_pieces`.
    config: of the rows.
    batch_size: rows of a batch, B.
    here: which of them this process makes; None for all.

  Raises:
    ValueError: the documents do not fill one batch.
  """
  pieces = cut_pieces(bounds, config)
  if len(pieces) < batch_size:
    raise ValueError(
      f'The texts give {len(pieces)} rows of {config.tokens} tokens, fewer '
      f'than the {batch_size} of a batch; give more text, or shorter segments.'
    )

  def row(piece, rng):
    start, stop = piece
    lengths = draw_lengths(stop - start, config, rng)
    segments = np.zeros((config.segments, config.segment_length), np.int32)
    for index, length in enumerate(lengths):
      segments[index, :length] = tokens[start : start + length]
      start += length
    return {'segments': segments, 'lengths': lengths}

  def stack(rows):
    rows = rows if here is None else [rows[index] for index in here]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  rows = (
    grain.MapDataset.source(pieces)
    .shuffle(seed=config.seed)
    .repeat()
    .random_map(row, seed=config.seed)
  )
  if batch_size == 1:
    # Grain cannot count the batches of one row of an endless dataset.
    return rows.map(lambda row: stack([row]))
  return rows.batch(batch_size, batch_fn=stack)
