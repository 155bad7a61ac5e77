"""Long plain texts, read from files and tokenised once.

What is tokenised lies in one flat file in the cache, so that a corpus larger
than the memory can be trained on, and is not tokenised again by the next run.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import hashlib
import json
import pathlib

import numpy as np

from lloco_jax.data import records
from lloco_jax.data.documents import Document, read_document
from lloco_jax.data.prepared import PreparedTexts
from lloco_jax.files import named_path, replacing, write_file
from lloco_jax.progress import Progress
from lloco_jax.weights.sources import cache_folder, file_hash

TEXT_SUFFIXES = ('.txt', '.md')
# What stands before a name of tensorflow_datasets.
_PREPARED = 'tfds:'
_LINES = ('.jsonl', '.jsonl.gz', '.jsonl.xz')


@dataclasses.dataclass(frozen=True, eq=False)
class TokenizedTexts:
  """Token ids of documents, one behind the other, in a file.

  `tokens` [N] of uint16 or uint32 is read from the disk as it is used;
  document i, of the name `ids[i]`, is `tokens[bounds[i]:bounds[i + 1]]`.
  `fingerprint` is a hash of the files, of what is left out of them, and of the
  tokenizer.
  """

  tokens: np.ndarray
  bounds: np.ndarray
  ids: tuple[str, ...]
  fingerprint: str = ''

  def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
    for name, start, stop in zip(self.ids, self.bounds[:-1], self.bounds[1:]):
      yield name, self.tokens[start:stop]


def text_files(path: str | pathlib.Path) -> list[pathlib.Path]:
  """The files of texts at a path: itself, or all below a folder, sorted.

  Hidden files, and those in hidden folders, are none.

  Raises:
    FileNotFoundError: there is none.
  """
  path = named_path(path)
  if path.is_file():
    return [path]
  known = (*TEXT_SUFFIXES, *_LINES)
  found = sorted(
    file
    for file in path.rglob('*')
    if file.is_file()
    and file.name.lower().endswith(known)
    and not any(part.startswith('.') for part in file.relative_to(path).parts)
  )
  if not found:
    raise FileNotFoundError(
      f"'{path}' is neither a file nor a folder with {', '.join(known)} files "
      'in it; check the path.'
    )
  return found


def find_texts(
  path: str | pathlib.Path,
) -> PreparedTexts | list[pathlib.Path]:
  """The files at a path, or what 'tfds:NAME' names; no text is read.

  Raises:
    FileNotFoundError, ValueError, ImportError: there is nothing.
  """
  if str(path).startswith(_PREPARED):
    return PreparedTexts(str(path).removeprefix(_PREPARED))
  return text_files(path)


def also_in(
  path: str | pathlib.Path,
  other: str | pathlib.Path,
  leave_out: Sequence[str] = (),
  other_leave_out: Sequence[str] = (),
) -> list[str]:
  """Names of the files of texts at a path that are at the other as well.

  Files count as the same where their bytes are; those whose names begin as is
  left out do not count. There are none where either is no path of files, or
  not there.
  """
  try:
    mine, theirs = find_texts(path), find_texts(other) if other else []
  except FileNotFoundError:
    return []
  if not isinstance(mine, list) or not isinstance(theirs, list):
    return []
  read = {
    file_hash(file)
    for file in theirs
    if not _name(file, other).startswith(tuple(other_leave_out))
  }
  return [
    name
    for file in mine
    if not (name := _name(file, path)).startswith(tuple(leave_out))
    and file_hash(file) in read
  ]


def read_texts(
  path: str | pathlib.Path, leave_out: Sequence[str] = ()
) -> Iterator[Document]:
  """Yields the documents of `text_files`, one at a time.

  A .txt or .md file is a document, named by its path below the folder; a
  line of a .jsonl file is one with the fields `id` and `text`, others being
  passed over. 'tfds:NAME' is what tensorflow_datasets has prepared, see
  `PreparedTexts`.

  Args:
    path: of the file or the folder, or 'tfds:NAME'.
    leave_out: beginnings of names of documents that are passed over.

  Raises:
    FileNotFoundError: there is no file.
    ValueError: a file or line is damaged, empty or not UTF-8, or no document's
      name has one of the beginnings.
  """
  unused = set(leave_out)
  for document in _all_documents(path):
    found = [name for name in leave_out if document.id.startswith(name)]
    unused.difference_update(found)
    if not found:
      yield document
  if unused:
    raise ValueError(
      f"leave_out names '{min(unused)}', but no document of '{path}' begins "
      'so; correct or remove it.'
    )


def _all_documents(path) -> Iterator[Document]:
  found = find_texts(path)
  if isinstance(found, PreparedTexts):
    for name, text in found:
      yield Document(name, text)
    return
  for file in found:
    if file.name.lower().endswith(_LINES):
      yield from _documents(file)
    else:
      name = _name(file, path)
      yield dataclasses.replace(read_document(file), id=name)


def _name(file: pathlib.Path, path: str | pathlib.Path) -> str:
  """A file's path below the folder that is read."""
  folder = named_path(path)
  return file.name if file == folder else file.relative_to(folder).as_posix()


def tokenize_texts(
  path: str | pathlib.Path,
  tokenizer,
  leave_out: Sequence[str] = (),
  progress: bool = True,
) -> TokenizedTexts:
  """The texts at a path as tokens, from the cache where they were before.

  Args:
    path, leave_out: see `read_texts`.
    tokenizer: its fingerprint is part of what they are found by.
    progress: print how far it is.

  Raises:
    FileNotFoundError, ValueError: as `read_texts`, or nothing is left.
  """
  found = find_texts(path)
  if isinstance(found, PreparedTexts):
    content = found.content
  else:
    content = [[_name(file, path), file_hash(file)] for file in found]
  fields = json.dumps([content, sorted(leave_out), tokenizer.fingerprint])
  key = hashlib.sha256(fields.encode()).hexdigest()[:32]
  cache = cache_folder() / 'texts'
  tokens_path, bounds_path = cache / f'{key}.tokens', cache / f'{key}.json'
  dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
  size = np.dtype(dtype).itemsize
  if _cached_bounds(tokens_path, bounds_path, size) is None:
    cache.mkdir(parents=True, exist_ok=True)
    meter = Progress(shown=progress)
    ids, bounds = [], [0]
    with replacing(tokens_path) as temporary, temporary.open('wb') as file:
      for document in read_texts(path, leave_out):
        tokens = np.asarray(tokenizer.encode(document.text), dtype)
        file.write(tokens.tobytes())
        ids.append(document.id)
        bounds.append(bounds[-1] + len(tokens))
        meter.add(len(tokens))
        meter.tell(f'{len(ids):,} documents tokenised')
    if not ids:
      raise ValueError(
        f"No document of '{path}' is left; leave_out names all of them."
      )
    if not bounds[-1]:
      raise ValueError(f"The documents of '{path}' have no tokens.")
    write_file(bounds_path, json.dumps({'ids': ids, 'bounds': bounds}))
  fields = _cached_bounds(tokens_path, bounds_path, size)
  return TokenizedTexts(
    np.memmap(tokens_path, dtype, 'r'),
    np.asarray(fields['bounds'], np.int64),
    tuple(fields['ids']),
    key,
  )


def _cached_bounds(
  tokens_path: pathlib.Path, bounds_path: pathlib.Path, size: int
) -> dict | None:
  """Ids and bounds of tokens of so many bytes, where both files are whole."""
  try:
    fields = json.loads(bounds_path.read_text('utf-8'))
    whole = tokens_path.stat().st_size == fields['bounds'][-1] * size
  except (OSError, ValueError, KeyError, TypeError, IndexError):
    return None
  return fields if whole else None


def _documents(file: pathlib.Path) -> Iterator[Document]:
  for place, fields in records.read_json_lines(file):
    with records.at(place):
      document = Document(
        records.identifier(fields, 'id'), records.text(fields, 'text')
      )
    yield document
