"""From a question to passages, to a group, to documents."""

from collections.abc import Sequence
import dataclasses

from lloco_jax.library.catalogue import Entry
from lloco_jax.library.library import Library
from lloco_jax.retrieval.search import FUSION

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

  Full-text search and text embedding put forward passages, which are joined
  by reciprocal rank fusion; a search gives nothing to what it did not find.

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
  searches = [
    library.catalogue.by_words(question, _CANDIDATES, group),
    library.catalogue.by_vector(vector, _CANDIDATES, group),
  ]
  texts, scores = {}, {}
  for rows in searches:
    for rank, (version, number, text, _) in enumerate(rows, 1):
      name = version, number
      texts[name] = text
      scores[name] = scores.get(name, 0.0) + 1 / (FUSION + rank)
  ordered = sorted(scores, key=scores.get, reverse=True)
  return [
    Hit(entries[name[0]], texts[name], scores[name])
    for name in ordered
    if name[0] in entries
  ][:count]


def vote(hits: Sequence[Hit]) -> str:
  """The group of most of the best hits, each weighed by its score.

  Raises:
    ValueError: there are no hits.
  """
  if not hits:
    raise ValueError('Nothing was found, so no group can be chosen.')
  weights = {}
  for hit in hits[:_VOTERS]:
    weights[hit.entry.group] = weights.get(hit.entry.group, 0.0) + hit.score
  return max(weights, key=weights.get)


def documents_of(hits: Sequence[Hit], count: int, room: int) -> list[Hit]:
  """The best hit of each of the first documents, best first.

  Args:
    hits: best first.
    count: documents at most.
    room: positions that their vectors may take.
  """
  chosen, places = [], set()
  for hit in hits:
    if len(chosen) == count:
      break
    if hit.entry.place not in places and hit.entry.vectors <= room:
      places.add(hit.entry.place)
      chosen.append(hit)
      room -= hit.entry.vectors
  return chosen
