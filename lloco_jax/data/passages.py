"""Passages with questions to train a compressor on: made, or of a data set.

Made ones are short reports that come from seeds, so there is no end of them and
none is stored. No place in them has a name of the demo's validation documents
(see data/reports.py). Those of a data set are its documents that fit a row.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import random

import grain
import numpy as np

from lloco_jax.data.batches import pack, packed_size
from lloco_jax.data.examples import Dataset
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
  vectors of all of them, one row's after the other. `width` and `targets` are
  the sizes of the packed questions, so that every batch has one shape;
  questions that they do not hold are left out. Of made passages `repeat_share`
  ask for one segment's text instead, and the rate of facts is drawn from
  `facts_per_hundred_words`.
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
  segments = _segments(ids, config)
  if not config.questions:
    return Passage(segments, [])
  if rng.random() < config.repeat_share:
    part = rng.randrange(len(segments))
    prompt = tokenizer.encode(f'Repeat part {part + 1}:')
    return Passage(segments, _fitting([(prompt, segments[part])], config))
  chosen = rng.sample(examples, min(config.questions, len(examples)))
  asked = [encode_example(tokenizer, PLAIN, item) for item in chosen]
  return Passage(segments, _fitting(asked, config))


class AskedPassages:
  """The passage of an index, of the documents that a data set asks about.

  In each round all of them come once, in an order of the round's own.

  Args:
    dataset: whose training split asks; only questions about one document, and
      documents of at most a row's tokens, are taken. How many is printed.
    tokenizer: of the base.
    config: of the rows.

  Raises:
    ValueError: none can be taken.
  """

  def __init__(self, dataset: Dataset, tokenizer, config: PassageConfig):
    self._documents = dataset.documents
    self._tokenizer, self._config = tokenizer, config
    examples = dataset.splits.get('train', ())
    most = config.segments * config.segment_length
    lengths, self._questions = {}, {}
    for example in examples:
      pair = encode_example(tokenizer, PLAIN, example)
      tokens, targets = packed_size([pair])
      if len(example.document_ids) > 1:
        continue
      if tokens > config.width or targets > config.targets:
        continue
      (name,) = example.document_ids
      if name not in lengths:
        text = self._documents[name].text
        lengths[name] = len(tokenizer.encode(text))
      if lengths[name] <= most:
        self._questions.setdefault(name, []).append(pair)
    taken = sum(map(len, self._questions.values()))
    print(
      f'{taken:,} of {len(examples):,} questions, about '
      f'{len(self._questions):,} documents, are asked; the others are about '
      f'several documents or one of more than {most} tokens, or take more than '
      f'{config.width} tokens or {config.targets} of an answer.',
      flush=True,
    )
    if not taken:
      raise ValueError(
        'No question can be asked; raise config.data.segments, width or '
        'targets, or give documents as short as passages.'
      )
    self._names = tuple(self._questions)
    self.tokens = round(np.mean([lengths[name] for name in self._names]))

  def __call__(self, index: int) -> Passage:
    count, seed = len(self._names), self._config.seed
    name = self._names[_order(count, seed, index // count)[index % count]]
    ids = self._tokenizer.encode(self._documents[name].text)
    rng = random.Random(f'{seed}/{index}')
    questions = self._questions[name]
    most = min(self._config.questions, len(questions))
    chosen = _fitting(rng.sample(questions, most), self._config)
    return Passage(_segments(ids, self._config), chosen)


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
  return np.random.default_rng((seed, epoch)).permutation(count)


def _segments(ids: list[int], config: PassageConfig) -> list[list[int]]:
  length = config.segment_length
  return [ids[start : start + length] for start in range(0, len(ids), length)]


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
  passage_of: Callable[[int], Passage],
  config: PassageConfig,
  batch_size: int,
  here: Sequence[int] | None = None,
) -> grain.MapDataset:
  """An endless dataset of batches for `finetuning.compressor`.

  Each holds `segments` [B, S, T], `lengths` [B, S] and packed rows (see
  `data.batches.pack`), one for every `passages_per_context` of the B.
  `passage_of` gives the passage of each index from 0 up. `here` says which of
  the rows this process makes, whole contexts of them; None for all.
  """

  together = config.passages_per_context
  if batch_size > together and batch_size % together:
    raise ValueError(
      f'{batch_size} rows cannot be put {together} a context; make the rows a '
      'multiple of passages_per_context.'
    )

  def collate(indices: Sequence[int]) -> dict[str, np.ndarray]:
    mine = indices if here is None else [indices[row] for row in here]
    passages = [passage_of(int(index)) for index in mine]
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


def first_segments(passage_of: Callable[[int], Passage], passages: int = 400):
  """Yields the token ids of the segments of the first passages."""
  for index in range(passages):
    yield from passage_of(index).segments
