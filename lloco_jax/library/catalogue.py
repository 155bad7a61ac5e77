"""The catalogue: what documents a library has, and their passages.

Two LanceDB tables. `documents` is what counts: a row is put, replaced or
deleted as a whole. A row of `passages` belongs to the document whose version
it names, and to none where a program was stopped between the two tables; such
passages are never found, and `tidy` removes them.

LanceDB runs threads of its own, so a process that has opened a catalogue must
not be forked; spawn instead.
"""

from collections.abc import Iterable, Mapping, Sequence
import contextlib
import dataclasses
import datetime
import hashlib
import json
import pathlib
import re

import numpy as np

from lloco_jax.files import disk_is_full, write_file
from lloco_jax.library.folder import document_name
from lloco_jax.retrieval.extra import need

# The hashes of the files that the index of words has.
WORD_HASHES = 'words.json'
# Versions of a table are kept as long for those who are reading them.
_KEEP = datetime.timedelta(hours=1)
_SOURCE_LINE = re.compile(r',? */\S+\.rs:\d+:\d+')
# Errors of LanceDB, which cannot be imported, where its own code breaks off.
_PANICS = ('RustPanic', 'PanicException')
# Names in one condition.
_NAMES = 1000


@dataclasses.dataclass(frozen=True)
class Entry:
  """A document of the library: a part of a file, or all of it.

  `path` is absolute; `part` counts from 1 to `parts`. Hashes are sha256: of
  the file, and of the document's own text of so many `characters`. `key` is
  that of its summaries in the store, of so many `vectors`; `tokens` were
  compressed and `cut_tokens` lay behind the token cap.
  """

  path: str
  part: int
  parts: int
  group: str
  file_hash: str
  text_hash: str
  characters: int
  key: str
  tokens: int
  cut_tokens: int
  vectors: int
  passages: int

  @property
  def name(self) -> str:
    """How the document is called."""
    return document_name(self.path, self.part, self.parts)

  @property
  def place(self) -> str:
    """The name of its row."""
    return _hash(self.path, self.part)

  @property
  def version(self) -> str:
    """The name of its content, which its passages refer to."""
    return _hash(self.path, self.part, self.group, self.text_hash, self.key)


@dataclasses.dataclass(frozen=True)
class Passage:
  """A piece of a document, the `number`-th from 0, and its text embedding."""

  version: str
  number: int
  group: str
  text: str
  vector: np.ndarray


class Catalogue:
  """The tables of a library.

  Args:
    folder: of the database; made where it is missing.
    width: numbers of a text embedding.

  Raises:
    ImportError: LanceDB is not installed.
    ValueError: the tables are of another embedding or version.
    OSError: they cannot be read or written.
  """

  def __init__(self, folder: pathlib.Path, width: int):
    need('lancedb', 'library')
    import lancedb
    import pyarrow

    self._folder = folder
    text, number = pyarrow.utf8(), pyarrow.int64()
    kinds = {str: text, int: number}
    documents = [('place', text), ('version', text)] + [
      (field.name, kinds[field.type]) for field in dataclasses.fields(Entry)
    ]
    passages = [
      ('version', text),
      ('number', number),
      ('group', text),
      ('text', text),
      ('vector', pyarrow.list_(pyarrow.float32(), width)),
    ]
    with self._errors():
      # Every reading sees what other programs have written.
      database = lancedb.connect(
        folder, read_consistency_interval=datetime.timedelta(0)
      )
      try:
        self._documents, self._passages = (
          database.create_table(
            name, schema=pyarrow.schema(fields), exist_ok=True
          )
          for name, fields in (
            ('documents', documents),
            ('passages', passages),
          )
        )
      except ValueError as error:
        raise ValueError(
          f'{folder} has a table that this version does not read, or that is '
          'of another text embedding; make another library.'
        ) from error
    self._table = pyarrow.Table
    self._read = None, {}

  def entries(self) -> list[Entry]:
    """All documents, by path and part."""
    return list(self.by_version().values())

  def by_version(self) -> Mapping[str, Entry]:
    """All documents by their versions, in the same order."""
    with self._errors():
      version = self._documents.version
      if version != self._read[0]:
        rows = self._documents.to_arrow().to_pylist()
        names = [field.name for field in dataclasses.fields(Entry)]
        found = [Entry(**{name: row[name] for name in names}) for row in rows]
        found.sort(key=lambda entry: (entry.path, entry.part))
        # Hashed once: a large library has many.
        self._read = version, {entry.version: entry for entry in found}
    return self._read[1]

  def put(self, entries: Sequence[Entry], passages: Iterable[Passage]) -> None:
    """Adds documents, or puts them in the place of earlier versions.

    All of them are there or none, whenever the program is stopped.
    """
    if not entries:
      return
    rows = [
      {'place': entry.place, 'version': entry.version}
      | dataclasses.asdict(entry)
      for entry in entries
    ]
    # What is there is left alone: a program that is stopped loses none of it.
    fresh = {entry.version for entry in entries}
    if fresh & self.by_version().keys():
      counts, live = self.counts(), self.by_version()
      fresh -= {
        version
        for version in fresh & live.keys()
        if counts.get(version, 0) == live[version].passages
      }
    fields = dataclasses.fields(Passage)
    pieces = [
      {field.name: getattr(passage, field.name) for field in fields}
      for passage in passages
      if passage.version in fresh
    ]
    with self._errors():
      self._delete(self._passages, sorted(fresh))
      if pieces:
        self._passages.add(
          self._table.from_pylist(pieces, schema=self._passages.schema)
        )
      put = self._documents.merge_insert('place')
      put.when_matched_update_all().when_not_matched_insert_all().execute(
        self._table.from_pylist(rows, schema=self._documents.schema)
      )

  def drop(self, entries: Iterable[Entry]) -> None:
    """Takes documents out."""
    with self._errors():
      self._delete(self._documents, [entry.place for entry in entries], 'place')

  def tidy(self) -> None:
    """Removes passages of no document, and makes searches fast again.

    An index of words that is missing or damaged is made anew. No other program
    may be changing the library: see `Library.alone`.
    """
    from lancedb.index import FTS

    with self._errors():
      dead = self.counts().keys() - self.by_version().keys()
      self._delete(self._passages, sorted(dead))
    if self.words_fail():
      with self._errors():
        self._passages.create_index('text', config=FTS(), replace=True)
    with self._errors():
      for table in (self._documents, self._passages):
        table.optimize(cleanup_older_than=_KEEP)
    for path in self._folder.glob(f'.{WORD_HASHES}.*.part'):
      path.unlink()
    write_file(
      self._folder / WORD_HASHES, json.dumps(self._index_hashes()) + '\n'
    )

  def words_fail(self) -> bool:
    """Whether the index of words is missing, or not what `tidy` left."""
    # A search reads little of it, and may go wrong without an error.
    try:
      known = json.loads((self._folder / WORD_HASHES).read_text('utf-8'))
    except (FileNotFoundError, ValueError):
      return True
    if known != self._index_hashes():
      return True
    try:
      self.by_words('the', 1)
    except OSError:
      return True
    return False

  def _index_hashes(self) -> dict[str, str]:
    folder, found = self._folder / 'passages.lance/_indices', {}
    for path in sorted(folder.rglob('*')):
      if path.is_file():
        with path.open('rb') as file:
          digest = hashlib.file_digest(file, 'sha256').hexdigest()
        found[path.relative_to(folder).as_posix()] = digest
    return found

  def counts(self) -> Mapping[str, int]:
    """How many passages each version has."""
    with self._errors():
      column = self._passages.search().select(['version']).to_arrow()
    counted = column['version'].value_counts().to_pylist()
    return {each['values']: each['counts'] for each in counted}

  def texts(self, versions: Sequence[str]) -> dict[str, list[str]]:
    """The passages of each version, in their order."""
    return self._of_passages('text', versions)

  def vectors(self, versions: Sequence[str]) -> dict[str, np.ndarray]:
    """The text embeddings [n, D] of each version's passages, in their order."""
    found = self._of_passages('vector', versions)
    return {name: np.array(each, np.float32) for name, each in found.items()}

  def _of_passages(self, column: str, versions: Sequence[str]) -> dict:
    found = {version: [] for version in versions}
    with self._errors():
      for some in _chunks(versions):
        rows = self._passages.search().where(_among('version', some))
        rows = rows.select(['version', 'number', column]).to_list()
        for row in sorted(rows, key=lambda row: row['number']):
          found[row['version']].append(row[column])
    return found

  def by_words(
    self, question: str, count: int, group: str | None = None
  ) -> list[tuple[str, int, str, float]]:
    """The passages whose words fit a question best, by BM25.

    Returns:
      At most `count` of version, number, text and score, best first.
    """
    return self._search(question, count, group, 'fts', '_score')

  def by_vector(
    self, vector: np.ndarray, count: int, group: str | None = None
  ) -> list[tuple[str, int, str, float]]:
    """The passages whose text embedding [D] is nearest, all compared.

    Returns:
      At most `count` of version, number, text and cosine, best first.
    """
    found = self._search(vector, count, group, 'vector', '_distance')
    return [(*rest, 1 - distance) for *rest, distance in found]

  def _search(self, query, count, group, kind, score):
    live = self.by_version()
    limit = count
    # A ValueError is of an index that is not there.
    with self._errors(ValueError):
      while True:
        found = self._passages.search(query, query_type=kind)
        if kind == 'vector':
          # Of vectors of length one, and without fault where one is zero.
          found = found.distance_type('dot')
        if group is not None:
          found = found.where(_among('group', [group]), prefilter=True)
        names = ['version', 'number', 'text', score]
        rows = found.select(names).limit(limit).to_list()
        known = [row for row in rows if row['version'] in live]
        if len(known) >= count or len(rows) < limit:
          break
        # What a stopped program has left stands before what is wanted.
        limit *= 4
    return [tuple(row[name] for name in names) for row in known[:count]]

  def _delete(self, table, names: Sequence[str], column: str = 'version'):
    for some in _chunks(names):
      table.delete(_among(column, some))

  @contextlib.contextmanager
  def _errors(self, *also: type[Exception]):
    """LanceDB's own errors, as those that are said in a sentence."""
    try:
      yield
    except BaseException as error:
      panic = type(error).__name__ in _PANICS
      if not panic and not isinstance(error, (RuntimeError, *also)):
        raise
      # Where in LanceDB's own code it comes from tells a user nothing.
      said = _SOURCE_LINE.sub('', str(error).strip().partition('\n')[0])[:300]
      if 'No space left' in said:
        raise disk_is_full(self._folder) from error
      raise OSError(
        f'The catalogue {self._folder} cannot be read or written ({said}). If '
        'its files are damaged, remove that folder and add your folders again: '
        'the summaries in the store are used again.'
      ) from error


def _hash(*parts) -> str:
  return hashlib.sha256(repr(parts).encode()).hexdigest()


def _among(column: str, names: Sequence[str]) -> str:
  """The condition that a column has one of the names."""
  quoted = ', '.join("'" + name.replace("'", "''") + "'" for name in names)
  return f'`{column}` IN ({quoted})'


def _chunks(names: Sequence[str]):
  for start in range(0, len(names), _NAMES):
    yield names[start : start + _NAMES]
