"""A library that grows: time to add, time to find, bytes on the disk.

Made passages, with words as frequent as in language (Zipf), are embedded and
entered in the database, as many at a time as when a folder is added; nothing
is compressed. Then questions, which are words of a passage, are searched for.

    python benchmarks/library.py
"""

import pathlib
import sys
import tempfile
import time

# The repository in place of this folder; see compression.py.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common, made_library
from lloco_jax.library.finding import find
from lloco_jax.library.library import Library
from lloco_jax.library.making import Making

_SYLLABLES = (
  'ba de ki lo mu na pe ri so tu va ze cha dro fli gra ost ern'.split()
)
_WORDS = 20_000
# As in a library that is made with the defaults.
_PART, _PASSAGE = Making().part_characters, Making().passage_characters
_AT_ONCE = 400_000 // _PASSAGE
_QUESTION_WORDS = 10


def make_words() -> np.ndarray:
  """Words of two to four syllables, each once."""
  random = np.random.default_rng(0)
  words = {}
  while len(words) < _WORDS:
    words[''.join(random.choice(_SYLLABLES, random.integers(2, 5)))] = True
  return np.array(list(words))


def make_passages(words: np.ndarray, count: int) -> list[str]:
  """Passages of about the length that files are cut to."""
  random = np.random.default_rng(1)
  shares = 1 / np.arange(1, len(words) + 1)
  shares /= shares.sum()
  length = round(_PASSAGE / (1 + sum(shares * np.char.str_len(words))))
  made = []
  for start in range(0, count, _AT_ONCE):
    size = min(_AT_ONCE, count - start), length
    made += map(' '.join, words[random.choice(len(words), size, p=shares)])
  return made


def measure(folder: pathlib.Path, passages: list[str], questions: int):
  """A row of each table of the report: adding, finding, bytes."""
  library = made_library.empty_library(folder)
  parts = max(_PART // _PASSAGE, 1)
  documents = [
    passages[start : start + parts] for start in range(0, len(passages), parts)
  ]
  at_once = max(_AT_ONCE // parts, 1)
  seconds = np.zeros(2)
  for start in range(0, len(documents), at_once):
    some = documents[start : start + at_once]
    seconds += made_library.put(library, some, start)
  began = time.perf_counter()
  library.catalogue.tidy()
  indexed = time.perf_counter() - began
  # As a program finds it that only asks.
  library = Library(folder, common.tiny_model())
  asked = questions_of(passages, questions + 1)
  times, found = [], 0
  for number, question in asked:
    began = time.perf_counter()
    hits = find(library, question)
    times.append(time.perf_counter() - began)
    found += any(
      made_library.number_of(hit.entry) == number // parts for hit in hits[:5]
    )
  first, *times = times
  files = [path for path in folder.rglob('*') if path.is_file()]
  size = sum(path.stat().st_size for path in files)
  count = len(passages)
  adding = {
    'documents': len(documents),
    'embed, s': seconds[0],
    'enter, s': seconds[1],
    'index, s': indexed,
    'passages/s': count / (seconds.sum() + indexed),
  }
  finding = {
    'first, ms': 1e3 * first,
    'p50, ms': 1e3 * float(np.quantile(times, 0.5)),
    'p99, ms': 1e3 * float(np.quantile(times, 0.99)),
    'in the best 5': found / len(asked),
  }
  held = {
    'MB': size / 1e6,
    'bytes a passage': size / count,
    'of them text': sum(map(len, passages)) / count,
  }
  return [{'passages': count, **each} for each in (adding, finding, held)]


def questions_of(passages: list[str], count: int) -> list[tuple[int, str]]:
  """Runs of words, and the places of the passages that they are from."""
  random = np.random.default_rng(2)
  found = []
  for number in random.choice(len(passages), count):
    words = passages[number].split()
    start = random.integers(max(len(words) - _QUESTION_WORDS, 1))
    found.append((number, ' '.join(words[start : start + _QUESTION_WORDS])))
  return found


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=None)
  parser.add_argument(
    '--passages', type=int, nargs='+', default=[1000, 10_000, 100_000]
  )
  parser.add_argument('--questions', type=int, default=200)
  args = parser.parse_args()
  common.shrink(args, passages=[30, 900], questions=5)
  where = common.environment()
  words = make_words()
  passages = make_passages(words, max(args.passages))
  rows = []
  for count in args.passages:
    with tempfile.TemporaryDirectory() as folder:
      place = pathlib.Path(folder) / 'library'
      rows.append(measure(place, passages[:count], args.questions))
  common.report(
    args,
    where,
    dict(zip(('Adding', 'Finding', 'On disk'), map(list, zip(*rows)))),
    (
      f'{args.questions} questions, one after the other, of {_QUESTION_WORDS} '
      'words that a passage has in a row, the first apart. No summaries: on '
      'the disk are texts, text embeddings and their index. Of the embedding '
      'and the database alone; compression takes far longer.',
    ),
  )


if __name__ == '__main__':
  main()
