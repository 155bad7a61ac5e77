"""Contexts: what is put before the questions about documents.

LLoCO reads summary vectors; the systems it is compared with read the text,
its beginning, passages found in it or nothing, or the summaries of other
documents.
"""

import bisect
from collections.abc import Iterable, Mapping
import dataclasses
import enum
from typing import NamedTuple

import numpy as np

from lloco_jax.buckets import bucket
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import by_id
from lloco_jax.scratch import Scratch

SMALLEST_CONTEXT = 64


class ContextKind(enum.Enum):
  """What a system reads before a question."""

  NONE = 'nothing'
  FULL = 'the full text'
  WINDOW = 'the beginning of the text, as much as fits the window'
  BUDGET = 'the beginning of the text, as many tokens as the summaries take'
  PASSAGES = 'passages of the text that are found for the question'
  SUMMARIES = 'the summaries'
  OTHER_SUMMARIES = "another document's summaries"


class Span(NamedTuple):
  """A run of a document's tokens, from `start` to before `stop`."""

  document_id: str
  start: int
  stop: int


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
  """Token ids int32 [t] or summary vectors [n, D]; its length is t or n."""

  values: np.ndarray

  @property
  def is_text(self) -> bool:
    return self.values.ndim == 1

  def __len__(self) -> int:
    return self.values.shape[0]


class Contexts:
  """Makes the contexts of a split's documents.

  Texts are tokenised once, and their token ids lie on the disk. The texts of
  an example about several documents are joined by an empty line, their
  summaries one after the other.

  Args:
    documents: of the split; other documents' summaries come from among them.
    tokenizer: of what reads them.
    summaries: [n, D] by document id, for the kinds that need them.
    window: positions that text may take; summaries are never cut.
  """

  def __init__(
    self,
    documents: Mapping[str, Document] | Iterable[Document],
    tokenizer,
    summaries: Mapping[str, np.ndarray],
    window: int,
  ):
    self._documents = by_id(documents)
    self._sorted = sorted(self._documents)
    self._tokenizer = tokenizer
    self._summaries = summaries
    self._window = window
    self._tokens = Scratch()
    self._places = {}

  def of(
    self,
    kind: ContextKind,
    document_ids: tuple[str, ...],
    reserve: int,
    spans: tuple[Span, ...] = (),
    around: tuple[str, str] = ('', ''),
  ) -> Context | None:
    """The context of questions about some documents.

    Args:
      kind: what of them is read.
      document_ids: in the order of reading.
      reserve: positions kept free for a question and its new tokens.
      spans: the passages, best first; an empty line stands between them, and
        the window cuts off what it has no room for.
      around: what stands before and behind the full text or its beginning, as
        part of it.

    Returns:
      None where the full text does not fit the window.

    Raises:
      ValueError: a document or its summaries are missing, or there is no
        other document.
    """
    room = max(self._window - reserve, 0)
    match kind:
      case ContextKind.NONE:
        return Context(np.zeros(0, np.int32))
      case ContextKind.PASSAGES:
        return Context(self._passages(spans)[:room])
      case ContextKind.FULL:
        tokens = self.text(document_ids, around)
        return Context(tokens) if len(tokens) <= room else None
      case ContextKind.WINDOW:
        return Context(self.text(document_ids, around)[:room])
      case ContextKind.BUDGET:
        beginnings = [
          self.text((key,))[: len(self._vectors(key))] for key in document_ids
        ]
        return Context(np.concatenate(beginnings))
      case ContextKind.OTHER_SUMMARIES:
        document_ids = other_documents(document_ids, self._sorted)
    return Context(np.concatenate([self._vectors(key) for key in document_ids]))

  def text(
    self, document_ids: tuple[str, ...], around: tuple[str, str] = ('', '')
  ) -> np.ndarray:
    """Token ids int32 [t] of the documents' joined texts, and what is around.

    Raises:
      ValueError: a document is unknown.
    """
    name = (document_ids, around)
    if name not in self._places:
      text = '\n\n'.join(self._find(key).text for key in document_ids)
      tokens = self._tokenizer.encode(text.join(around))
      tokens = np.asarray(tokens, np.int32)
      self._places[name] = self._tokens.add(tokens.tobytes())
      return tokens
    data = self._tokens.read(self._places[name])
    return np.frombuffer(data, np.int32)

  def _passages(self, spans):
    gap = np.asarray(self._tokenizer.encode('\n\n'), np.int32)
    pieces = [np.zeros(0, np.int32)]
    for key, start, stop in spans:
      pieces += [gap, self.text((key,))[start:stop]]
    return np.concatenate(pieces[:1] + pieces[2:])

  def _vectors(self, document_id):
    if document_id not in self._summaries:
      raise ValueError(
        f"Document '{document_id}' has no summaries; compress it first."
      )
    return np.asarray(self._summaries[document_id])

  def _find(self, document_id):
    if document_id not in self._documents:
      raise ValueError(
        f"Document '{document_id}' is not among the documents; add it or "
        'correct the id.'
      )
    return self._documents[document_id]


def other_documents(
  document_ids: tuple[str, ...], sorted_ids: list[str]
) -> tuple[str, ...]:
  """As many documents that a question is not about.

  They follow its first document in the sorted ids, around the end, so that
  every document is the other of exactly one where questions have one each.
  They repeat where there are too few.

  Raises:
    ValueError: there is none.
  """
  others = [key for key in sorted_ids if key not in document_ids]
  if not others:
    raise ValueError(
      'There is no other document to take summaries from than '
      f"'{', '.join(document_ids)}'; add one, or leave this system out."
    )
  start = bisect.bisect(others, document_ids[0])
  return tuple(
    others[(start + index) % len(others)] for index in range(len(document_ids))
  )


def context_bucket(length: int, window: int) -> int:
  """Slots of a context: 0, 64, 96, 128, 192, ... up to the window."""
  return min(bucket(length, SMALLEST_CONTEXT), window)
