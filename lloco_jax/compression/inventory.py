"""What of a corpus the store has already, and what has to be compressed.

Texts are read one at a time and token ids lie on the disk: of a corpus only
names, lengths and hashes are in memory, and of the hashes one a document.
"""

from collections.abc import Mapping
import dataclasses

import numpy as np

from lloco_jax import processes
from lloco_jax.compression.schedule import CompressionConfig, batch_documents
from lloco_jax.compression.segments import split_length
from lloco_jax.compression.store import Record, Settings, Store
from lloco_jax.data.documents import Document
from lloco_jax.model import Model
from lloco_jax.progress import Progress
from lloco_jax.scratch import Place, Scratch


@dataclasses.dataclass(frozen=True)
class Stored:
  """Where the summaries of a document are, and what they are made of.

  `tokens` were compressed, `cut_tokens` lay behind the token cap.
  """

  key: str
  tokens: int
  cut_tokens: int
  vectors: int


@dataclasses.dataclass(frozen=True)
class Missing:
  """A text that is to be compressed.

  `document` is the id that it came under first; `known` counts the segments
  at its beginning whose vectors the store has.
  """

  document: str
  ids: Place
  known: int


class Inventory:
  """The texts of a corpus by their keys in the store.

  `keys` are by document id; `stored` says of every key what is, or will be,
  in the store; `missing` holds those that are to be compressed.
  """

  def __init__(self, settings: Settings):
    self.settings = settings
    self.keys: dict[str, str] = {}
    self.stored: dict[str, Stored] = {}
    self.missing: dict[str, Missing] = {}
    self._ids = Scratch()

  def unread(self, key: str) -> int:
    """Tokens of a missing text that no stored vectors stand for."""
    known = self.missing[key].known * self.settings.segment_length
    return self.stored[key].tokens - known

  def ids(self, key: str) -> np.ndarray:
    """Token ids int32 [T] of a missing text, up to the cap."""
    return np.frombuffer(self._ids.read(self.missing[key].ids), np.int32)

  def record(self, key: str) -> Record:
    """What the file of a missing text will say of it."""
    name, cut = self.missing[key].document, self.stored[key].cut_tokens
    return _record(self.settings, key, name, self.ids(key), cut)

  def batches(self, config: CompressionConfig) -> list[list[str]]:
    """The keys of missing texts that are compressed together."""
    keys = list(self.missing)
    tokens = [self.stored[key].tokens for key in keys]
    known = [self.missing[key].known for key in keys]
    return [
      [keys[place] for place in batch]
      for batch in batch_documents(tokens, config, known)
    ]

  def add(self, record: Record, ids: np.ndarray | None, known: int = 0) -> None:
    """Takes up a text; `ids` are given where it is missing."""
    self.stored[record.key] = _stored(record)
    if ids is not None:
      place = self._ids.add(ids.tobytes())
      self.missing[record.key] = Missing(record.document, place, known)


def take_inventory(
  model: Model,
  documents: Mapping[str, Document],
  store: Store,
  settings: Settings,
  progress: bool = True,
) -> Inventory:
  """Reads every text, and tokenises those that the store does not have.

  Raises:
    ValueError: a document has no tokens, or the tokenizer is of another
      checkpoint.
  """
  inventory, first_names = Inventory(settings), {}
  for name in documents:
    key = settings.key(documents[name].text)
    inventory.keys[name] = key
    first_names.setdefault(key, name)
  found = []
  for key in first_names:
    record = store.find(key)
    found.append(record is not None)
    if record is not None:
      inventory.add(record, None)
  there = processes.agreed(found)
  if any(theirs and not mine for theirs, mine in zip(there, found)):
    refuse_other_store(store)
  missing = [key for key, theirs in zip(first_names, there) if not theirs]
  if progress and missing:
    print(f'Tokenising {len(missing)} documents.', flush=True)
  if missing:
    store.index_new_files()
  meter = Progress(shown=progress)
  for number, key in enumerate(missing, 1):
    name = first_names[key]
    ids, cut = _tokenise(model, documents[name], settings)
    record = _record(settings, key, name, ids, cut)
    inventory.add(record, ids, store.longest_prefix(settings, record.chain)[0])
    meter.add(len(ids))
    meter.tell(f'{number} of {len(missing)} documents tokenised')
  known = processes.agreed([inventory.missing[key].known for key in missing])
  for key, segments in zip(missing, known):
    entry = inventory.missing[key]
    inventory.missing[key] = dataclasses.replace(entry, known=segments)
  return inventory


def refuse_other_store(store: Store) -> None:
  """Raises OSError: what the processes find in the store is not the same."""
  raise OSError(
    f'The processes of this run find different summaries in {store.folder}; '
    'give all hosts one shared folder (config.compression.store).'
  )


def _tokenise(model, document, settings) -> tuple[np.ndarray, int]:
  """Token ids of a document up to the cap, and how many are behind it."""
  ids = model.tokenizer.encode(document.text, settings.block_characters)
  ids = np.asarray(ids, np.int32)
  if ids.size == 0:
    raise ValueError(
      f"Document '{document.id}' has no tokens; remove it or give it a text."
    )
  model.config.check_ids(ids, f"Document '{document.id}'")
  kept = ids[: settings.token_cap]
  return kept, len(ids) - len(kept)


def _record(settings, key, document, ids, cut_tokens) -> Record:
  return Record(
    key=key,
    document=document,
    settings=settings,
    tokens=len(ids),
    cut_tokens=cut_tokens,
    segment_lengths=tuple(split_length(len(ids), settings.segment_length)),
    chain=tuple(settings.chain(ids)),
  )


def _stored(record: Record) -> Stored:
  settings = record.settings
  segments = len(record.segment_lengths) if settings.accumulate else 1
  return Stored(
    record.key,
    record.tokens,
    record.cut_tokens,
    segments * settings.summary_length,
  )
