"""Passages: documents cut into pieces, of which some answer a question.

Each document is cut on its own into runs of as many tokens (Tan et al. 2024
take 512), and the passages of the documents that a question is about are
searched for it.
"""

from collections.abc import Callable, Sequence
import dataclasses

from lloco_jax.data.contexts import Contexts, Span
from lloco_jax.retrieval.search import SEARCHES, Scores, best


@dataclasses.dataclass(frozen=True)
class Retrieval:
  """A way to find passages, and how large and how many they are.

  `search` is made of texts, see search.py.

  Raises:
    ValueError: a number is not positive.
  """

  search: Callable[[Sequence[str]], Scores] = SEARCHES['bm25']
  passage_tokens: int = 512
  passages: int = 5

  def __post_init__(self):
    for name in ('passage_tokens', 'passages'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} is {getattr(self, name)}; it must be >= 1.')


def cut(document_id: str, tokens: int, passage_tokens: int) -> list[Span]:
  """The passages of a document in order; the last may be shorter."""
  return [
    Span(document_id, start, min(start + passage_tokens, tokens))
    for start in range(0, tokens, passage_tokens)
  ]


class Finder:
  """Finds the passages of a question's documents that are best for it.

  What a question finds depends on its own documents alone, on no others that
  are evaluated: words are weighed by the passages of those.
  """

  def __init__(self, retrieval: Retrieval, contexts: Contexts, tokenizer):
    self._retrieval = retrieval
    self._contexts = contexts
    self._tokenizer = tokenizer
    self._latest = None, [], None

  def find(
    self, document_ids: tuple[str, ...], question: str
  ) -> tuple[Span, ...]:
    """The passages for a question about documents, best first.

    Raises:
      ValueError, ImportError: as the search, or a document is unknown.
    """
    if self._latest[0] != document_ids:
      self._latest = (document_ids, *self._index(document_ids))
    _, spans, scores = self._latest
    if not spans:
      return ()
    chosen = best(scores(question), self._retrieval.passages)
    return tuple(spans[place] for place in chosen)

  def _index(self, document_ids):
    spans, texts = [], []
    for key in dict.fromkeys(document_ids):
      tokens = self._contexts.text((key,))
      for span in cut(key, len(tokens), self._retrieval.passage_tokens):
        spans.append(span)
        texts.append(
          self._tokenizer.decode(tokens[span.start : span.stop].tolist())
        )
    return spans, self._retrieval.search(texts) if spans else None
