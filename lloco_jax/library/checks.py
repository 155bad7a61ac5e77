"""Whether a library is what it says: hashes recomputed, files accounted for."""

import contextlib
import dataclasses
import os
import pathlib
import time

import numpy as np

from lloco_jax.data.documents import text_hash
from lloco_jax.library.catalogue import WORD_HASHES, Entry
from lloco_jax.library.folder import show
from lloco_jax.library.grouping import complete_grouping
from lloco_jax.library.library import (
  ADAPTERS,
  FIELDS,
  GROUPING,
  LOCK,
  Library,
  holds_adapter,
)
from lloco_jax.library.sweeping import RELEASED, sweep
from lloco_jax.weights.sources import file_hash

_FORMAT_FILE = 'store.json'
# What a library makes in its folder and for its catalogue.
_KNOWN = (
  *(FIELDS, GROUPING, ADAPTERS, RELEASED, LOCK),
  *('store', 'catalogue', 'adapters', 'training'),
  *('pairs', 'studied', 'dropped'),
)
_TABLES = ('documents.lance', 'passages.lance', WORD_HASHES)
# Where programs write that do not hold the library's lock, and what those leave
# that are stopped; a live one is done with a file within a day.
_OPEN = ('pairs', 'studied', 'dropped', 'adapters', 'training')
_HALF = f'.*.{"[0-9a-f]" * 32}.part'
_DAY = 24 * 60 * 60
# Documents whose passages are read at a time.
_AT_ONCE = 500


@dataclasses.dataclass
class Findings:
  """Sentences about a library.

  `damage` is what answers suffer from. `leftovers` belong to no document, or
  are what a stopped program left. `foreign` are files that no library makes,
  which are let be. `stale` are files that have changed or gone since they were
  added. `adapters` are not where they were, or damaged. `mended` says that
  damage and leftovers are out of the library now.
  """

  documents: int = 0
  damage: list[str] = dataclasses.field(default_factory=list)
  leftovers: list[str] = dataclasses.field(default_factory=list)
  foreign: list[str] = dataclasses.field(default_factory=list)
  stale: list[str] = dataclasses.field(default_factory=list)
  adapters: list[str] = dataclasses.field(default_factory=list)
  mended: bool = False

  def text(self) -> str:
    """What was found, and how it is mended."""
    lines = [*self.damage, *self.leftovers, *self.foreign]
    lines += [*self.stale, *self.adapters]
    lines.append(
      f'{self.documents:,} documents verified: {len(self.damage)} damaged, '
      f'{len(self.leftovers)} leftovers, {len(self.foreign)} foreign files, '
      f'{len(self.stale)} not as their files are now; {len(self.adapters)} '
      'adapters missing or damaged.'
    )
    if self.stale:
      lines.append(
        'Add their folders again to follow the files, or take out what has '
        'gone with a whole folder by `library remove PATH`.'
      )
    if self.adapters:
      lines.append(
        'Name those adapters again, with `library adapter GROUP FOLDER`, or '
        'forget them, with `--none` in place of the folder.'
      )
    if self.mended:
      lines.append(
        f'{len(self.damage)} damaged and {len(self.leftovers)} leftovers were '
        'removed'
        f'{"; add their folders again" if self.damage else ""}.'
      )
      return '\n'.join(lines)
    if self.leftovers:
      lines.append(
        'To add their folders again makes use of summaries that an addition '
        'left when it was stopped; --mend removes all leftovers.'
      )
    if self.damage:
      lines.append(
        '--mend takes out what is damaged; add their folders again to make '
        'them anew.'
      )
    return '\n'.join(lines)


def verify(library: Library, mend: bool = False) -> Findings:
  """Reads everything in a library and compares it with the catalogue.

  Args:
    library: to check.
    mend: remove what is damaged and what belongs to no document.

  Raises:
    ValueError: another program changes the library; or it is to be mended, and
      the catalogue has no document for all the summaries in the store.
    OSError: summaries or the catalogue cannot be read, which may pass; nothing
      was mended.
  """
  # Nothing changes what nobody can write.
  writable = mend or os.access(library.folder, os.W_OK)
  with library.alone() if writable else contextlib.nullcontext():
    findings = Findings()
    entries = library.catalogue.entries()
    lost = _check_documents(library, entries, findings)
    unread = _check_passages(library, entries, findings)
    _check_store(library, entries, findings)
    _check_folder(library, findings)
    halves = _check_halves(library, findings)
    _check_files(entries, findings)
    try:
      library.check_grouped()
    except ValueError as error:
      findings.leftovers.append(str(error))
    _check_adapters(library, findings)
    if mend:
      if not entries and (kept := len(library.store.keys())):
        raise ValueError(
          f'The catalogue of {show(library.folder)} has no documents, but the '
          f'store summaries of {kept:,}, which would all be removed; add your '
          'folders again, which uses them, or remove the whole library.'
        )
      complete_grouping(library)
      library.catalogue.drop([*lost, *unread])
      library.catalogue.tidy()
      # Whose passages alone are damaged is added again without compression.
      gone = {entry.key for entry in lost}
      sweep(library, {entry.key for entry in unread} - gone)
      for path in halves:
        path.unlink(missing_ok=True)
      findings.mended = True
  return findings


def _check_documents(library, entries, findings) -> list[Entry]:
  """The documents whose summaries are missing, damaged or of another make."""
  damaged = []
  for entry in entries:
    findings.documents += 1
    try:
      found = library.store.load(entry.key, library.settings.compressor)
    except (ValueError, FileNotFoundError) as error:
      findings.damage.append(f'{entry.name}: {error}')
      damaged.append(entry)
      continue
    except OSError as error:
      # A disk that is away for a moment must not cost what is whole.
      path = library.store.path(entry.key)
      raise OSError(
        f'{entry.name}: its summaries cannot be read '
        f'({error.strerror or error}); mend that and give the command again, '
        f'or remove {show(path)} to have them made anew.'
      ) from error
    if (
      len(found) != entry.vectors
      or not np.isfinite(found.astype(np.float32)).all()
    ):
      findings.damage.append(
        f'{entry.name}: its summaries are {len(found)} vectors, some of '
        f'them maybe not finite, not the {entry.vectors} of the catalogue.'
      )
      damaged.append(entry)
  return damaged


def _check_passages(library, entries, findings) -> list[Entry]:
  """The documents whose passages are not their text, or not their vectors."""
  damaged = []
  if entries and library.catalogue.words_fail():
    findings.damage.append(
      'The index of words in the catalogue is missing, damaged or not '
      'finished; --mend, or to add a folder again, makes it anew.'
    )
  for start in range(0, len(entries), _AT_ONCE):
    some = entries[start : start + _AT_ONCE]
    versions = [entry.version for entry in some]
    texts = library.catalogue.texts(versions)
    vectors = library.catalogue.vectors(versions)
    for entry in some:
      pieces = texts[entry.version]
      if (
        len(pieces) != entry.passages
        or text_hash(''.join(pieces)) != entry.text_hash
      ):
        findings.damage.append(
          f'{entry.name}: its passages in the catalogue are not its text.'
        )
        damaged.append(entry)
      elif not np.allclose(
        vectors[entry.version], library.vectors(pieces), atol=1e-3
      ):
        findings.damage.append(
          f'{entry.name}: its text embeddings in the catalogue are not those '
          'of its passages.'
        )
        damaged.append(entry)
  live = {entry.version for entry in entries}
  dead = sum(
    count
    for version, count in library.catalogue.counts().items()
    if version not in live
  )
  if dead:
    findings.leftovers.append(
      f'The catalogue has {dead:,} passages of no document.'
    )
  return damaged


def _check_store(library, entries, findings) -> None:
  """The files of the store that belong to no document."""
  used = {entry.key for entry in entries}
  for path in sorted(library.store.folder.iterdir()):
    summaries = path.suffix == '.safetensors' and path.is_file()
    if path.name == _FORMAT_FILE or summaries and path.stem in used:
      continue
    if summaries:
      findings.leftovers.append(
        f'{show(path)} has the summaries of no document, maybe of an add not '
        'finished.'
      )
    else:
      _unknown(path, findings)


def _check_folder(library, findings) -> None:
  """Files that no library has, in its own folder and in its catalogue."""
  for folder, known in (
    (library.folder, _KNOWN),
    (library.folder / 'catalogue', _TABLES),
  ):
    for path in sorted(folder.iterdir()):
      if path.name not in known:
        _unknown(path, findings)


def _check_halves(library, findings) -> list[pathlib.Path]:
  """Files that were left half-written where others may be written now."""
  found = [
    path
    for name in _OPEN
    for path in sorted((library.folder / name).rglob(_HALF))
    if path.is_file() and time.time() - path.stat().st_mtime > _DAY
  ]
  for path in found:
    _left(path, findings)
  return found


def _unknown(path, findings) -> None:
  if (
    path.name.startswith('.') and path.name.endswith('.part') and path.is_file()
  ):
    _left(path, findings)
  else:
    findings.foreign.append(
      f'{show(path)} is a foreign file, which you can remove.'
    )


def _left(path, findings) -> None:
  findings.leftovers.append(
    f'{show(path)} was left by a program that was stopped.'
  )


def _check_adapters(library, findings) -> None:
  """The adapters whose folders are gone or that cannot be read."""
  try:
    folders = library.adapter_folders()
  except ValueError as error:
    findings.adapters.append(str(error))
    return
  unread = ''
  for group, (folder, _) in folders.items():
    if not pathlib.Path(folder).is_absolute():
      # Of a hub, which may be out of reach.
      continue
    if not holds_adapter(folder):
      findings.adapters.append(
        f"The adapter of the group '{group}' is not in {show(folder)}."
      )
      continue
    if not unread:
      unread = _model_missing(library)
    if unread:
      continue
    try:
      library.adapter(group)
    except (ValueError, OSError, ImportError) as error:
      findings.adapters.append(f"The adapter of the group '{group}': {error}")
  if unread:
    findings.adapters.append(f'The adapters were not read: {unread}')


def _model_missing(library) -> str:
  """Why there is no model to compare adapters with, '' where there is one."""
  try:
    _ = library.model
  except (ValueError, OSError, ImportError) as error:
    return str(error)
  return ''


def _check_files(entries, findings) -> None:
  """The files whose content is no longer what was added."""
  hashes = {entry.path: entry.file_hash for entry in entries}
  for name, known in hashes.items():
    path = pathlib.Path(name)
    try:
      changed = file_hash(path) != known
    except OSError:
      findings.stale.append(f'{show(name)} is gone or cannot be read.')
    else:
      if changed:
        findings.stale.append(f'{show(name)} has changed since it was added.')
