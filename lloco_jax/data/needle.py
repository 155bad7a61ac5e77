"""A needle in a haystack: one sentence in a long text, and a question on it.

Needles, depths and the grid are those of Tan et al. 2024 (arXiv 2404.07979;
github.com/jeffreysijuntan/lloco at commit 4f8a550, needle_util). The questions
are this project's: the released code has neither them nor the way in which
answers are judged. Nor are the cities the released ones, of which 14 are in
both splits; here no city and no text is.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
import functools
import itertools
import re

import numpy as np

from lloco_jax.data.cities import CITIES
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Dataset, Example, by_id
from lloco_jax.data.reports import make_dataset
from lloco_jax.data.texts import read_texts

PARTS = ('random', 'fixed')
GROUP = 'needle'
# Full stops are added, so that a needle is a sentence wherever it stands.
_RANDOM = 'The magic city is {city}.'
_RANDOM_QUESTION = 'What is the magic city?'
_FIXED = (
  "Mary's favourite fashion designer was Coco Chanel when she was a teenager."
)
_FIXED_QUESTION = (
  "Who was Mary's favourite fashion designer when she was a teenager?"
)
_FIXED_ANSWER = 'Coco Chanel'
# Behind a line or a sentence, with the space that follows it.
_END = re.compile(r'[.!?]["\'’”)\]]*(?:\s+|\Z)|[。！？।۔؟]+\s*|\n\s*')
# A haystack may end so many characters early, or a fifth of its own.
_EARLY = 1000
# Haystacks a split that are made, or read where there are as many.
_HAYSTACKS = 10


def make_needles(
  kind: str,
  tokenizer,
  lengths: Sequence[int],
  depths: Sequence[float],
  repeats: Mapping[str, int],
  seed: int = 0,
  path: str = '',
) -> Dataset:
  """Documents with a needle each, at every length and depth.

  A document has at most `length` tokens, its haystack ending with a whole line
  or sentence. The needle stands where `insert` puts it. Examples have the tags
  'length=...' and 'depth=...'.

  Args:
    kind: 'random' needles name a city, another one a repeat; the 'fixed'
      needle is always the same, and so has no training split.
    tokenizer: whose tokens the lengths are counted in.
    lengths: in tokens.
    depths: in percent, 0 the beginning.
    repeats: documents a length and depth, by split ('train', 'validation').
    seed: of cities and texts.
    path: of the haystacks' texts, see data/texts.py; every second one is of
      the other split. '' makes reports in their place.

  Raises:
    FileNotFoundError: there is no text at the path.
    ValueError: an argument is out of its range, or the texts are too short.
  """
  _check(kind, lengths, depths, repeats)
  splits = [name for name in CITIES if kind == 'random' or name != 'train']
  longest = max(lengths)
  if path:
    texts = _read(path, splits, tokenizer, longest)
    _check_texts(path, texts, kind)
  else:
    texts = _made(splits, seed, longest)
  documents, examples = [], {}
  for split in splits:
    needles = _needles(kind, split)
    haystack = _haystacks(tokenizer, texts[split], split)
    # The same for all needles, so that they share haystacks.
    reserve = max(len(tokenizer.encode(f' {text} ')) for text, _, _ in needles)
    random = np.random.default_rng((seed, splits.index(split)))
    examples[split] = []
    for length in lengths:
      for depth in depths:
        cities = random.permutation(len(needles))
        starts = random.permutation(len(texts[split]))
        for repeat in range(repeats[split]):
          needle, question, answer = needles[cities[repeat % len(needles)]]
          start = int(starts[repeat % len(starts)])
          text = _fill(
            tokenizer, functools.partial(haystack, start),
            needle, length, depth, reserve,
          )  # fmt: skip
          name = f'{split}-{length}-{depth:g}-{repeat}'
          tags = f'length={length}', f'depth={depth:g}'
          documents.append(Document(name, text, GROUP))
          examples[split].append(
            Example(f'{name}/0', question, (answer,), (name,), tags)
          )
  return Dataset(
    by_id(documents),
    {split: tuple(found) for split, found in examples.items()},
  )


def insert(haystack: str, needle: str, depth: float) -> str:
  """The haystack with a needle in it, at the end of a line or sentence.

  It is the last one within the first `depth` percent of the characters, which
  the end of the haystack counts as; where there is none, the needle is first.
  """
  ends = [*_ends(haystack), len(haystack)]
  place = _back(ends, round(len(haystack) * depth / 100)) or 0
  before, after = haystack[:place], haystack[place:]
  if before and not before[-1].isspace():
    before += ' '
  return f'{before}{needle} {after}' if after else before + needle


def _check(kind, lengths, depths, repeats):
  if kind not in PARTS:
    raise ValueError(f"The needle is '{kind}'; use one of {', '.join(PARTS)}.")
  for name, values, low, high in (
    ('lengths', lengths, 1, float('inf')),
    ('depths', depths, 0, 100),
  ):
    if not values or len(set(values)) < len(values):
      raise ValueError(
        f'The {name} of needles are {tuple(values)}; give one or more, each '
        'once.'
      )
    if not all(low <= value <= high for value in values):
      upper = '' if high == float('inf') else f' to {high}'
      raise ValueError(
        f'The {name} of needles are {tuple(values)}; each must be {low}'
        f'{upper or " or more"}.'
      )
  for split, count in repeats.items():
    if count < 1:
      raise ValueError(
        f'The {split} repeats of needles are {count}; there must be 1 or more.'
      )


def _check_texts(path, texts: dict[str, list[str]], kind: str) -> None:
  needles = [each for split in texts for each, _, _ in _needles(kind, split)]
  for text in itertools.chain(*texts.values()):
    there = next((needle for needle in needles if needle in text), None)
    if there:
      raise ValueError(
        f"A text of '{path}' holds the needle '{there}' already; take it out, "
        'or there would be two.'
      )


def _needles(kind: str, split: str) -> list[tuple[str, str, str]]:
  """Sentence, question and answer."""
  if kind == 'fixed':
    return [(_FIXED, _FIXED_QUESTION, _FIXED_ANSWER)]
  return [
    (_RANDOM.replace('{city}', city), _RANDOM_QUESTION, city)
    for city in CITIES[split]
  ]


def _made(splits, seed: int, longest: int) -> dict[str, list[str]]:
  """Reports, by split; a word is one token or more, so they are long enough."""
  words = max(longest, 40)
  # At the usual rate of facts the names of places run out at 100,000 words.
  made = make_dataset(seed, _HAYSTACKS, _HAYSTACKS, 0, words, 1.0).documents
  return {
    split: [text.text for key, text in made.items() if key.startswith(split)]
    for split in splits
  }


def _read(path, splits, tokenizer, longest: int) -> dict[str, list[str]]:
  """Texts by split, in turn, no more than it takes for the longest.

  A text that was there before, under another name, is passed over.
  """
  texts = {split: [] for split in splits}
  tokens = dict.fromkeys(splits, 0)
  known = set()
  for document in read_texts(path):
    if min(tokens.values()) >= _HAYSTACKS * longest:
      break
    if document.text in known:
      continue
    split = splits[len(known) % len(splits)]
    known.add(document.text)
    texts[split].append(document.text)
    tokens[split] += len(tokenizer.encode(document.text))
  for split, count in tokens.items():
    if count < longest:
      raise ValueError(
        f"Of the {len(known)} texts in '{path}', {len(texts[split])} are for "
        f'{split} and hold {count:,} tokens, fewer than the longest haystack, '
        f'{longest:,}; give more texts or shorter lengths.'
      )
  return texts


def _haystacks(
  tokenizer, texts: Sequence[str], split: str
) -> Callable[[int, int], str]:
  """Makes haystacks of a split's texts, each made once.

  The result takes the number of the text that a haystack begins with, which
  the next ones follow where it is too short, and its tokens.
  """
  counts = [len(tokenizer.encode(text)) for text in texts]

  @functools.cache
  def haystack(start: int, tokens: int) -> str:
    taken, found = [], 0
    for step in range(len(texts)):
      if found >= tokens:
        break
      place = (start + step) % len(texts)
      taken.append(texts[place].rstrip())
      found += counts[place]
    text = '\n\n'.join(taken)
    place = len(tokenizer.decode(tokenizer.encode(text)[:tokens]))
    end = _back(_ends(text), place)
    if not end or place - end > max(_EARLY, place // 5):
      raise ValueError(
        f'A haystack for {split} has no end of a line or sentence near the end '
        f'of its first {tokens:,} tokens ({text[:40]!r}...), where it would be '
        'cut and a needle find a place; break its text into lines, or give a '
        'greater length.'
      )
    return text[:end].rstrip()

  return haystack


def _fill(tokenizer, haystack, needle, length, depth, reserve) -> str:
  """A haystack of at most `length` tokens, the needle among them."""
  tokens = length - reserve
  while tokens > 0:
    text = insert(haystack(tokens), needle, depth)
    excess = len(tokenizer.encode(text)) - length
    if excess <= 0:
      return text
    tokens -= excess
  raise ValueError(
    f'A length of {length} tokens leaves no room for a haystack around the '
    f"needle '{needle}'; give a greater length."
  )


def _ends(text: str) -> list[int]:
  return [found.end() for found in _END.finditer(text)]


def _back(ends: Sequence[int], place: int) -> int | None:
  """The last of `ends` that is not behind `place`."""
  before = bisect.bisect_right(ends, place)
  return ends[before - 1] if before else None
