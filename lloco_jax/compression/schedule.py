"""Which documents are compressed together, in which shapes.

The documents of a batch go through their segments in lockstep. Every call of
a program has the same number of rows, and a segment's padded length follows
from its document alone, so that a document's vectors are the same bits
whatever it is batched with, and when.
"""

import dataclasses
from typing import NamedTuple

from lloco_jax.compression.segments import prefix_slots, split_length
from lloco_jax.nn.config import LlamaConfig

# A short last segment is padded to the next of these parts of a full one.
_FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 3 / 4)
_MULTIPLE = 64


@dataclasses.dataclass(frozen=True)
class CompressionConfig:
  """How documents are cut and batched; lengths are in tokens.

  `rows` documents are compressed at a time: as many as fill an accelerator,
  1 on a CPU. What lies behind `token_cap` is cut off. `block_characters`
  tokenises blocks of so many characters on their own (the reference: 10,000).
  """

  segment_length: int = 1536
  rows: int = 4
  token_cap: int = 122_880
  block_characters: int | None = None

  def __post_init__(self):
    for name in ('segment_length', 'rows', 'token_cap', 'block_characters'):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(f'{name} is {value}; it must be 1 or more.')


class SegmentProgram(NamedTuple):
  """Shape of a program that reads segments: slots of the kept prefix, vectors
  that run with the segment, and the segment's padded length."""

  slots: int
  vectors: int
  width: int


class KeepProgram(NamedTuple):
  """Shape of a program that runs vectors into a prefix of so many slots."""

  slots: int


def padded_length(length: int, segment_length: int) -> int:
  """The length that a segment is padded to."""
  for fraction in _FRACTIONS:
    room = -(-int(segment_length * fraction) // _MULTIPLE) * _MULTIPLE
    if length <= room < segment_length:
      return room
  return segment_length


def batch_documents(
  tokens: list[int], config: CompressionConfig, known: list[int] | None = None
) -> list[list[int]]:
  """Puts documents of like work together, the longest first.

  Args:
    tokens: length of each document.
    config: its `rows` is the most documents of a batch.
    known: segments of each document whose vectors are there already.

  Returns:
    Indices into `tokens`, batch by batch.
  """
  known = known or [0] * len(tokens)

  def work(index):
    lengths = split_length(tokens[index], config.segment_length)
    last = padded_length(lengths[-1], config.segment_length)
    return len(lengths) - known[index], len(lengths), last

  order = sorted(range(len(tokens)), key=work, reverse=True)
  return [
    order[start : start + config.rows]
    for start in range(0, len(order), config.rows)
  ]


def segment_program(
  network: LlamaConfig, config: CompressionConfig, index: int, length: int
) -> SegmentProgram:
  """The program that reads a document's segment `index` of `length` tokens."""
  slots = prefix_slots(network, index)
  # Vectors that accumulate are in the prefix by then; else they run again.
  again = bool(index) and not network.accumulate_summary
  vectors = network.summary_length if again else 0
  return SegmentProgram(
    slots, vectors, padded_length(length, config.segment_length)
  )


def programs(
  network: LlamaConfig, config: CompressionConfig, longest: int | None = None
) -> set[SegmentProgram | KeepProgram]:
  """Every program that documents of up to `longest` tokens can need.

  `longest` is the token cap by default. However many documents there are,
  compression compiles no other programs.
  """
  longest = min(longest or config.token_cap, config.token_cap)
  found = set()
  for index, full in enumerate(split_length(longest, config.segment_length)):
    if index and network.accumulate_summary:
      found.add(KeepProgram(prefix_slots(network, index)))
    widths = {
      padded_length(length, config.segment_length)
      for length in range(1, full + 1)
    }
    for width in widths:
      found.add(segment_program(network, config, index, width))
  return found
