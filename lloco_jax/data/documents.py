"""Documents: the long texts that questions are asked about."""

import codecs
from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import hashlib
import pathlib

from lloco_jax.scratch import Scratch

# How packed files begin.
_PACKED = {
  b'PK\x03\x04': 'zip',
  b'\x1f\x8b': 'gzip',
  b'\xfd7zXZ': 'xz',
  b'BZh': 'bzip2',
  b'\x28\xb5\x2f\xfd': 'zstd',
}
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclasses.dataclass(frozen=True)
class Document:
  """A text with a name, in the group whose adapter answers about it.

  Raises:
    ValueError: the id or the group is empty, or the text holds nothing to
      read or is not valid Unicode.
  """

  id: str
  text: str
  group: str = 'default'

  def __post_init__(self):
    if not self.id.strip():
      raise ValueError('A document has an empty id; give every document one.')
    if not self.group.strip():
      raise ValueError(
        f"Document '{self.id}' has an empty group; name one or leave it out."
      )
    if not self.text.strip():
      raise ValueError(
        f"Document '{self.id}' is empty; remove it or give it a text."
      )
    try:
      self.text.encode('utf-8')
    except UnicodeEncodeError as error:
      raise ValueError(
        f"Document '{self.id}' holds half a surrogate pair at character "
        f'{error.start}, which no tokenizer can read; remove it.'
      ) from None


class DocumentFile(Mapping[str, Document]):
  """Documents by id, whose texts lie on the disk until they are asked for.

  So a corpus takes the memory of its ids. Every access reads the text anew.

  Raises:
    ValueError: two documents share an id.
  """

  def __init__(self, documents: Iterable[Document] = ()):
    self._texts = Scratch()
    self._entries = {}
    for document in documents:
      self.add(document)

  def add(self, document: Document) -> None:
    """Files a document; raises ValueError where its id is taken."""
    if document.id in self._entries:
      raise ValueError(
        f"Two documents have the id '{document.id}'; give each its own."
      )
    place = self._texts.add(document.text.encode('utf-8'))
    self._entries[document.id] = (place, document.group)

  def only(self, ids: Iterable[str]) -> 'DocumentFile':
    """These of the documents, in this order; their texts are not copied."""
    part = DocumentFile()
    part._texts = self._texts
    part._entries = {id: self._entries[id] for id in ids}
    return part

  def __getitem__(self, id: str) -> Document:
    place, group = self._entries[id]
    return Document(id, self._texts.read(place).decode('utf-8'), group)

  def __contains__(self, id) -> bool:
    return id in self._entries

  def __iter__(self) -> Iterator[str]:
    return iter(self._entries)

  def __len__(self) -> int:
    return len(self._entries)


class Collection:
  """Documents of a group, each text once, and the ids of their examples."""

  def __init__(self, group: str):
    self._group = group
    self._ids = {}
    self._examples = set()
    self.documents = DocumentFile()

  def new_id(self, id: str) -> str:
    """The id of another example; raises ValueError where one has it."""
    if id in self._examples:
      raise ValueError(
        f"Two examples have the id '{id}'; give each its own, or remove one."
      )
    self._examples.add(id)
    return id

  def add(self, id: str, text: str) -> str:
    """Files a text, and gives the id that it has.

    That is the first id it came under; where another text has the id already,
    a number is put behind it.

    Raises:
      ValueError: as Document.
    """
    digest = text_hash(text)
    if digest in self._ids:
      return self._ids[digest]
    unique, number = id, 1
    while unique in self.documents:
      number += 1
      unique = f'{id} ({number})'
    self.documents.add(Document(unique, text, self._group))
    self._ids[digest] = unique
    return unique


def text_hash(text: str) -> str:
  """The sha256 of a text, for which it stands where many are compared."""
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()


def decode_utf8(data: bytes, name: str) -> str:
  """Decodes `data`, the bytes of what is called `name` in an error.

  Raises:
    ValueError: `data` is not UTF-8.
  """
  try:
    return data.decode('utf-8').removeprefix('\ufeff')
  except UnicodeDecodeError as error:
    for mark, kind in _PACKED.items():
      if data.startswith(mark):
        raise ValueError(f'{name} is packed with {kind}; unpack it.') from None
    byte, line = data[error.start], 1 + data.count(b'\n', 0, error.start)
    # Of a single line its name has the number.
    where = f', line {line}' if b'\n' in data.rstrip(b'\n') else ''
    kind = 'utf-16' if data.startswith(_UTF16_MARKS) else 'latin1'
    raise ValueError(
      f'{name} is not UTF-8: byte 0x{byte:02x} at offset {error.start}{where}; '
      f'convert it, for example with `iconv -f {kind} -t utf-8 old > new`.'
    ) from None


def read_document(path: str | pathlib.Path, group: str = 'default') -> Document:
  """Reads a UTF-8 text file; its name without the suffix becomes the id.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is empty or not UTF-8.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f"There is no document file '{path}'; check its path."
    )
  text = decode_utf8(path.read_bytes(), f"Document file '{path}'")
  if not text.strip():
    raise ValueError(f"Document file '{path}' is empty; give it a text.")
  return Document(path.stem, text, group)
