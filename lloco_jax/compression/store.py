"""The summary store: a folder with the summary vectors of every document.

A document is one safetensors file named by the hash of its text and of all
that its vectors depend on. A file takes its name only when it is whole, so
any number of programs can write one store and be killed at any moment. Its
header chains a hash per full segment, by which a document that has grown
finds the segments that it still shares.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import time

import ml_dtypes
import numpy as np
import safetensors.numpy

from lloco_jax.files import write_file

FORMAT = 1
_FORMAT_FILE = 'store.json'
_SUFFIX = '.safetensors'
_SUMMARIES = re.compile(rf'[0-9a-f]{{64}}{re.escape(_SUFFIX)}')
_TENSOR = 'summaries'
# One entry of the header, since safetensors shuffles several.
_METADATA = 'lloco_jax'
_DTYPES = {
  'BF16': ml_dtypes.bfloat16,
  'F16': np.float16,
  'F32': np.float32,
  'F64': np.float64,
}
_DAY = 24 * 60 * 60


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the vectors of a text depend on besides the text.

  `compressor` and `tokenizer` are fingerprints; `dtype` names the dtypes of
  the compressor's parameters; lengths and the cap are in tokens.
  """

  compressor: str
  tokenizer: str
  segment_length: int
  summary_length: int
  accumulate: bool
  dtype: str
  block_characters: int | None
  token_cap: int

  def key(self, text: str) -> str:
    """The name of a text's summaries in the store."""
    return _hash({**dataclasses.asdict(self), 'text': text})

  def chain(self, ids: np.ndarray) -> list[str]:
    """A hash of everything up to the end of each full segment of the ids.

    How text became ids is left out: equal ids have equal vectors.
    """
    fields = dataclasses.asdict(self)
    for name in ('tokenizer', 'block_characters', 'token_cap'):
      del fields[name]
    digest, chain = _hash(fields), []
    length = self.segment_length
    for start in range(0, len(ids) - length + 1, length):
      segment = np.asarray(ids[start : start + length], '<i4').tobytes()
      digest = hashlib.sha256(bytes.fromhex(digest) + segment).hexdigest()
      chain.append(digest)
    return chain


@dataclasses.dataclass(frozen=True)
class Record:
  """What a file says of its summaries.

  `document` is the id that the text had when it was first compressed;
  `tokens` were compressed, `cut_tokens` lay behind the cap; `chain` has a
  hash per full segment.
  """

  key: str
  document: str
  settings: Settings
  tokens: int
  cut_tokens: int
  segment_lengths: tuple[int, ...]
  chain: tuple[str, ...]


class Damaged(Exception):
  """A file of the store is not what its name says."""


class Store:
  """Summary vectors on disk, by key.

  Raises:
    ValueError: the folder is a store of another format, or no store at all.
    OSError: it cannot be made.
  """

  def __init__(self, folder: str | os.PathLike):
    self.folder = pathlib.Path(folder)
    self._claim()
    self._indexed: set[str] = set()
    self._holders: dict[str, list[str]] = {}
    self._reported: set[str] = set()

  def path(self, key: str) -> pathlib.Path:
    return self.folder / f'{key}{_SUFFIX}'

  def find(self, key: str) -> Record | None:
    """The record of whole summaries, or None where they have to be made.

    Reads the file to its end; says so, once, where it is damaged.
    """
    try:
      return self._read(key)[0]
    except FileNotFoundError:
      return None
    except Damaged as damage:
      if key not in self._reported:
        print(f'{damage}; it is made again.', flush=True)
        self._reported.add(key)
      return None

  def load(self, key: str, compressor: str | None = None) -> np.ndarray:
    """Summary vectors [n, D].

    Args:
      key: of the summaries, as `compress_documents` returns it.
      compressor: the fingerprint that must have written them.

    Raises:
      FileNotFoundError: the store does not have them.
      ValueError: the file is damaged, or another compressor wrote it.
    """
    try:
      record, summaries = self._read(key)
    except FileNotFoundError:
      raise FileNotFoundError(
        f'The store {self.folder} has no summaries {key}; compress the '
        'documents first.'
      ) from None
    except Damaged as damage:
      raise ValueError(f'{damage}; compress the documents again.') from None
    if compressor not in (None, record.settings.compressor):
      raise ValueError(
        f"{self.path(key)} (document '{record.document}') was written by "
        f'another compressor ({record.settings.compressor[:12]}, not '
        f'{compressor[:12]}); compress the documents with this one.'
      )
    return summaries

  def save(self, record: Record, summaries: np.ndarray) -> None:
    """Writes summary vectors [n, D]; a reader sees all of them or none."""
    data = np.ascontiguousarray(summaries)
    fields = dataclasses.asdict(record)
    fields['sha256'] = _checksum(fields, data.tobytes())
    content = safetensors.numpy.save(
      {_TENSOR: data}, metadata={_METADATA: _canonical(fields)}
    )
    with self._writing():
      write_file(self.path(record.key), content)
      self._index(record)

  def remove(self, key: str) -> None:
    """Removes summaries, if they are there."""
    self.path(key).unlink(missing_ok=True)

  def keys(self) -> set[str]:
    """Of all files that have the name of summaries, whole or not."""
    return {
      entry.name.removesuffix(_SUFFIX)
      for entry in os.scandir(self.folder)
      if entry.name.endswith(_SUFFIX) and entry.is_file()
    }

  def index_new_files(self) -> None:
    """Reads the headers of files that came since the last time.

    That lists the whole folder, so not for every document.
    """
    for key in sorted(self.keys() - self._indexed):
      self._indexed.add(key)
      try:
        with self.path(key).open('rb') as file:
          self._index(_record(self.path(key), _read_header(file)))
      except (FileNotFoundError, Damaged):
        pass

  def longest_prefix(
    self, settings: Settings, chain: Sequence[str]
  ) -> tuple[int, np.ndarray | None]:
    """The most full segments of a document that some document shares.

    Those that this store wrote or `index_new_files` found.

    Returns:
      Their number n and their vectors: [n K, D] where the checkpoint
      accumulates them, else [K, D] of the last; 0 and None where there are
      none.
    """
    for segments in range(len(chain), 0, -1):
      for key in self._holders.get(chain[segments - 1], ()):
        try:
          _, summaries = self._read(key)
        except (FileNotFoundError, Damaged):
          continue
        if settings.accumulate:
          summaries = summaries[: segments * settings.summary_length]
        return segments, summaries
    return 0, None

  def _claim(self) -> None:
    path = self.folder / _FORMAT_FILE
    if path.is_file():
      try:
        found = json.loads(path.read_text('utf-8'))['format']
      except (ValueError, KeyError, TypeError):
        raise ValueError(
          f'{path} is damaged; remove that file, which is made anew. The '
          'summaries beside it stay.'
        ) from None
      if found != FORMAT:
        raise ValueError(
          f'{self.folder} is a store of format {found}, and this version '
          f'reads format {FORMAT}; choose another folder.'
        )
      self._remove_old_temporaries()
      return
    if self.folder.is_file():
      raise ValueError(
        f'{self.folder} is a file; the store needs a folder of its own.'
      )
    # Another program may be making the same store at this moment; and one
    # that has nothing but summaries has lost its format file.
    ours = (_FORMAT_FILE, '.')
    if self.folder.is_dir() and not all(
      each.name.startswith(ours) or _SUMMARIES.fullmatch(each.name)
      for each in self.folder.iterdir()
    ):
      raise ValueError(
        f'{self.folder} holds other files and no {_FORMAT_FILE}, so it is no '
        'summary store; choose an empty folder.'
      )
    with self._writing():
      self.folder.mkdir(parents=True, exist_ok=True)
      write_file(path, (_canonical({'format': FORMAT}) + '\n').encode())

  @contextlib.contextmanager
  def _writing(self):
    """Tells of the system's errors inside what helps."""
    try:
      yield
    except OSError as error:
      if error.errno is None:
        # It says so itself.
        raise
      raise OSError(
        f"The store '{self.folder}' cannot be written ({error.strerror}); "
        'allow it, or choose another folder.'
      ) from error

  def _remove_old_temporaries(self) -> None:
    """Removes what killed writers left; a live one is done within a day."""
    for path in self.folder.glob('.*.part'):
      try:
        if time.time() - path.stat().st_mtime > _DAY:
          path.unlink()
      except FileNotFoundError:
        pass

  def _index(self, record: Record) -> None:
    self._indexed.add(record.key)
    ends_full = len(record.chain) == len(record.segment_lengths)
    for segments, digest in enumerate(record.chain, 1):
      last = ends_full and segments == len(record.chain)
      if record.settings.accumulate or last:
        holders = self._holders.setdefault(digest, [])
        if record.key not in holders:
          holders.append(record.key)

  def _read(self, key: str) -> tuple[Record, np.ndarray]:
    """Record and vectors of a file that is checked to its last byte."""
    path = self.path(key)
    with path.open('rb') as file:
      header = _read_header(file)
      payload = file.read()
    record = _record(path, header)
    try:
      dtype = np.dtype(_DTYPES[header[_TENSOR]['dtype']])
      rows, columns = header[_TENSOR]['shape']
      fields = json.loads(header['__metadata__'][_METADATA])
      checksum = fields.pop('sha256')
    except (ValueError, KeyError, TypeError) as error:
      raise Damaged(f'{path} is damaged') from error
    if len(payload) != dtype.itemsize * rows * columns:
      raise Damaged(f'{path} is truncated')
    if checksum != _checksum(fields, payload):
      raise Damaged(f'{path} is damaged')
    vectors = np.frombuffer(payload, dtype).reshape(rows, columns)
    if not np.isfinite(vectors).all():
      raise Damaged(f'{path} holds numbers that are not finite')
    return record, vectors


def _read_header(file) -> dict:
  """The header of a safetensors file, which is left where the vectors start."""
  size = file.read(8)
  length = int.from_bytes(size, 'little')
  if len(size) < 8 or length > os.fstat(file.fileno()).st_size - 8:
    raise Damaged(f'{file.name} is truncated')
  try:
    return json.loads(file.read(length))
  except ValueError as error:
    raise Damaged(f'{file.name} is damaged') from error


def _record(path: pathlib.Path, header: dict) -> Record:
  try:
    fields = json.loads(header['__metadata__'][_METADATA])
    del fields['sha256']
    fields['settings'] = Settings(**fields['settings'])
    for name in ('segment_lengths', 'chain'):
      fields[name] = tuple(fields[name])
    record = Record(**fields)
  except (ValueError, KeyError, TypeError) as error:
    raise Damaged(f'{path} is damaged or not of this store') from error
  if record.key != path.stem:
    raise Damaged(f'{path} holds the summaries of another text')
  return record


def _checksum(fields: dict, payload: bytes) -> str:
  return hashlib.sha256(_canonical(fields).encode() + payload).hexdigest()


def _canonical(fields: dict) -> str:
  return json.dumps(fields, sort_keys=True, separators=(',', ':'))


def _hash(fields: dict) -> str:
  return hashlib.sha256(_canonical(fields).encode()).hexdigest()
