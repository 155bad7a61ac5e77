"""Summaries that no document has any more, taken out of a library's store.

Summaries are the dear part of a library. So they go only where documents of
the catalogue had them: `foretell` writes down which before the catalogue
forgets them, and `release` removes them, also after a kill. All others belong
to an addition that was stopped, or to a catalogue that is gone, and the next
addition uses them; `sweep` removes them, too.
"""

from collections.abc import Collection, Iterable
import json

from lloco_jax.files import write_file
from lloco_jax.library.catalogue import Entry
from lloco_jax.library.library import Library

RELEASED = 'released.json'


def foretell(library: Library, entries: Iterable[Entry]) -> None:
  """Writes down that the summaries of documents may come to be of none."""
  keys = {entry.key for entry in entries}
  if keys:
    keys = sorted(keys | _foretold(library))
    write_file(library.folder / RELEASED, json.dumps(keys) + '\n')


def release(library: Library) -> None:
  """Removes summaries that were foretold to go, unless a document has them.

  Files that killed programs left half-written go as well.

  No other program may be changing the library: see `Library.alone`.
  """
  _remove(library, _foretold(library))
  _forget(library)
  for folder in (library.folder, library.store.folder):
    for path in folder.glob('.*.part'):
      if path.is_file():
        path.unlink(missing_ok=True)


def resume_release(library: Library) -> None:
  """Removes what a stopped program foretold, of the catalogue that there is.

  One that names no documents may be new, in the place of one that was lost:
  then nothing goes, as all may be added again.
  """
  if not library.catalogue.entries():
    _forget(library)
  release(library)


def sweep(library: Library, keep: Collection[str] = ()) -> None:
  """Removes all summaries of no document, but for the keys in `keep`."""
  release(library)
  _remove(library, library.store.keys() - set(keep))


def _foretold(library: Library) -> set[str]:
  """Keys that were written down; of a damaged file none, which stay."""
  path = library.folder / RELEASED
  try:
    return set(json.loads(path.read_text('utf-8')))
  except (FileNotFoundError, ValueError, TypeError):
    return set()


def _forget(library: Library) -> None:
  (library.folder / RELEASED).unlink(missing_ok=True)


def _remove(library: Library, keys: Collection[str]) -> None:
  used = {entry.key for entry in library.catalogue.entries()}
  for key in set(keys) - used:
    library.store.remove(key)
