"""Made passages to train a compressor on: short reports and questions.

The passages come from seeds, so there is no end of them and none is stored.
No place in them has a name of the demo's validation documents (see
data/reports.py).
"""

from collections.abc import Sequence
import dataclasses
import random

import grain
import numpy as np

from lloco_jax.data.batches import pack, packed_size
from lloco_jax.data.prompts import PLAIN, encode_example
from lloco_jax.data.reports import make_report

# Words a token of a report, with some to spare so that segments are full.
_WORDS_PER_TOKEN = 0.8
_FEWEST_WORDS = 45
# Reports that are made until the text of one answers a question.
_TRIES = 100


@dataclasses.dataclass(frozen=True)
class PassageConfig:
  """What a row of training holds.

  A row has `segments` segments of `segment_length` tokens and at most
  `questions` of the questions that its text answers, 0 for the segments
  alone; the questions about `passages_per_context` rows are asked behind the
  vectors of all of them, one row's after the other; `repeat_share` of the
  rows ask for one segment's text instead. The rate of facts is drawn from
  `facts_per_hundred_words`. `width` and `targets` are the sizes of the
  packed questions, so that every batch has one shape; questions that they do
  not hold are left out.
  """

  segment_length: int = 64
  segments: int = 2
  questions: int = 4
  passages_per_context: int = 1
  repeat_share: float = 0.0
  facts_per_hundred_words: tuple[float, float] = (4.0, 6.5)
  width: int = 96
  targets: int = 16
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Passage:
  """Token ids of the segments, and (prompt ids, answer ids) of questions."""

  segments: list[list[int]]
  questions: list[tuple[list[int], list[int]]]


def make_passage(tokenizer, config: PassageConfig, index: int) -> Passage:
  """The passage of an index; the same for ever.

  Raises:
    ValueError: the segments are too short for a fact, or the packed rows for
      a question.
  """
  rng = random.Random(f'{config.seed}/{index}')
  total = config.segment_length * config.segments
  low, high = config.facts_per_hundred_words
  for _ in range(_TRIES):
    report = make_report(
      rng.getrandbits(40),
      words=max(_FEWEST_WORDS, round(total * _WORDS_PER_TOKEN)),
      facts_per_hundred_words=low + rng.random() * (high - low),
    )
    ids = tokenizer.encode(report.document.text)[:total]
    examples = report.examples_within(0, len(tokenizer.decode(ids)))
    # Full segments, so that vectors of several passages have no gap.
    if len(ids) == total and (examples or not config.questions):
      break
  else:
    raise ValueError(
      f'No passage of {total} tokens holds a fact; raise segment_length or '
      'segments.'
    )
  segments = [
    ids[start : start + config.segment_length]
    for start in range(0, len(ids), config.segment_length)
  ]
  if not config.questions:
    return Passage(segments, [])
  if rng.random() < config.repeat_share:
    part = rng.randrange(len(segments))
    prompt = tokenizer.encode(f'Repeat part {part + 1}:')
    return Passage(segments, _fitting([(prompt, segments[part])], config))
  chosen = rng.sample(examples, min(config.questions, len(examples)))
  asked = [encode_example(tokenizer, PLAIN, item) for item in chosen]
  return Passage(segments, _fitting(asked, config))


def _fitting(questions, config: PassageConfig):
  """The questions, in their order, that one packed row has room for."""
  kept = []
  for question in questions:
    tokens, targets = packed_size([*kept, question])
    if tokens <= config.width and targets <= config.targets:
      kept.append(question)
  if not kept:
    tokens, targets = packed_size(questions[:1])
    raise ValueError(
      f'A question takes {tokens} tokens and {targets} targets, more than '
      f'width ({config.width}) and targets ({config.targets}); raise them.'
    )
  return kept


def passage_batches(
  tokenizer,
  config: PassageConfig,
  batch_size: int,
  here: Sequence[int] | None = None,
) -> grain.MapDataset:
  """An endless dataset of batches for `finetuning.compressor`.

  Each holds `segments` [B, S, T], `lengths` [B, S] and packed rows (see
  `data.batches.pack`), one for every `passages_per_context` of the B. `here`
  says which of them this process makes, whole contexts of them; None for all.
  """

  together = config.passages_per_context
  if batch_size > together and batch_size % together:
    raise ValueError(
      f'{batch_size} rows cannot be put {together} a context; make the rows a '
      'multiple of passages_per_context.'
    )

  def collate(indices: Sequence[int]) -> dict[str, np.ndarray]:
    mine = indices if here is None else [indices[row] for row in here]
    passages = [make_passage(tokenizer, config, int(index)) for index in mine]
    shape = (len(passages), config.segments, config.segment_length)
    segments = np.zeros(shape, np.int32)
    lengths = np.zeros(shape[:2], np.int32)
    for row, passage in enumerate(passages):
      for column, ids in enumerate(passage.segments):
        segments[row, column, : len(ids)] = ids
        lengths[row, column] = len(ids)
    if not config.questions:
      return {'segments': segments, 'lengths': lengths}
    packed = pack(
      [
        [
          question
          for passage in passages[start : start + together]
          for question in passage.questions
        ]
        for start in range(0, len(passages), together)
      ],
      together * config.width,
      together * config.targets,
    )
    return {'segments': segments, 'lengths': lengths, **packed}

  return grain.MapDataset.range(2**40).batch(batch_size, batch_fn=collate)


def first_segments(tokenizer, config: PassageConfig, passages: int = 400):
  """Yields the token ids of the segments of the first passages."""
  for index in range(passages):
    yield from make_passage(tokenizer, config, index).segments
