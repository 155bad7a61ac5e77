"""Made documents: reports full of facts that nobody can guess.

A report is a survey, an inspection, an expedition or an account of an estate.
It states facts about places, each in one sentence: (name, attribute, value),
the value drawn uniformly from a pool of common words. The same seed gives the
same report on every platform and Python.
"""

import bisect
import dataclasses
import hashlib
import random

from lloco_jax.data.attributes import ATTRIBUTES, Attribute
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Dataset, Example, by_id
from lloco_jax.data.filler import (
  ARRIVALS,
  KINDS,
  LEADS,
  SENTENCES,
  SLOTS,
  expand,
  pick,
)
from lloco_jax.data.words import FIRST_NAMES, SECOND_NAMES

SPLITS = ('train', 'validation')
# With fewer words a report has no headings; with far fewer, no opening.
_SECTIONED = 420
_OPENED = 120
# Tries to find filler that the report does not hold yet.
_TRIES = 20


@dataclasses.dataclass(frozen=True)
class Fact:
  """A place's value of an attribute, and where its sentence stands.

  The sentence is `text[start:end]` of the report's document.
  """

  name: str
  attribute: str
  value: str
  start: int
  end: int


@dataclasses.dataclass(frozen=True)
class Report:
  """A made document, its facts in reading order, one example for each."""

  document: Document
  facts: tuple[Fact, ...]
  examples: tuple[Example, ...]

  def examples_within(self, start: int, end: int) -> tuple[Example, ...]:
    """The examples whose fact sentence lies wholly in `text[start:end]`."""
    first = bisect.bisect_left(self.facts, start, key=lambda fact: fact.start)
    last = bisect.bisect_right(self.facts, end, key=lambda fact: fact.end)
    return self.examples[first:last]


def make_report(
  seed: int,
  words: int | tuple[int, int] = (1300, 4900),
  kind: str | None = None,
  split: str = 'train',
  facts_per_hundred_words: float = 4.0,
  document_id: str | None = None,
  group: str = 'reports',
) -> Report:
  """Makes a report.

  Args:
    seed: not negative; one seed is one report.
    words: length in words, or the range it is drawn from; met to within a
      few sentences.
    kind: one of `filler.KINDS`; None draws one.
    split: 'train' or 'validation'; no name of a place is in both.
    facts_per_hundred_words: facts are spread evenly at this rate.
    document_id: None makes one of the split and the seed.
    group: group of the document.

  Raises:
    ValueError: an argument is out of its range, or there are more facts than
      names of places.
  """
  _check(seed, words, kind, split, facts_per_hundred_words)
  rng = random.Random(seed)
  if not isinstance(words, int):
    words = words[0] + int(rng.random() * (words[1] - words[0] + 1))
  drawn = pick(rng, tuple(KINDS))
  count = max(1, round(words * facts_per_hundred_words / 100))
  facts = _draw_facts(rng, count, split)
  text, spans = _Writer(rng, kind or drawn, words).write(facts)
  document_id = document_id or f'report-{split}-{seed}'
  return Report(
    Document(document_id, text, group),
    tuple(
      Fact(name, attribute.key, value, start, end)
      for (name, attribute, value), (start, end) in zip(
        facts, spans, strict=True
      )
    ),
    tuple(
      Example(
        f'{document_id}/{index}',
        pick(rng, attribute.questions).format(name=name),
        (value,),
        (document_id,),
      )
      for index, (name, attribute, value) in enumerate(facts)
    ),
  )


def make_dataset(
  seed: int,
  train_documents: int,
  validation_documents: int,
  questions_per_document: int,
  words: int | tuple[int, int] = (1300, 4900),
  facts_per_hundred_words: float = 4.0,
  group: str = 'reports',
) -> Dataset:
  """Makes documents and examples of both splits.

  A document's questions are about facts spread evenly over it. The seeds of
  the reports are 62-bit numbers drawn from `seed`, so they meet no report that
  was made from a small seed of its own.

  Raises:
    ValueError: an argument is out of its range, or a document has fewer facts
      than `questions_per_document`.
  """
  documents, splits = [], {}
  for split, count in zip(
    SPLITS, (train_documents, validation_documents), strict=True
  ):
    examples = []
    for index in range(count):
      key = hashlib.sha256(f'{seed}/{split}/{index}'.encode()).digest()
      report = make_report(
        int.from_bytes(key[:8], 'big') >> 2,
        words,
        split=split,
        facts_per_hundred_words=facts_per_hundred_words,
        document_id=f'{split}-{index:03d}',
        group=group,
      )
      documents.append(report.document)
      examples += _spread(report, questions_per_document)
    splits[split] = tuple(examples)
  return Dataset(by_id(documents), splits)


def _check(seed, words, kind, split, facts_per_hundred_words):
  """Refuses what `make_report` cannot make."""
  if seed < 0:
    raise ValueError(f'The seed of a report is {seed}; use 0 or more.')
  if not isinstance(words, int) and len(words) != 2:
    raise ValueError(
      f'The words of a report are {tuple(words)}; give the least and the most, '
      'as (100, 200).'
    )
  low, high = (words, words) if isinstance(words, int) else words
  if not 40 <= low <= high:
    raise ValueError(
      f'A report cannot have {words} words; use 40 or more, or a range of it.'
    )
  if kind is not None and kind not in KINDS:
    raise ValueError(
      f"There is no kind of report '{kind}'; use one of {', '.join(KINDS)}."
    )
  if split not in SPLITS:
    raise ValueError(f"Split is '{split}'; use one of {', '.join(SPLITS)}.")
  if not 0 < facts_per_hundred_words <= 7:
    raise ValueError(
      f'facts_per_hundred_words is {facts_per_hundred_words}; use more than '
      '0 and at most 7, as a fact takes about 10 words.'
    )


def _draw_facts(
  rng: random.Random, count: int, split: str
) -> list[tuple[str, Attribute, str]]:
  """Draws `count` (name, attribute, value), in the order of reading."""
  names = _draw_names(rng, split)
  places = []
  facts = []
  while len(facts) < count:
    name = next(names, None)
    if name is None:
      raise ValueError(
        f'A report of {count} facts needs more names of places than there '
        'are; make it shorter, or lower facts_per_hundred_words.'
      )
    attributes = list(range(len(ATTRIBUTES)))
    for _ in range(min(1 + int(rng.random() * 3), count - len(facts))):
      attribute = ATTRIBUTES[
        attributes.pop(int(rng.random() * len(attributes)))
      ]
      facts.append((name, attribute, pick(rng, attribute.values)))
      places.append(len(facts))
  # Half of the facts stand beside the others of their place, half anywhere.
  for index in range(count):
    if rng.random() < 0.5:
      places[index] = 1 + rng.random() * count
  return [
    facts[index] for index in sorted(range(count), key=places.__getitem__)
  ]


def _draw_names(rng: random.Random, split: str):
  """Yields names of places of `split`, none twice.

  A pair of words belongs to the split that the sum of their places in the
  lists tells by its parity. First words are used up before one comes again.
  """
  parity = SPLITS.index(split)
  seconds = len(SECOND_NAMES) // 2
  used = set()
  while len(used) < len(FIRST_NAMES) * seconds:
    firsts = list(range(len(FIRST_NAMES)))
    while firsts:
      at = int(rng.random() * len(firsts))
      firsts[at], firsts[-1] = firsts[-1], firsts[at]
      first = firsts.pop()
      second = 2 * int(rng.random() * seconds) + (first + parity) % 2
      if (first, second) not in used:
        used.add((first, second))
        yield f'{FIRST_NAMES[first]} {SECOND_NAMES[second]}'


class _Writer:
  """Puts facts and filler into sentences, paragraphs and sections."""

  def __init__(self, rng: random.Random, kind: str, words: int):
    self.rng = rng
    self.kind = KINDS[kind]
    self.sentences = SENTENCES[kind]
    # One report is about one area in one year.
    self.slots = SLOTS[kind] | {
      slot: (pick(rng, SLOTS[kind][slot]),) for slot in ('area', 'year')
    }
    self.left = words
    self.text = ''
    self.used = set()
    self.to_paragraph = 0
    self.to_heading = 0 if words >= _SECTIONED else words

  def write(self, facts) -> tuple[str, list[tuple[int, int]]]:
    """Writes the report; returns its text and the span of each fact."""
    opened, sectioned = self.left >= _OPENED, self.to_heading == 0
    self.add(self.new(self.kind.titles), '')
    if opened:
      self.add(self.new(self.kind.openings), '\n\n')
    if sectioned:
      self.add(self.new(self.sentences), ' ')
      self.add(self.new(self.sentences), ' ')
    # A fact is due when no more words are left than this, give or take a few.
    due = [
      self.left * (1 - (index + 0.5 * self.rng.random()) / len(facts))
      for index in range(len(facts))
    ]
    spans = []
    named = set()
    while len(spans) < len(facts) or self.left > 6:
      gap = self.gap()
      if len(spans) == len(facts):
        self.add(self.new(self.sentences), gap)
        continue
      name, attribute, value = facts[len(spans)]
      if self.left <= due[len(spans)]:
        spans.append(self.add(self.state(name, attribute, value), gap))
        named.add(name)
      elif name not in named and self.rng.random() < 0.25:
        self.add(self.new(ARRIVALS).replace('{name}', name), gap)
        named.add(name)
      else:
        self.add(self.new(self.sentences), gap)
    return self.text, spans

  def gap(self) -> str:
    """What stands before the next sentence; writes a heading where due."""
    self.to_paragraph -= 1
    if self.to_paragraph >= 0 or self.left <= 20:
      return ' '
    self.to_paragraph = 3 + int(self.rng.random() * 4)
    if self.to_heading <= 0 and self.left > 60:
      self.add(self.new(self.kind.headings), '\n\n')
      self.to_heading = 200 + self.rng.random() * 200
    return '\n\n'

  def add(self, piece: str, gap: str) -> tuple[int, int]:
    """Appends `piece` after `gap`; returns its span."""
    self.text += gap
    start = len(self.text)
    self.text += piece
    words = piece.count(' ') + 1
    self.left -= words
    self.to_heading -= words
    return start, len(self.text)

  def new(self, templates: tuple[str, ...]) -> str:
    """Filler from `templates`, not in the report yet if it can be had."""
    for _ in range(_TRIES):
      piece = expand(self.rng, pick(self.rng, templates), self.slots)
      if piece not in self.used:
        break
    self.used.add(piece)
    return piece[0].upper() + piece[1:]

  def state(self, name: str, attribute: Attribute, value: str) -> str:
    """A sentence that states a fact."""
    template = pick(self.rng, attribute.statements)
    if self.rng.random() < 0.15:
      if not template.startswith('{name}'):
        template = template[0].lower() + template[1:]
      template = pick(self.rng, LEADS) + template
    return template.format(name=name, a=_article(value), value=value)


def _article(value: str) -> str:
  """'a' or 'an', as `value` asks."""
  return 'an' if value[0] in 'aeiou' else 'a'


def _spread(report: Report, count: int) -> list[Example]:
  """`count` examples of a report, evenly over its facts."""
  facts = len(report.examples)
  if facts < count:
    raise ValueError(
      f"Report '{report.document.id}' has {facts} facts, fewer than the "
      f'{count} questions asked for; make it longer or ask fewer.'
    )
  return [
    report.examples[(2 * index + 1) * facts // (2 * count)]
    for index in range(count)
  ]
