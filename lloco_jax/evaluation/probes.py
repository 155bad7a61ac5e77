"""Probes: what summary vectors keep of what a text tells a reader.

The end of a passage is predicted by one reader that was given nothing, the
text before it, the summary vectors of that text, as many of its last tokens, or
the vectors of another passage. The share kept is what those gain of what the
text gains. Most of that is in the last tokens, whatever a compressor does.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import hashlib

import numpy as np

from lloco_jax import api
from lloco_jax.data.batches import IGNORED
from lloco_jax.model import Model


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
  """`text` [S T], the segments that are read, and `target` [n], its end."""

  document_id: str
  text: np.ndarray
  target: np.ndarray


@dataclasses.dataclass(frozen=True)
class ProbeLosses:
  """Nats a token of the target, by what the reader was given before it.

  `text` is None where the text and the target exceed the reader's window.
  """

  document_id: str
  nothing: float
  text: float | None
  summaries: float
  last_tokens: float
  other_summaries: float


def make_probes(
  documents: Iterable[tuple[str, Sequence[int]]],
  text_tokens: int,
  target_tokens: int,
  per_document: int,
) -> list[Probe]:
  """Passages spread evenly over each document, which they may not fill.

  Args:
    documents: ids of documents, and their token ids.
    text_tokens: tokens of the text of a probe.
    target_tokens: tokens of its end.
    per_document: probes a document has, unless it is too short for so many
      that do not overlap; the last one ends where the document does.

  A document with the tokens of another counts once.

  Raises:
    ValueError: no two documents are long enough, so that a probe has no other
      document; or two have the same id.
  """
  size = text_tokens + target_tokens
  probes, ids, texts, twins = [], set(), set(), 0
  for document_id, tokens in documents:
    if document_id in ids:
      raise ValueError(
        f"Two documents have the id '{document_id}'; give each its own, also "
        'in other files.'
      )
    ids.add(document_id)
    if len(tokens) < size:
      continue
    text = hashlib.sha256(np.asarray(tokens, np.int32).tobytes()).digest()
    if text in texts:
      twins += 1
      continue
    texts.add(text)
    # They are as far apart as the first is from the beginning.
    count = min(per_document, max(len(tokens) // size - 1, 1))
    for start in np.linspace(0, len(tokens) - size, count + 1)[1:]:
      passage = np.asarray(tokens[int(start) : int(start) + size], np.int32)
      probes.append(
        Probe(document_id, passage[:text_tokens], passage[text_tokens:])
      )
  if twins:
    print(f'Documents with the text of another, passed over: {twins:,}.')
  if len({probe.document_id for probe in probes}) < 2:
    raise ValueError(
      f'Fewer than two documents have {size} tokens; give more or longer '
      'documents, or shorter segments.'
    )
  return probes


def probe_losses(
  reader: Model,
  compressor: Model,
  probes: Sequence[Probe],
  segment_length: int,
  segments: int,
  adapter=None,
) -> Iterable[ProbeLosses]:
  """Losses of the probes given the last `segments` of their text.

  The first token of a target is never predicted, so that all losses are of
  the same tokens. The other summaries are those of the next document's probe.

  Args:
    reader: predicts; a base, or the compressor itself.
    compressor: writes the vectors.
    probes: see `make_probes`.
    segment_length: tokens of a segment.
    segments: how many are read; 0 gives nothing in every case.
    adapter: of the reader.

  Raises:
    ValueError: vectors and target exceed the reader's window, or the texts are
      shorter than the segments.
  """
  size = segments * segment_length
  if size > min(len(probe.text) for probe in probes):
    raise ValueError(
      f'{segments} segments of {segment_length} tokens are more than the '
      "probes' texts have; make probes with longer texts."
    )

  def loss(probe, before=(), context=None):
    ids = np.concatenate([np.asarray(before, np.int32), probe.target])
    labels = np.full_like(ids, IGNORED)
    labels[len(before) + 1 :] = probe.target[1:]
    return float(api.loss(reader, ids, labels, context, adapter))

  def last(probe, count=size):
    return probe.text[len(probe.text) - count :]

  fits = size + len(probes[0].target) <= reader.window
  vectors = [None] * len(probes)
  if segments:
    vectors = [
      api.compress(compressor, last(probe), segment_length) for probe in probes
    ]
  for index, probe in enumerate(probes):
    own, other = vectors[index], _other(probes, index)
    yield ProbeLosses(
      document_id=probe.document_id,
      nothing=loss(probe),
      text=loss(probe, last(probe)) if fits else None,
      summaries=loss(probe, context=own),
      last_tokens=loss(probe, last(probe, 0 if own is None else len(own))),
      other_summaries=loss(probe, context=vectors[other]),
    )


def _other(probes: Sequence[Probe], index: int) -> int:
  """The place of the next probe of another document, around the end."""
  own = probes[index].document_id
  for step in range(1, len(probes)):
    place = (index + step) % len(probes)
    if probes[place].document_id != own:
      return place
  raise ValueError('All probes are of one document; give another.')
