"""A library of passages without summaries, for what is searched alone."""

from collections.abc import Sequence
import hashlib
import time

from benchmarks import common
from lloco_jax.library.catalogue import Entry, Passage
from lloco_jax.library.library import Library
from lloco_jax.library.making import Making

GROUP = 'made'


def empty_library(folder) -> Library:
  """A library that has a model in name alone."""
  model = common.tiny_model()
  return Library.make(folder, Making(model=model.name, compressor=''), model)


def put(library: Library, documents: Sequence[Sequence[str]], start: int = 0):
  """Enters documents of passages, as if they had been compressed.

  Args:
    library: to put them into.
    documents: the texts of the passages of each.
    start: the number of the first of them; see `number_of`.

  Returns:
    Seconds that the text embedding took, and those of the database.
  """
  texts = [text for passages in documents for text in passages]
  began = time.perf_counter()
  vectors = iter(library.vectors(texts))
  embedded = time.perf_counter()
  entries, passages = [], []
  for number, pieces in enumerate(documents, start):
    digest = hashlib.sha256(''.join(pieces).encode()).hexdigest()
    entry = Entry(
      path=f'/made/{number}',
      part=1,
      parts=1,
      group=GROUP,
      file_hash=digest,
      text_hash=digest,
      characters=sum(map(len, pieces)),
      key=digest,
      tokens=1,
      cut_tokens=0,
      vectors=1,
      passages=len(pieces),
    )
    entries.append(entry)
    passages += [
      Passage(entry.version, place, GROUP, text, next(vectors))
      for place, text in enumerate(pieces)
    ]
  library.catalogue.put(entries, passages)
  return embedded - began, time.perf_counter() - embedded


def number_of(entry: Entry) -> int:
  """The number that a document was put under."""
  return int(entry.path.rpartition('/')[2])
