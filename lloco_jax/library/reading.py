"""A file of a folder: what is to come of it in a library."""

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import pathlib

from lloco_jax.data.documents import Document, text_hash
from lloco_jax.library.catalogue import Entry
from lloco_jax.library.folder import document_name, escaped, show
from lloco_jax.library.parsers import parse
from lloco_jax.library.pieces import cut
from lloco_jax.weights.sources import file_hash


@dataclasses.dataclass(frozen=True)
class File:
  """A file that is to be put into the library, cut into parts.

  Without a group it comes to the passages that are most alike.
  """

  path: str
  group: str | None
  hash: str
  parts: tuple[str, ...]
  known: tuple[Entry, ...]

  def name(self, part: int) -> str:
    return document_name(self.path, part, len(self.parts))

  @property
  def has_grown(self) -> bool:
    """Whether the text begins with all of what it was before."""
    *full, last = self.known
    before = [text_hash(part) for part in self.parts[: len(full)]]
    rest = ''.join(self.parts[len(full) :])
    return (
      len(rest) > last.characters
      and before == [entry.text_hash for entry in full]
      and text_hash(rest[: last.characters]) == last.text_hash
    )


def read_file(
  path: pathlib.Path,
  group: str | None,
  known: Sequence[Entry],
  whole: bool,
  part_characters: int,
  most_megabytes: float,
  remark: Callable[[str], None],
) -> File | None:
  """A file's parts, or None where the library has it unchanged.

  Args:
    path: of the file.
    group: that it is to be in; None for the one that it is in.
    known: its entries in the catalogue.
    whole: whether the library has all their passages and summaries.
    part_characters: of a part at most; 0 for one part.
    most_megabytes: a larger file is refused.
    remark: is told what is not read of it.

  Raises:
    ValueError: the file is too large, or is no text of its kind.
    OSError: it cannot be read.
    ImportError: a package that reads its kind is missing.
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
    return None
  data = path.read_bytes()
  text, remarks = parse(path, data, show(path))
  # Of the whole file, so that an error names it and no part is lost.
  Document(escaped(path), text)
  for sentence in remarks:
    remark(sentence)
  return File(
    str(path),
    group or (known[0].group if known else None),
    hashlib.sha256(data).hexdigest(),
    tuple(cut(text, part_characters or len(text))),
    tuple(known),
  )


def _is_whole(known: Sequence[Entry], group: str | None) -> bool:
  """Whether the catalogue has all parts of one state of a file."""
  return (
    bool(known)
    and len(known) == known[0].parts
    and len({(entry.file_hash, entry.parts) for entry in known}) == 1
    and {entry.group for entry in known} == {group or known[0].group}
  )
