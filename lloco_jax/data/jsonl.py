"""A user's own documents and examples, from a folder of JSONL files.

`documents.jsonl` holds a document a line (`id`, `text`, maybe `group`);
`train.jsonl` and `validation.jsonl`, either of which may be left out, an
example a line (`id`, `question`, `answer` or `answers`, `document_id` or
`document_ids`).
"""

from collections.abc import Callable, Iterator
import json
import pathlib

from lloco_jax.data.documents import Document, decode_utf8
from lloco_jax.data.examples import Dataset, Example, by_id

_DOCUMENTS = 'documents.jsonl'
_SPLITS = ('train', 'validation')
_DOCUMENT_FIELDS = ('id', 'text', 'group')
_EXAMPLE_FIELDS = (
  'id',
  'question',
  'answer',
  'answers',
  'document_id',
  'document_ids',
)


def read_jsonl(folder: str | pathlib.Path) -> Dataset:
  """Reads the documents and examples of a folder.

  Raises:
    FileNotFoundError: the folder, its documents or all its examples are
      missing.
    ValueError: a line is damaged (the file and the line are named), ids
      clash, or an example's document is unknown.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(
      f"There is no folder '{folder}'; it should hold {_DOCUMENTS}, "
      'train.jsonl and validation.jsonl.'
    )
  if not (folder / _DOCUMENTS).is_file():
    raise FileNotFoundError(
      f"'{folder}' has no {_DOCUMENTS}; write one with a document a line."
    )
  paths = {split: folder / f'{split}.jsonl' for split in _SPLITS}
  paths = {split: path for split, path in paths.items() if path.is_file()}
  if not paths:
    raise FileNotFoundError(
      f"'{folder}' has neither train.jsonl nor validation.jsonl; write one "
      'with an example a line.'
    )
  documents = list(_read(folder / _DOCUMENTS, _DOCUMENT_FIELDS, _document))
  splits = {
    split: tuple(_read(path, _EXAMPLE_FIELDS, _example))
    for split, path in paths.items()
  }
  try:
    return Dataset(by_id(documents), splits)
  except ValueError as error:
    raise ValueError(f'{folder}: {error}') from None


def _read(path: pathlib.Path, known: tuple[str, ...], make: Callable):
  """Yields what `make` makes of the fields of each line."""
  for place, fields in _lines(path, known):
    try:
      yield make(fields)
    except ValueError as error:
      raise ValueError(f'{place}: {error}') from None


def _lines(
  path: pathlib.Path, known: tuple[str, ...]
) -> Iterator[tuple[str, dict]]:
  """Yields the place and the fields of every line that is not blank."""
  found = False
  for number, line in enumerate(path.read_bytes().split(b'\n'), 1):
    place = f'{path}, line {number}'
    text = decode_utf8(line, place)
    if not text.strip():
      continue
    found = True
    try:
      fields = json.loads(text)
    except (ValueError, RecursionError) as error:
      raise ValueError(
        f'{place} is not valid JSON ({error}); mend or remove the line.'
      ) from None
    if not isinstance(fields, dict):
      raise ValueError(
        f'{place} holds no object; write it as '
        f'{{"{known[0]}": ..., "{known[1]}": ...}}.'
      )
    unknown = next((name for name in fields if name not in known), None)
    if unknown is not None:
      raise ValueError(
        f"{place} has an unknown field '{unknown}'; known are "
        f'{", ".join(known)}.'
      )
    yield place, fields
  if not found:
    raise ValueError(f'{path} holds no lines; write one an entry.')


def _document(fields: dict) -> Document:
  """The document of a line."""
  return Document(
    _text(fields, 'id'),
    _text(fields, 'text'),
    _text(fields, 'group') if 'group' in fields else 'default',
  )


def _example(fields: dict) -> Example:
  """The example of a line."""
  return Example(
    _text(fields, 'id'),
    _text(fields, 'question'),
    _texts(fields, 'answer', 'answers'),
    _texts(fields, 'document_id', 'document_ids'),
  )


def _text(fields: dict, name: str) -> str:
  """A field that must be there and be text."""
  if name not in fields:
    raise ValueError(f"Field '{name}' is missing; add it.")
  if not isinstance(fields[name], str):
    raise ValueError(f"Field '{name}' is not text; put its value in quotes.")
  return fields[name]


def _texts(fields: dict, one: str, several: str) -> tuple[str, ...]:
  """A field that is given as one text or, by another name, as a list."""
  if one in fields and several in fields:
    raise ValueError(
      f"Fields '{one}' and '{several}' are both given; drop one."
    )
  if several not in fields:
    return (_text(fields, one),)
  values = fields[several]
  if (
    not isinstance(values, list)
    or not values
    or not all(isinstance(value, str) for value in values)
  ):
    raise ValueError(
      f"Field '{several}' is not a list of texts, such as "
      '["first", "second"].'
    )
  return tuple(values)
