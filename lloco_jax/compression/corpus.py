"""The offline stage: every document of a corpus into the summary store."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import hashlib

import jax
import numpy as np

from lloco_jax.compression.lockstep import compress_batch
from lloco_jax.compression.schedule import CompressionConfig, batch_documents
from lloco_jax.compression.segments import check_compressor, split_length
from lloco_jax.compression.store import Record, Settings, Store
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import by_id
from lloco_jax.model import Model
from lloco_jax.progress import Progress

_SECONDS_BETWEEN_LINES = 5.0


@dataclasses.dataclass(frozen=True)
class Stored:
  """Where the summaries of a document are, and what they are made of.

  `tokens` were compressed, `cut_tokens` lay behind the token cap.
  """

  key: str
  tokens: int
  cut_tokens: int
  vectors: int


def compressor_fingerprint(model: Model) -> str:
  """Identifies the checkpoint and what its config says.

  Of the config only fields that are not at their defaults count, so that a
  new field leaves old stores valid.
  """
  config = [
    (field.name, getattr(model.config, field.name))
    for field in dataclasses.fields(model.config)
    if getattr(model.config, field.name) != field.default
  ]
  return hashlib.sha256(f'{model.fingerprint} {config}'.encode()).hexdigest()


def store_settings(model: Model, config: CompressionConfig) -> Settings:
  """What the summaries depend on besides the text.

  Raises:
    ValueError: the model is no compressor or has no tokenizer.
  """
  check_compressor(model.config, config.segment_length)
  dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(model.params)}
  return Settings(
    compressor=compressor_fingerprint(model),
    tokenizer=model.need_tokenizer().fingerprint,
    segment_length=config.segment_length,
    summary_length=model.config.summary_length,
    accumulate=model.config.accumulate_summary,
    dtype='+'.join(sorted(dtypes)),
    block_characters=config.block_characters,
    token_cap=config.token_cap,
  )


def compress_documents(
  model: Model,
  documents: Iterable[Document],
  store: Store,
  config: CompressionConfig | None = None,
  progress: bool = True,
  check: Callable[[Mapping[str, int]], None] | None = None,
) -> dict[str, Stored]:
  """Compresses what the store does not have yet, each text once.

  A document is written as soon as it is done, and its vectors do not depend
  on the others, so a run that was killed is resumed by running it again. One
  that begins with the full segments of a document in the store goes on from
  there.

  Args:
    model: the compressor, with its tokenizer.
    documents: of the corpus; each id once.
    store: where the summaries are read and written.
    config: how documents are cut and batched.
    progress: prints how far it is. What the token cap cuts off and what is
      damaged in the store is printed in any case.
    check: is told how many vectors each document will have, by id, before
      the first is compressed, and raises an error to prevent it.

  Returns:
    Where each document's summaries are, by document id.

  Raises:
    ValueError: the model cannot compress documents, two documents share an
      id, or one has no tokens.
  """
  config = config or CompressionConfig()
  settings = store_settings(model, config)
  documents = by_id(documents)
  keys = {name: settings.key(each.text) for name, each in documents.items()}
  first_names = {}
  for name, key in keys.items():
    first_names.setdefault(key, name)
  records = {key: store.find(key) for key in first_names}
  missing = [key for key in records if records[key] is None]
  if progress and missing:
    print(f'Tokenising {len(missing)} documents.', flush=True)
  texts = {}
  for key in missing:
    document = documents[first_names[key]]
    records[key], texts[key] = _tokenise(model, document, key, settings)
  _say_what_is_cut({name: records[key] for name, key in keys.items()})
  if check is not None:
    check({name: _stored(records[key]).vectors for name, key in keys.items()})

  # Only how many segments: their vectors are read when their turn comes.
  shared = [
    store.longest_prefix(settings, records[key].chain)[0] for key in missing
  ]
  unread = {
    key: records[key].tokens - segments * config.segment_length
    for key, segments in zip(missing, shared)
  }
  if progress:
    print(_what_is_to_do(len(keys), records, unread), flush=True)
  meter = Progress(
    sum(unread.values()), every=_SECONDS_BETWEEN_LINES, shown=progress
  )
  finished = 0

  def tell(under_way=0):
    said = f'{finished} of {len(missing)} documents compressed'
    if under_way:
      said += f', {under_way} under way'
    meter.tell(said, at_last=finished == len(missing))

  lengths = [records[key].tokens for key in missing]
  for batch in batch_documents(lengths, config, shared):
    batch = [missing[index] for index in batch]
    planned = sum(unread[key] for key in batch)
    # Another program may have made some meanwhile, or longer beginnings.
    left = [key for key in batch if not store.find(key)]
    known = [store.longest_prefix(settings, records[key].chain) for key in left]
    finished += len(batch) - len(left)
    meter.drop(
      planned
      - sum(
        records[key].tokens - segments * config.segment_length
        for key, (segments, _) in zip(left, known)
      )
    )
    if not left:
      tell()
      continue
    ids = [texts[key] for key in left]
    under_way = len(left)
    for read, done in compress_batch(
      model.params, model.config, config, ids, known
    ):
      for row, vectors in done:
        store.save(records[left[row]], vectors)
      finished += len(done)
      under_way -= len(done)
      meter.add(read)
      tell(under_way)
  return {name: _stored(records[key]) for name, key in keys.items()}


def _tokenise(model, document, key, settings) -> tuple[Record, np.ndarray]:
  """The record of a document that is to be compressed, and its token ids."""
  ids = model.tokenizer.encode(document.text, settings.block_characters)
  ids = np.asarray(ids, np.int32)
  if ids.size == 0:
    raise ValueError(
      f"Document '{document.id}' has no tokens; remove it or give it a text."
    )
  if ids.max() >= model.config.vocab_size:
    raise ValueError(
      f"Document '{document.id}' has the token id {ids.max()}, outside the "
      f"model's vocabulary of {model.config.vocab_size}; the tokenizer is of "
      'another checkpoint.'
    )
  kept = ids[: settings.token_cap]
  record = Record(
    key=key,
    document=document.id,
    settings=settings,
    tokens=len(kept),
    cut_tokens=len(ids) - len(kept),
    segment_lengths=tuple(split_length(len(kept), settings.segment_length)),
    chain=tuple(settings.chain(kept)),
  )
  return record, kept


def _stored(record: Record) -> Stored:
  settings = record.settings
  segments = len(record.segment_lengths) if settings.accumulate else 1
  return Stored(
    record.key,
    record.tokens,
    record.cut_tokens,
    segments * settings.summary_length,
  )


def _say_what_is_cut(records: dict[str, Record]) -> None:
  """Prints a line for each document that the token cap shortens."""
  cut = {name: each for name, each in records.items() if each.cut_tokens}
  for name, record in cut.items():
    print(
      f"Document '{name}' has {record.tokens + record.cut_tokens:,} tokens; "
      f'the last {record.cut_tokens:,} are cut off '
      f'(token_cap = {record.settings.token_cap:,}).',
      flush=True,
    )
  if cut:
    lost = sum(record.cut_tokens for record in cut.values())
    every = lost + sum(record.tokens for record in records.values())
    print(
      f'Cut off in all: {lost:,} of {every:,} tokens, from {len(cut)} of '
      f'{len(records)} documents.',
      flush=True,
    )


def _what_is_to_do(
  documents: int, records: dict[str, Record], unread: dict[str, int]
) -> str:
  if not unread:
    return f'{documents} of {documents} documents are in the store already.'
  parts = []
  if len(records) > len(unread):
    parts.append(f'{len(records) - len(unread)} in the store already')
  if documents > len(records):
    parts.append(f"{documents - len(records)} with another one's text")
  tokens = sum(records[key].tokens for key in unread)
  shared = tokens - sum(unread.values())
  if shared:
    parts.append(f'{shared:,} more tokens known from the store')
  aside = f' ({"; ".join(parts)})' if parts else ''
  return (
    f'Compressing {len(unread)} of {documents} documents, '
    f'{sum(unread.values()):,} tokens{aside}. Each new shape is compiled '
    'first, so the start is slow.'
  )
