"""The offline stage: every document of a corpus into the summary store."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
import dataclasses
import hashlib

import jax
import numpy as np

from lloco_jax import processes
from lloco_jax.compression.inventory import (
  Inventory,
  Stored,
  refuse_other_store,
  take_inventory,
)
from lloco_jax.compression.lockstep import compress_batch
from lloco_jax.compression.schedule import CompressionConfig
from lloco_jax.compression.segments import check_compressor
from lloco_jax.compression.store import Record, Settings, Store
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import by_id
from lloco_jax.model import Model
from lloco_jax.progress import Progress

_SECONDS_BETWEEN_LINES = 5.0


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
  return Settings(
    compressor=compressor_fingerprint(model),
    tokenizer=model.need_tokenizer().fingerprint,
    segment_length=config.segment_length,
    summary_length=model.config.summary_length,
    accumulate=model.config.accumulate_summary,
    dtype=model.dtypes,
    block_characters=config.block_characters,
    token_cap=config.token_cap,
  )


def compress_documents(
  model: Model,
  documents: Mapping[str, Document] | Iterable[Document],
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
    documents: of the corpus; each id once. Those of a mapping by id are read
      one at a time, so that their texts need not fit the memory.
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
  inventory = take_inventory(model, by_id(documents), store, settings, progress)
  found = {name: inventory.stored[key] for name, key in inventory.keys.items()}
  _say_what_is_cut(found, settings.token_cap)
  if check is not None:
    check({name: entry.vectors for name, entry in found.items()})
  missing = inventory.missing
  if progress:
    print(_what_is_to_do(inventory), flush=True)
  meter = Progress(
    sum(map(inventory.unread, missing)),
    every=_SECONDS_BETWEEN_LINES,
    shown=progress,
  )
  finished = 0

  def tell(under_way=0):
    said = f'{finished} of {len(missing)} documents compressed'
    if under_way:
      said += f', {under_way} under way'
    meter.tell(said, at_last=finished == len(missing))

  for batch in inventory.batches(config):
    planned = sum(map(inventory.unread, batch))
    # Another program may have made some meanwhile, or longer beginnings.
    there = processes.agreed([store.find(key) is not None for key in batch])
    left = [
      inventory.record(key) for key, found in zip(batch, there) if not found
    ]
    known = _known_segments(store, settings, left)
    finished += len(batch) - len(left)
    meter.drop(
      planned
      - sum(
        record.tokens - segments * config.segment_length
        for record, (segments, _) in zip(left, known)
      )
    )
    if not left:
      tell()
      continue
    ids = [inventory.ids(record.key) for record in left]
    under_way = len(left)
    for read, done in compress_batch(
      model.params, model.config, config, ids, known
    ):
      for row, vectors in done:
        if not np.isfinite(vectors).all():
          raise ValueError(
            f"The summaries of document '{left[row].document}' hold numbers "
            f'that are not finite in {vectors.dtype}; give the model a wider '
            'dtype, or if it has float32 another checkpoint or compressor.'
          )
        if row % jax.process_count() == jax.process_index():
          store.save(left[row], vectors)
      finished += len(done)
      under_way -= len(done)
      meter.add(read)
      tell(under_way)
    processes.wait_for_all('a batch of documents')
  return found


def _known_segments(store: Store, settings: Settings, records: list[Record]):
  """The `longest_prefix` of each record, in all processes the same."""
  if records:
    store.index_new_files()
  known = [store.longest_prefix(settings, each.chain) for each in records]
  agreed = processes.agreed([segments for segments, _ in known])
  for index, segments in enumerate(agreed):
    if known[index][0] != segments:
      chain = records[index].chain[:segments]
      known[index] = store.longest_prefix(settings, chain)
      if known[index][0] != segments:
        refuse_other_store(store)
  return known


class StoredSummaries(Mapping[str, np.ndarray]):
  """Summary vectors [n, D] by document id, read when they are asked for.

  `stored` is what `compress_documents` returned.
  """

  def __init__(self, store: Store, stored: Mapping[str, Stored]):
    self._store, self._stored = store, stored

  def __getitem__(self, id: str) -> np.ndarray:
    return self._store.load(self._stored[id].key)

  def tokens_per_vector(self, ids: Iterable[str]) -> float:
    """Tokens of the documents' texts that a vector of them stands for."""
    stored = [self._stored[id] for id in ids]
    tokens = sum(each.tokens for each in stored)
    return tokens / sum(each.vectors for each in stored)

  def what_is_cut(self, ids: Iterable[str]) -> str:
    """A sentence about what the token cap cuts off the documents, or ''."""
    return _cut_in_all([self._stored[id] for id in ids])

  def __contains__(self, id) -> bool:
    return id in self._stored

  def __iter__(self) -> Iterator[str]:
    return iter(self._stored)

  def __len__(self) -> int:
    return len(self._stored)


def _say_what_is_cut(found: dict[str, Stored], token_cap: int) -> None:
  """Prints a line for each document that the token cap shortens."""
  cut = {name: each for name, each in found.items() if each.cut_tokens}
  for name, entry in cut.items():
    print(
      f"Document '{name}' has {entry.tokens + entry.cut_tokens:,} tokens; "
      f'the last {entry.cut_tokens:,} are cut off '
      f'(token_cap = {token_cap:,}).',
      flush=True,
    )
  if cut:
    print(_cut_in_all(found.values()), flush=True)


def _cut_in_all(stored: Collection[Stored]) -> str:
  lost = sum(entry.cut_tokens for entry in stored)
  if not lost:
    return ''
  every = lost + sum(entry.tokens for entry in stored)
  cut = sum(bool(entry.cut_tokens) for entry in stored)
  return (
    f'Cut off in all: {lost:,} of {every:,} tokens, from {cut} of '
    f'{len(stored)} documents.'
  )


def _what_is_to_do(inventory: Inventory) -> str:
  documents, texts = len(inventory.keys), len(inventory.stored)
  missing = inventory.missing
  if not missing:
    return f'{documents} of {documents} documents are in the store already.'
  parts = []
  if texts > len(missing):
    parts.append(f'{texts - len(missing)} in the store already')
  if documents > texts:
    parts.append(f"{documents - texts} with another one's text")
  unread = sum(map(inventory.unread, missing))
  shared = sum(inventory.stored[key].tokens for key in missing) - unread
  if shared:
    parts.append(f'{shared:,} more tokens known from the store')
  aside = f' ({"; ".join(parts)})' if parts else ''
  return (
    f'Compressing {len(missing)} of {documents} documents, '
    f'{unread:,} tokens{aside}. Each new shape is compiled first, so the '
    'start is slow.'
  )
