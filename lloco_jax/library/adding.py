"""Folders into a library: what is new, has changed, grown or gone.

The summaries of a file are in the store before the catalogue names them, and
old ones leave it after; so a call that was stopped has lost nothing but the
work on the last few files, and the next one goes on from there.
"""

import collections
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import shlex
import time

from lloco_jax.compression.corpus import compress_documents
from lloco_jax.compression.inventory import Stored
from lloco_jax.data.documents import Document, text_hash
from lloco_jax.files import named_path
from lloco_jax.library.catalogue import Entry, Passage
from lloco_jax.library.counts import Counts
from lloco_jax.library.folder import (
  show,
  walk,
)
from lloco_jax.library.grouping import (
  belongings,
  complete_grouping,
  nearest_group,
)
from lloco_jax.library.library import Library, check_group
from lloco_jax.library.pieces import cut
from lloco_jax.library.reading import File, read_file
from lloco_jax.library.sweeping import foretell, release, resume_release

# Characters of the texts that are compressed between two entries in the
# catalogue: enough to fill batches, and no more work than can be lost.
_CHUNK = 400_000
MOST_MEGABYTES = 50


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
    ValueError: the group has no name, another program changes the library, its
      named adapters are damaged, or the folder holds no file that can be read,
      though it did before.
    OSError: the library cannot be written.
  """
  if group is not None:
    check_group(group)
  began = time.monotonic()
  check_limits(rows, most_megabytes)
  library.adapter_folders()  # If they are damaged, that is told at once.
  folder = named_path(folder).resolve()
  found = walk(folder, library.folder)
  with library.alone():
    library.catalogue.tidy()
    resume_release(library)
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
      before = known[str(path)]
      # Where passages or summaries are missing the file is read again.
      whole = all(
        passages.get(entry.version, 0) == entry.passages
        and library.store.find(entry.key)
        for entry in before
      )
      try:
        file = read_file(
          path,
          group,
          before,
          whole,
          library.making.part_characters,
          most_megabytes,
          counts.remark,
        )
      except (ValueError, OSError, ImportError) as error:
        counts.refuse(_with_kept(_sentence(path, error), before))
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
    self._waiting: list[File] = []
    self._model = None

  def add(self, file: File) -> bool:
    """Takes a file; tells whether all that waited are in the library now."""
    # Another text embedding, and another model, are told before any work.
    self._library.check_embedding()
    self._model = self._library.model
    if file.group is None:
      file = dataclasses.replace(file, group=self._nearest(file))
    self._waiting.append(file)
    waiting = sum(len(part) for each in self._waiting for part in each.parts)
    if waiting < _CHUNK:
      return False
    self.finish()
    return True

  def finish(self) -> None:
    """Brings the files that wait into the library.

    One that cannot be compressed is refused, and the others are done.
    """
    files, self._waiting = self._waiting, []
    if files:
      self._bring(files)

  def _bring(self, files: Sequence[File]) -> None:
    try:
      stored = self._compress(files)
    except ValueError as error:
      if len(files) == 1:
        self._counts.refuse(_with_kept(str(error), files[0].known))
        return
      # Halves, as most of them are compressed side by side still.
      half = len(files) // 2
      self._bring(files[:half])
      self._bring(files[half:])
      return
    self._enter(files, stored)

  def _nearest(self, file: File) -> str:
    pieces = cut(''.join(file.parts), self._library.making.passage_characters)
    vector = self._library.vectors(pieces).mean(axis=0)
    return nearest_group(self._library, vector)

  def _compress(self, files: Sequence[File]) -> dict[str, Stored]:
    return compress_documents(
      self._model,
      [
        Document(file.name(number), part, file.group)
        for file in files
        for number, part in enumerate(file.parts, 1)
      ],
      self._library.store,
      self._library.compression(self._rows),
      self._progress,
    )

  def _enter(self, files: Sequence[File], stored: dict[str, Stored]) -> None:
    library, counts = self._library, self._counts
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
    staying = {entry.key for entry in entries}
    foretell(library, [each for each in old if each.key not in staying])
    library.catalogue.put(entries, passages)
    library.catalogue.drop([each for each in old if each.place not in places])
    for file in files:
      if not file.known:
        counts.added += 1
      elif file.has_grown:
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


def _sentence(path: pathlib.Path, error: Exception) -> str:
  if isinstance(error, OSError) and error.strerror:
    return f'{show(path)} cannot be read: {error.strerror}.'
  return str(error)


def _with_kept(sentence: str, known: list[Entry]) -> str:
  if not known:
    return sentence
  return f'{sentence} What it held before stays in the library.'
