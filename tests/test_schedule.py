"""Which documents are compressed together, and in which shapes."""

import dataclasses
import random

import pytest
from tiny import CONFIG

from lloco_jax.compression.schedule import (
  CompressionConfig,
  KeepProgram,
  SegmentProgram,
  batch_documents,
  padded_length,
  programs,
  segment_program,
)

LAST_ONLY = dataclasses.replace(CONFIG, accumulate_summary=False)


def test_padded_lengths():
  lengths = {padded_length(length, 1536) for length in range(1, 1537)}
  assert lengths == {192, 384, 768, 1152, 1536}
  for segment_length in (1, 64, 200, 1536):
    for length in range(1, segment_length + 1):
      padded = padded_length(length, segment_length)
      assert length <= padded <= segment_length
      assert padded % 64 == 0 or padded == segment_length
  assert padded_length(13, 1536) == 192
  assert padded_length(193, 1536) == 384
  assert padded_length(1153, 1536) == 1536


def test_batches_hold_every_document_once_and_like_with_like():
  config = CompressionConfig(segment_length=100, rows=4)
  lengths = random.Random(0).choices(range(1, 901), k=50)
  batches = batch_documents(lengths, config)
  assert sorted(sum(batches, [])) == list(range(50))
  assert [len(batch) for batch in batches] == [4] * 12 + [2]
  segments = [[-(-lengths[i] // 100) for i in batch] for batch in batches]
  for longer, shorter in zip(segments, segments[1:]):
    assert min(longer) >= max(shorter)


def test_batches_order_by_the_work_that_is_left():
  config = CompressionConfig(segment_length=100, rows=1)
  batches = batch_documents([900, 250, 1000], config, known=[8, 0, 9])
  assert batches == [[1], [2], [0]]


def test_programs_are_those_that_documents_need():
  config = CompressionConfig(segment_length=256, token_cap=256 * 12)
  bound = programs(CONFIG, config)
  needed = set()
  for length in range(1, config.token_cap + 1):
    full, rest = divmod(length, 256)
    for index in range(full):
      needed.add(segment_program(CONFIG, config, index, 256))
    if rest:
      needed.add(segment_program(CONFIG, config, full, rest))
  keep = {program for program in bound if isinstance(program, KeepProgram)}
  assert bound - keep == needed
  # 11 segments are kept at most, in 4, 6, 8 or 12 places of 3 vectors.
  assert keep == {KeepProgram(slots) for slots in (12, 18, 24, 36)}
  assert len(needed) == 5 * 4
  assert SegmentProgram(slots=36, vectors=0, width=64) in needed


def test_programs_do_not_grow_without_accumulation_or_with_short_documents():
  config = CompressionConfig(segment_length=256)
  assert programs(LAST_ONLY, config) == {
    SegmentProgram(0, vectors, width)
    for vectors in (0, 3)
    for width in (64, 128, 192, 256)
  }
  assert programs(CONFIG, config, longest=150) == {
    SegmentProgram(0, 0, width) for width in (64, 128, 192)
  }


@pytest.mark.parametrize(
  'name', ['segment_length', 'rows', 'token_cap', 'block_characters']
)
def test_config_refuses_nothing_at_all(name):
  with pytest.raises(ValueError, match=f'{name} is 0'):
    CompressionConfig(**{name: 0})
