"""Folders into a library: what is new, has changed, grown or gone.

The summaries of a file are in the store before the catalogue names them, and
old ones leave it after; so a call that was stopped has lost nothing but the
work on the last few files, and the next one goes on from there.
"""

import collections
from collections.abc import Sequence
import dataclasses
import hashlib
import os
import pathlib
import shlex
import time

from lloco_jax.compression.corpus import compress_documents
from lloco_jax.compression.inventory import Stored
from lloco_jax.data.documents import Document
from lloco_jax.files import named_path
from lloco_jax.library.catalogue import Entry, Passage
from lloco_jax.library.counts import Counts
from lloco_jax.library.folder import (
  document_name,
  escaped,
  show,
  walk,
)
from lloco_jax.library.grouping import (
  belongings,
  complete_grouping,
  nearest_group,
)
from lloco_jax.library.library import Library, check_group
from lloco_jax.library.parsers import parse
from lloco_jax.library.pieces import cut
from lloco_jax.library.sweeping import foretell, release
from lloco_jax.weights.sources import file_hash

# Characters of the texts that are compressed between two entries in the
# catalogue: enough to fill batches, and no more work than can be lost.
_CHUNK = 400_000
MOST_MEGABYTES = 50


@dataclasses.dataclass(frozen=True)
class _File:
  """A file that is to be put into the library, cut into parts."""

  path: str
  group: str
  hash: str
  parts: tuple[str, ...]
  known: tuple[Entry, ...]

  def name(self, part: int) -> str:
    return document_name(self.path, part, len(self.parts))


def add_folder(
  library: Library,
  folder: str | os.PathLike,
  group: str | None = None,
  rows: int = 8,
  most_megabytes: float = MOST_MEGABYTES,
  progress: bool = True,
) -> Counts:
  """Brings a library to what a folder holds, and prints how far it is.

  What is in the library already is skipped, what has changed is put in the
  place of what was there, and documents whose files are gone from the folder
  are taken out. A file that cannot be read is refused, and the rest done.

  Args:
    library: to put the documents into.
    folder: with text, Markdown, HTML and PDF files, also in folders below it.
    group: of the documents; None leaves what is there in its own, and puts
      each new file into the group of the passages that are most alike.
    rows: documents compressed side by side.
    most_megabytes: larger files are refused.
    progress: print how far it is.

  Raises:
    FileNotFoundError: there is no such folder.
    ValueError: the group has no name, another program changes the library, or
      the folder holds no file that can be read, though it did before.
    OSError: the library cannot be written.
  """
  if group is not None:
    check_group(group)
  began = time.monotonic()
  check_limits(rows, most_megabytes)
  folder = named_path(folder).resolve()
  found = walk(folder, library.folder)
  with library.alone():
    library.catalogue.tidy()
    release(library)
    complete_grouping(library)
    passages = library.catalogue.counts()
    known = collections.defaultdict(list)
    for entry in library.catalogue.entries():
      known[entry.path].append(entry)
    below = [
      path for path in known if pathlib.Path(path).is_relative_to(folder)
    ]
    if below and not found.files:
      raise ValueError(
        f'{show(folder)} holds no file that can be read, and the library has '
        f'{len(below)} from there; if they are to go, say so with: python -m '
        f'lloco_jax library remove {show(folder)}'
      )
    counts = Counts(passed_over=found.passed_over)
    for sentence in found.refused.values():
      counts.refuse(sentence)
    adder = _Adder(library, rows, progress, counts)
    for number, path in enumerate(found.files, 1):
      try:
        before = known[str(path)]
        # Where passages are missing the whole file is read again.
        whole = all(
          passages.get(entry.version, 0) == entry.passages for entry in before
        )
        file = _read(
          library, path, group, before, whole, most_megabytes, counts
        )
      except (ValueError, OSError) as error:
        counts.refuse(_with_kept(_sentence(path, error), known[str(path)]))
        continue
      if file is None:
        counts.unchanged += 1
      elif adder.add(file) and progress:
        print(f'{number} of {len(found.files)} files are done.', flush=True)
    adder.finish()
    # What is below a folder that cannot be read is not gone.
    there = {*found.files, *found.refused}
    gone = [
      entry
      for path in map(pathlib.Path, below)
      if not there & {path, *path.parents}
      for entry in known[str(path)]
    ]
    _drop(library, gone)
    counts.removed = len({entry.path for entry in gone})
    groups = {entry.group for entries in known.values() for entry in entries}
    for sentence in _emptied(library, groups):
      counts.remark(sentence)
  counts.seconds = time.monotonic() - began
  return counts


def check_limits(rows: int, most_megabytes: float) -> None:
  """Raises ValueError where no file could be added."""
  if rows < 1:
    raise ValueError(f'rows is {rows}; it must be 1 or more.')
  if most_megabytes <= 0:
    raise ValueError(
      f'most_megabytes is {most_megabytes:g}; it must be more than 0.'
    )


def _drop(library: Library, entries: Sequence[Entry]) -> None:
  """Takes documents out, and the summaries that none has any more."""
  foretell(library, entries)
  library.catalogue.drop(entries)
  release(library)
  library.catalogue.tidy()


def _emptied(library: Library, before: set[str]) -> list[str]:
  """Sentences about groups that have lost their documents, but not all else."""
  now = {entry.group for entry in library.catalogue.entries()}
  return [
    f"The group '{group}' has no documents any more, but {what}, for whatever "
    'comes to a group of that name. Bring its documents back with --group, '
    'move what it has to the group that they are in, or remove it'
    f'{_forgetting(library, group) if what == "an adapter" else ""}.'
    for group, what in sorted(belongings(library, before - now).items())
  ]


def _forgetting(library: Library, group: str) -> str:
  words = ['library', 'adapter', group, '--none', f'--library={library.folder}']
  command = f'python -m lloco_jax {shlex.join(words)}'
  return f' ({command}, if the adapter was named)'


def remove(
  library: Library, paths: Sequence[str], groups: Sequence[str] = ()
) -> tuple[int, list[str]]:
  """Takes files, folders and groups out of a library.

  Returns:
    How many files, and sentences about what their groups have still.

  Raises:
    ValueError: the library has nothing of that name, or another program
      changes it.
  """
  with library.alone():
    entries = library.catalogue.entries()
    gone = []
    for path in paths:
      place = pathlib.Path(os.path.abspath(named_path(path)))
      places = {place, place.resolve()}
      some = [
        entry
        for entry in entries
        if places
        & {*pathlib.Path(entry.path).parents, pathlib.Path(entry.path)}
      ]
      if not some:
        raise ValueError(
          f'The library has nothing of {show(place)}; `python -m lloco_jax '
          'library list` tells what it has.'
        )
      gone += some
    for group in groups:
      some = [entry for entry in entries if entry.group == group]
      if not some:
        raise ValueError(f"The library has no group '{group}'.")
      gone += some
    _drop(library, gone)
    emptied = _emptied(library, {entry.group for entry in entries})
  return len({entry.path for entry in gone}), emptied


class _Adder:
  """Compresses files and enters them in the catalogue, some at a time."""

  def __init__(self, library, rows, progress, counts):
    self._library, self._rows = library, rows
    self._progress, self._counts = progress, counts
    self._waiting: list[_File] = []

  def add(self, file: _File) -> bool:
    """Takes a file; tells whether all that waited are in the library now."""
    self._waiting.append(file)
    waiting = sum(len(part) for each in self._waiting for part in each.parts)
    if waiting < _CHUNK:
      return False
    self.finish()
    return True

  def finish(self) -> None:
    """Brings the files that wait into the library."""
    files, self._waiting = self._waiting, []
    if not files:
      return
    library, counts = self._library, self._counts
    stored = compress_documents(
      library.model,
      [
        Document(file.name(number), part, file.group)
        for file in files
        for number, part in enumerate(file.parts, 1)
      ],
      library.store,
      library.compression(self._rows),
      self._progress,
    )
    entries, passages = [], []
    for file in files:
      for number, part in enumerate(file.parts, 1):
        pieces = cut(part, library.making.passage_characters)
        kept = stored[file.name(number)]
        entry = self._entry(file, number, part, kept, len(pieces))
        vectors = library.vectors(pieces)
        entries.append(entry)
        passages += [
          Passage(entry.version, place, file.group, text, vector)
          for place, (text, vector) in enumerate(zip(pieces, vectors))
        ]
        counts.tokens += kept.tokens
        counts.cut_tokens += kept.cut_tokens
        counts.vectors += kept.vectors
    places = {entry.place for entry in entries}
    old = [entry for file in files for entry in file.known]
    foretell(library, old)
    library.catalogue.put(entries, passages)
    library.catalogue.drop([each for each in old if each.place not in places])
    for file in files:
      if not file.known:
        counts.added += 1
      elif _has_grown(file):
        counts.continued += 1
      else:
        counts.updated += 1

  def _entry(self, file, number, part, kept: Stored, passages) -> Entry:
    return Entry(
      path=file.path,
      part=number,
      parts=len(file.parts),
      group=file.group,
      file_hash=file.hash,
      text_hash=text_hash(part),
      characters=len(part),
      key=kept.key,
      tokens=kept.tokens,
      cut_tokens=kept.cut_tokens,
      vectors=kept.vectors,
      passages=passages,
    )


def text_hash(text: str) -> str:
  """The sha256 of a text."""
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()


def _read(
  library: Library,
  path: pathlib.Path,
  group: str | None,
  known: list[Entry],
  whole: bool,
  most_megabytes: float,
  counts: Counts,
) -> _File | None:
  """A file's parts, or None where the library has them and their summaries.

  `whole` tells whether it has all passages of what is `known`.
  """
  megabytes = path.stat().st_size / 1e6
  if megabytes > most_megabytes:
    raise ValueError(
      f'{show(path)} has {megabytes:,.0f} MB, and a file may have '
      f'{most_megabytes:g} (--most_megabytes); split it, or allow more.'
    )
  if (
    whole and _is_whole(known, group) and file_hash(path) == known[0].file_hash
  ):
    if all(library.store.find(entry.key) for entry in known):
      return None
  data = path.read_bytes()
  text, remarks = parse(path, data, show(path))
  group = group or (known[0].group if known else _nearest(library, text))
  # Of the whole file, so that an error names it and no part is lost.
  Document(escaped(path), text, group)
  for remark in remarks:
    counts.remark(remark)
  most = library.making.part_characters or len(text)
  return _File(
    str(path),
    group,
    hashlib.sha256(data).hexdigest(),
    tuple(cut(text, most)),
    tuple(known),
  )


def _nearest(library: Library, text: str) -> str:
  pieces = cut(text, library.making.passage_characters)
  return nearest_group(library, library.vectors(pieces).mean(axis=0))


def _is_whole(known: list[Entry], group: str | None) -> bool:
  """Whether the catalogue has all parts of one state of a file."""
  return (
    bool(known)
    and len(known) == known[0].parts
    and len({(entry.file_hash, entry.parts) for entry in known}) == 1
    and {entry.group for entry in known} == {group or known[0].group}
  )


def _has_grown(file: _File) -> bool:
  """Whether the text begins with all of what it was before."""
  *full, last = file.known
  before = [text_hash(part) for part in file.parts[: len(full)]]
  rest = ''.join(file.parts[len(full) :])
  return (
    len(rest) > last.characters
    and before == [entry.text_hash for entry in full]
    and text_hash(rest[: last.characters]) == last.text_hash
  )


def _sentence(path: pathlib.Path, error: Exception) -> str:
  if isinstance(error, OSError) and error.strerror:
    return f'{show(path)} cannot be read: {error.strerror}.'
  return str(error)


def _with_kept(sentence: str, known: list[Entry]) -> str:
  if not known:
    return sentence
  return f'{sentence} What it held before stays in the library.'
