"""Records: the rows of data files, each with its place for an error.

Files may be packed with gzip or xz (`.gz`, `.xz`). Lines are read one by one,
as SCROLLS repeats a book in every row about it.
"""

from collections.abc import Iterator, Mapping
import contextlib
import csv
import gzip
import io
import json
import lzma
import pathlib
import zlib

from lloco_jax.data.documents import decode_utf8
from lloco_jax.files import named_path

_OPENERS = {'.gz': gzip.open, '.xz': lzma.open}
_ENDS = ('', *_OPENERS)
_PACKED_WRONGLY = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)


def split_files(
  path: str | pathlib.Path,
  patterns: Mapping[str, tuple[str, ...]],
  splits: tuple[str, ...],
  download: str,
  others: tuple[str, ...] = (),
) -> dict[str, pathlib.Path]:
  """Finds the file (or folder) of every split that a data set's folder holds.

  Args:
    path: the folder; or one file, of the split whose files are called so, or
      'validation'.
    patterns: by split, relative globs without `.gz` or `.xz`; the first that
      finds anything counts.
    splits: those wanted; a training split may be unknown to the data set.
    download: how the official files are got, as the end of a sentence.
    others: globs of files of other parts, which are not taken for this one's.

  Raises:
    FileNotFoundError: there is no such folder, or nothing wanted is in it.
    ValueError: a split is unknown, several files could be it, or the file is
      another part's.
  """
  path = named_path(path)
  unknown = [name for name in splits if name not in {'train', *patterns}]
  if unknown:
    raise ValueError(
      f"This data has no split '{unknown[0]}'; it has {', '.join(patterns)}."
    )
  if path.is_file():
    split = _split_of(path, patterns)
    if split is None and _is_called(path, others):
      raise ValueError(
        f"'{path}' is of another part than config.data.part says; set that, "
        'or give another file.'
      )
    return {split or 'validation': path}
  if not path.is_dir():
    raise FileNotFoundError(f"There is no folder '{path}'; {download}")
  wanted = {
    split: patterns[split]
    for split in dict.fromkeys(splits)
    if split in patterns
  }
  found = {split: _find(path, globs) for split, globs in wanted.items()}
  found = {split: file for split, file in found.items() if file}
  if not found:
    names = ' or '.join(globs[0] for globs in wanted.values())
    raise FileNotFoundError(f"'{path}' holds no {names}; {download}")
  return found


def _split_of(file: pathlib.Path, patterns) -> str | None:
  called = (split for split in patterns if _is_called(file, patterns[split]))
  return next(called, None)


def _is_called(file: pathlib.Path, globs) -> bool:
  return any(file.match(each + end) for each in globs for end in _ENDS)


def _find(folder: pathlib.Path, globs: tuple[str, ...]) -> pathlib.Path | None:
  for pattern in globs:
    for suffix in _ENDS:
      files = sorted(folder.glob(pattern + suffix))
      if len(files) > 1:
        raise ValueError(
          f"'{folder}' holds both {files[0].name} and {files[1].name}; leave "
          'one of them there, or give the path of one.'
        )
      if files:
        return files[0]
  return None


@contextlib.contextmanager
def at(place: str):
  """Puts a place before what a ValueError says."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f'{place}: {error}') from None


def read_json_lines(path: pathlib.Path) -> Iterator[tuple[str, dict]]:
  """Yields the place and the object of every line that is not blank.

  Raises:
    ValueError: a line is damaged, or there is none.
  """
  found = False
  for number, line in enumerate(_lines(path), 1):
    place = f'{path}, line {number}'
    text = decode_utf8(line, place)
    if not text.strip():
      continue
    found = True
    try:
      fields = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
      raise ValueError(
        f'{place} is not valid JSON ({error.msg}, at character '
        f'{error.pos + 1}); mend or remove the line.'
      ) from None
    except (ValueError, RecursionError) as error:
      raise ValueError(
        f'{place} is not valid JSON ({error}); mend or remove the line.'
      ) from None
    yield place, _object(fields, place)
  if not found:
    raise ValueError(f'{path} holds no lines; write one an entry.')


def read_json(path: pathlib.Path) -> dict:
  """The object that a whole file is.

  Raises:
    ValueError: the file is damaged or holds something else.
  """
  text = _text(path)
  try:
    fields = json.loads(text, object_pairs_hook=_once)
  except (ValueError, RecursionError) as error:
    raise _not_json(path, error) from None
  return _object(fields, str(path))


def read_json_array(path: pathlib.Path) -> Iterator[tuple[str, dict]]:
  """Yields the place and the object of every row of a file that is an array.

  Rows are decoded one by one, or HotpotQA would take gigabytes.

  Raises:
    ValueError: the file is damaged (its line is named), or holds no rows.
  """
  text = _text(path)
  decoder = json.JSONDecoder(object_pairs_hook=_once)
  start = _skip(text, 0)
  if text[start : start + 1] != '[':
    raise ValueError(f'{path} holds no JSON array; download it again.')
  start, counted = _skip(text, start + 1), 0
  number, line = 0, 1
  while text[start : start + 1] != ']':
    number += 1
    line += text.count('\n', counted, start)
    counted = start
    try:
      fields, stop = decoder.raw_decode(text, start)
      after = _skip(text, stop)
      if text[after : after + 1] not in (',', ']') or after == len(text):
        raise json.JSONDecodeError("Expecting ',' or ']'", text, after)
    except (ValueError, RecursionError) as error:
      raise _not_json(f'{path}, row {number}', error) from None
    place = f'{path}, row {number}'
    if line > 1:
      place += f' (line {line})'
    yield place, _object(fields, place)
    start = _skip(text, after + 1) if text[after] == ',' else after
  if not number:
    raise ValueError(f'{path} holds no rows; download it again.')
  if _skip(text, start + 1) < len(text):
    raise ValueError(
      f'{path} goes on behind the end of its array; download it again.'
    )


def read_csv(
  path: pathlib.Path, columns: tuple[str, ...]
) -> Iterator[tuple[str, dict]]:
  """Yields the place and the fields of every row below a header.

  Raises:
    ValueError: one of `columns` is missing, a row has more or fewer fields
      than the header, or there is no row.
  """
  reader = csv.DictReader(io.StringIO(_text(path), newline=''), strict=True)
  header = list(reader.fieldnames or ())
  missing = [name for name in columns if name not in header]
  if missing:
    raise ValueError(
      f"{path}, line 1 has no column '{missing[0]}'; download the file again."
    )
  doubled = [name for name in columns if header.count(name) > 1]
  if doubled:
    raise ValueError(
      f"{path}, line 1 has the column '{doubled[0]}' twice; remove one."
    )
  found = False
  while True:
    start = reader.line_num + 1
    try:
      fields = next(reader, None)
    except csv.Error as error:
      raise ValueError(
        f'{path}, line {start} begins no valid CSV ({error}); mend it.'
      ) from None
    if fields is None:
      break
    found = True
    place = f'{path}, line {reader.line_num}'
    if None in fields or None in fields.values():
      more = 'more' if None in fields else 'fewer'
      raise ValueError(
        f'{place} has {more} fields than the header; mend the row.'
      )
    yield place, fields
  if not found:
    raise ValueError(f'{path} holds no rows; download it again.')


def text(fields: Mapping, name: str) -> str:
  """A field that must be there and be text."""
  value = _field(fields, name)
  if value is None:
    raise ValueError(f"Field '{name}' is null; give it a text.")
  if not isinstance(value, str):
    raise ValueError(f"Field '{name}' is not text; put its value in quotes.")
  return value


def identifier(fields: Mapping, name: str) -> str:
  """A field that must be there and be text or an integer, as text."""
  value = _field(fields, name)
  if isinstance(value, int) and not isinstance(value, bool):
    return str(value)
  return text(fields, name)


def texts(fields: Mapping, name: str) -> tuple[str, ...]:
  """A field that must be a list of texts, one or more."""
  values = _field(fields, name)
  if (
    not isinstance(values, list)
    or not values
    or not all(isinstance(value, str) for value in values)
  ):
    raise ValueError(
      f"Field '{name}' is not a list of one or more texts, such as "
      '["first", "second"].'
    )
  return tuple(values)


def objects(fields: Mapping, name: str) -> list[dict]:
  """A field that must be a list of objects, maybe empty."""
  values = _field(fields, name)
  if not isinstance(values, list) or not all(
    isinstance(value, dict) for value in values
  ):
    raise ValueError(f"Field '{name}' is not a list of objects; mend it.")
  return values


def distinct(values) -> tuple[str, ...]:
  """The values that are not blank, each once, in their order."""
  return tuple(dict.fromkeys(value for value in values if value.strip()))


def _field(fields, name):
  if name not in fields:
    raise ValueError(f"Field '{name}' is missing; add it.")
  return fields[name]


def _once(pairs):
  fields = dict(pairs)
  if len(fields) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f"'{twice}' is given twice")
  return fields


def _object(value, place):
  if not isinstance(value, dict):
    raise ValueError(f'{place} holds no object; write it as {{"name": ...}}.')
  return value


def _not_json(path, error):
  line = getattr(error, 'lineno', None)
  place = f'{path}, line {line}' if line else str(path)
  said = getattr(error, 'msg', error)
  return ValueError(f'{place} is not valid JSON ({said}); mend the file.')


def _skip(text, start):
  while start < len(text) and text[start] in ' \t\r\n':
    start += 1
  return start


def _lines(path):
  with _unpacking(path), _OPENERS.get(path.suffix, open)(path, 'rb') as file:
    yield from file


def _text(path):
  with _unpacking(path), _OPENERS.get(path.suffix, open)(path, 'rb') as file:
    data = file.read()
  return decode_utf8(data, str(path))


@contextlib.contextmanager
def _unpacking(path):
  try:
    yield
  except IsADirectoryError:
    raise ValueError(
      f'{path} is a folder; put the file of that name in its place.'
    ) from None
  except _PACKED_WRONGLY as error:
    raise ValueError(
      f'{path} cannot be unpacked ({error}); download it again.'
    ) from None
