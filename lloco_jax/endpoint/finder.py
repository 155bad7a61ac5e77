"""From a question to what the engine reads for it."""

import dataclasses
import itertools
import pathlib

import numpy as np

from lloco_jax.data.prompts import Prompt, encode_question
from lloco_jax.library.asking import (
  check_documents,
  check_question,
  read_summaries,
)
from lloco_jax.library.finding import Hit, documents_of, find_in_group
from lloco_jax.library.library import Library
from lloco_jax.nn.lora import Adapter
from lloco_jax.serving.slots import Room

# The model that stands for all groups. No group can be called so.
ANY = 'library/any'


@dataclasses.dataclass(frozen=True)
class NamedAdapter:
  """An adapter, and a name that no other has."""

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
    # State of the files, adapter and prompt, by group.
    self._adapters = {}
    self._numbers = itertools.count()

  def groups(self) -> list[str]:
    """Of the library, in the order of the alphabet."""
    return sorted({e.group for e in self.library.catalogue.entries()})

  def read(self, question: str, group: str | None = None) -> Reading:
    """What is read for a question, of a group or of the one it finds.

    Raises:
      ValueError: it is empty or too long, or nothing is found that fits.
      RuntimeError: the library is damaged.
    """
    check_question(question)
    group, hits = find_in_group(self.library, question, group)
    adapter, prompt = self.adapter(group)
    tokenizer = self.library.model.need_tokenizer()
    ids = encode_question(tokenizer, prompt, question)
    if len(ids) > self._room.prompt:
      raise ValueError(
        f'The question has {len(ids):,} tokens with its prompt, of at most '
        f'{self._room.prompt:,}; ask in fewer words, or serve with '
        f'--prompt={len(ids)}.'
      )
    sources = documents_of(hits, self._documents, self._room.context)
    if not sources:
      least = min(hit.entry.vectors for hit in hits)
      raise ValueError(
        f'None of the documents that were found has {self._room.context:,} '
        f'vectors or fewer; serve with --context={least} or more.'
      )
    try:
      vectors = read_summaries(self.library, sources)
    except (OSError, ValueError) as error:
      raise RuntimeError(str(error)) from error
    return Reading(group, ids, vectors, tuple(sources), adapter)

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
        named = adapter and NamedAdapter(
          f'{group}/{next(self._numbers)}', adapter
        )
        known = self._adapters[group] = state, named, prompt
    except (OSError, ValueError) as error:
      raise RuntimeError(str(error)) from error
    return known[1:]


def _state(folder: pathlib.Path) -> tuple:
  """Another one where a file is written or put in the place of another."""
  if not folder.is_dir():
    return ()
  found = sorted(path for path in folder.iterdir() if path.is_file())
  stats = [path.stat() for path in found]
  return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)
