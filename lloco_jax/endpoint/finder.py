"""From a question to what the engine reads for it."""

import dataclasses
import hashlib
import pathlib

from flax.traverse_util import flatten_dict
import numpy as np

from lloco_jax.data.prompts import Prompt, encode_question
from lloco_jax.library.asking import (
  check_documents,
  check_question,
  choose_sources,
  read_summaries,
)
from lloco_jax.library.finding import Hit, find_in_group
from lloco_jax.library.library import Library
from lloco_jax.library.making import RESERVE
from lloco_jax.nn.lora import Adapter
from lloco_jax.serving.slots import Room

# The model that stands for all groups. No group can be called so.
ANY = 'library/any'
# Of a question, for each token that there is room for: more than words have.
_MOST_CHARACTERS = 32


@dataclasses.dataclass(frozen=True)
class NamedAdapter:
  """An adapter, and a name that it shares with its equals alone."""

  name: str
  adapter: Adapter


@dataclasses.dataclass(frozen=True)
class Reading:
  """What is read for a question.

  `ids` are the prompt's tokens, `vectors` [n, D] the summaries of the documents
  of `sources`, in their order.
  """

  group: str
  ids: list[int]
  vectors: np.ndarray
  sources: tuple[Hit, ...]
  adapter: NamedAdapter | None


class Finder:
  """Finds documents of a library, their summaries and adapters.

  What other programs do to the library counts from the next question on. Not to
  be called from several threads at once.

  Args:
    library: that is asked. Its model's weights are not needed.
    documents: to read for a question at most.
    room: the most that the engine reads.

  Raises:
    ValueError: documents is below 1.
  """

  def __init__(self, library: Library, documents: int, room: Room):
    check_documents(documents)
    self.library = library
    self._documents, self._room = documents, room
    self._window = library.model.window
    # State of the files, adapter and prompt, by group.
    self._adapters = {}

  def groups(self) -> list[str]:
    """Of the library, in the order of the alphabet."""
    return sorted({e.group for e in self.library.catalogue.entries()})

  def read(
    self, question: str, group: str | None = None, max_new_tokens: int = 64
  ) -> Reading:
    """What `ask` reads for a question, of a group or of the one it finds.

    Raises:
      ValueError: it is empty, or there is no room for it or for the documents.
      RuntimeError: the library is damaged.
    """
    check_question(question)
    self._check_length(question)
    group, hits = find_in_group(self.library, question, group)
    adapter, prompt = self.adapter(group)
    tokenizer = self.library.model.need_tokenizer()
    ids = encode_question(tokenizer, prompt, question)
    self._check_tokens(len(ids))
    sources = choose_sources(
      hits, self._documents, len(ids), max_new_tokens, self._window
    )
    needed = sum(hit.entry.vectors for hit in sources)
    if needed > self._room.context:
      raise ValueError(
        f'The documents that were found have {needed:,} vectors, of at most '
        f'{self._room.context:,}; serve with --context={needed}, or with fewer '
        '--documents.'
      )
    try:
      vectors = read_summaries(self.library, sources)
    except (OSError, ValueError) as error:
      raise RuntimeError(str(error)) from error
    return Reading(group, ids, vectors, tuple(sources), adapter)

  def _check_length(self, question: str) -> None:
    """Before all of it is searched, which others wait for."""
    most = _MOST_CHARACTERS * self._room.prompt
    if len(question) > most:
      raise ValueError(
        f'The question has {len(question):,} characters, of at most {most:,}; '
        'ask in fewer words.'
      )
    tokenizer = self.library.model.need_tokenizer()
    self._check_tokens(len(tokenizer.encode(question)))

  def _check_tokens(self, count: int) -> None:
    if count <= self._room.prompt:
      return
    mend = 'ask in fewer words'
    if count <= RESERVE - self._room.new_tokens:
      mend += f', or serve with --prompt={count}'
    raise ValueError(
      f'The question has {count:,} tokens with its prompt, of at most '
      f'{self._room.prompt:,}; {mend}.'
    )

  def adapter(self, group: str) -> tuple[NamedAdapter | None, Prompt]:
    """The adapter of a group, read again where its files have changed.

    Raises:
      RuntimeError: it is gone, damaged or of another base.
    """
    try:
      place = self.library.adapter_folders().get(group)
      state = place and (place, _state(pathlib.Path(place[0])))
      known = self._adapters.get(group)
      if known is None or known[0] != state:
        adapter, prompt = self.library.adapter(group)
        named = adapter and NamedAdapter(_digest(adapter), adapter)
        known = self._adapters[group] = state, named, prompt
    except (OSError, ValueError) as error:
      raise RuntimeError(str(error)) from error
    return known[1:]


def _digest(adapter: Adapter) -> str:
  """Of what it computes."""
  digest = hashlib.sha256(str(adapter.scale).encode())
  for path, leaf in sorted(flatten_dict(adapter.weights).items()):
    digest.update(f'{path}{leaf.shape}'.encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()


def _state(folder: pathlib.Path) -> tuple:
  """Another one where a file is written or put in the place of another."""
  if not folder.is_dir():
    return ()
  found = sorted(path for path in folder.iterdir() if path.is_file())
  stats = [path.stat() for path in found]
  return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)
