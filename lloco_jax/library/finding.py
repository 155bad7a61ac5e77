"""From a question to passages, to a group, to documents."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from lloco_jax.library.catalogue import Entry
from lloco_jax.library.library import Library
from lloco_jax.retrieval.search import fuse

# Passages that each search puts forward, and hits that choose the group.
_CANDIDATES = 100
_VOTERS = 5


@dataclasses.dataclass(frozen=True)
class Hit:
  """A passage that was found, its document, and its score."""

  entry: Entry
  text: str
  score: float


def find(
  library: Library, question: str, count: int = 20, group: str | None = None
) -> list[Hit]:
  """The passages of a library that fit a question best, best first.

  Full-text search and text embedding put forward passages, whose scores are
  joined by `fuse`. What the words did not find has 0 of them, and what the
  embedding did not, the least of the cosines that it found.

  Args:
    library: to search.
    question: in words.
    count: passages at most.
    group: search this group alone.

  Raises:
    ValueError: the library has no documents, or none of the group.
  """
  if not question.strip():
    raise ValueError('The question is empty; ask something.')
  entries = library.catalogue.by_version()
  groups = sorted({entry.group for entry in entries.values()})
  if not entries:
    raise ValueError(
      f'The library {library.folder} has no documents; add some with: python '
      '-m lloco_jax library add FOLDER'
    )
  if group is not None and group not in groups:
    raise ValueError(
      f"The library has no group '{group}'; it has {', '.join(groups)}."
    )
  vector = library.vectors([question])[0]
  words = library.catalogue.by_words(question, _CANDIDATES, group)
  vectors = library.catalogue.by_vector(vector, _CANDIDATES, group)
  texts = {row[:2]: row[2] for row in (*words, *vectors)}
  words, vectors = (
    {row[:2]: row[3] for row in found} for found in (words, vectors)
  )
  least = min(vectors.values(), default=0.0)
  scores = fuse(
    np.array([words.get(name, 0.0) for name in texts]),
    np.array([vectors.get(name, least) for name in texts]),
  )
  found = [
    (-float(score), entries[version].name, number, version)
    for (version, number), score in zip(texts, scores)
    if version in entries
  ]
  # The database gives equal scores in any order; here it is that of the names.
  return [
    Hit(entries[version], texts[version, number], -score)
    for score, _, number, version in sorted(found)[:count]
  ]


def find_in_group(
  library: Library, question: str, group: str | None = None
) -> tuple[str, list[Hit]]:
  """A group, by default the one that the best hits vote for, and its hits.

  Raises:
    ValueError: as `find`.
  """
  hits = find(library, question, group=group)
  group = group or vote(hits)
  return group, [hit for hit in hits if hit.entry.group == group]


def vote(hits: Sequence[Hit]) -> str:
  """The group of most of the best hits, each weighed by its score.

  Raises:
    ValueError: there are no hits.
  """
  if not hits:
    raise ValueError('Nothing was found, so no group can be chosen.')
  weights = {}
  for hit in hits[:_VOTERS]:
    weight = weights.get(hit.entry.group, 0.0)
    weights[hit.entry.group] = weight + max(hit.score, 0.0)
  return max(weights, key=weights.get)


def documents_of(hits: Sequence[Hit], count: int, room: int) -> list[Hit]:
  """The best hit of each of the first documents, best first.

  Of documents with the same text and so the same summaries one is enough.

  Args:
    hits: best first.
    count: documents at most.
    room: positions that their vectors may take.
  """
  chosen, read = [], set()
  for hit in hits:
    if len(chosen) == count:
      break
    if hit.entry.key not in read and hit.entry.vectors <= room:
      read.add(hit.entry.key)
      chosen.append(hit)
      room -= hit.entry.vectors
  return chosen
