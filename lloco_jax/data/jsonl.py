"""A user's own documents and examples, from a folder of JSONL files.

`documents.jsonl` holds a document a line (`id`, `text`, maybe `group`);
`train.jsonl` and `validation.jsonl`, either of which may be left out, an
example a line (`id`, `question`, `answer` or `answers`, `document_id` or
`document_ids`, maybe `tags`).
"""

from collections.abc import Callable, Mapping
import dataclasses
import json
import pathlib

from lloco_jax.data.documents import Document, DocumentFile, text_hash
from lloco_jax.data.examples import Dataset, Example, check_examples
from lloco_jax.data.records import (
  at,
  read_json_lines,
  split_files,
  text,
  texts,
)
from lloco_jax.files import named_path

_DOCUMENTS = 'documents'
_SPLITS = ('train', 'validation')
_PATTERNS = {name: (f'{name}.jsonl',) for name in (_DOCUMENTS, *_SPLITS)}
_DOCUMENT_FIELDS = ('id', 'text', 'group')
_EXAMPLE_FIELDS = (
  'id',
  'question',
  'answer',
  'answers',
  'document_id',
  'document_ids',
  'tags',
)


def read_jsonl(folder: str | pathlib.Path) -> Dataset:
  """Reads the documents and examples of a folder.

  A document with the text of another in its group is taken as that one, or
  training could hold what is evaluated as unseen; the dataset says how many.

  Raises:
    FileNotFoundError: the folder, its documents or all its examples are
      missing.
    ValueError: a line is damaged (the file and the line are named), ids
      clash, or an example's document is unknown.
  """
  folder = named_path(folder)
  if folder.is_file():
    raise ValueError(f"'{folder}' is a file; name the folder that it is in.")
  paths = split_files(
    folder,
    _PATTERNS,
    tuple(_PATTERNS),
    'it should hold documents.jsonl, train.jsonl and validation.jsonl.',
  )
  if _DOCUMENTS not in paths:
    raise FileNotFoundError(
      f"'{folder}' has no documents.jsonl; write one with a document a line."
    )
  texts_file = paths.pop(_DOCUMENTS)
  if not paths:
    raise FileNotFoundError(
      f"'{folder}' has neither train.jsonl nor validation.jsonl; write one "
      'with an example a line.'
    )
  documents, twins = _documents(texts_file)
  splits, known, names = {}, set(), frozenset((*documents, *twins))
  for split, path in paths.items():
    splits[split] = []
    for place, example in _read(path, _EXAMPLE_FIELDS, _example):
      with at(place):
        if example.id in known:
          raise ValueError(
            f"Two examples have the id '{example.id}'; give each its own."
          )
        check_examples([example], names)
      known.add(example.id)
      splits[split].append(_of_firsts(example, twins))
  splits = {split: tuple(examples) for split, examples in splits.items()}
  files = (texts_file.name, *(path.name for path in paths.values()))
  return Dataset(documents, splits, files, _told(twins))


def read_examples(path: pathlib.Path) -> tuple[Example, ...]:
  """Reads the examples of one file.

  Raises:
    ValueError: a line is damaged (the file and the line are named).
  """
  return tuple(each for _, each in _read(path, _EXAMPLE_FIELDS, _example))


def example_line(example: Example) -> str:
  """The line of an example, as `read_examples` reads it."""
  fields = {
    'id': example.id,
    'question': example.question,
    'answers': example.answers,
    'document_ids': example.document_ids,
    'tags': example.tags,
  }
  for one, several in (('answer', 'answers'), ('document_id', 'document_ids')):
    if len(fields[several]) == 1:
      (fields[one],) = fields.pop(several)
  if not example.tags:
    del fields['tags']
  # A lone surrogate cannot be UTF-8, but its escaped form is valid JSON.
  line = json.dumps(fields, ensure_ascii=False)
  return line.encode('utf-8', 'backslashreplace').decode() + '\n'


def _read(path: pathlib.Path, known: tuple[str, ...], make: Callable):
  """Yields the place of each line, and what `make` makes of its fields."""
  for place, fields in read_json_lines(path):
    unknown = next((name for name in fields if name not in known), None)
    if unknown is not None:
      raise ValueError(
        f"{place} has an unknown field '{unknown}'; known are "
        f'{", ".join(known)}.'
      )
    with at(place):
      entry = make(fields)
    yield place, entry


def _documents(path: pathlib.Path) -> tuple[DocumentFile, dict[str, str]]:
  """The documents, each text of a group once, and the ids of the others.

  Those are mapped to the id that their text came under first.
  """
  documents, twins, firsts = DocumentFile(), {}, {}
  for place, document in _read(path, _DOCUMENT_FIELDS, _document):
    with at(place):
      if document.id in documents or document.id in twins:
        raise ValueError(
          f"Two documents have the id '{document.id}'; give each its own."
        )
    key = document.group, text_hash(document.text)
    first = firsts.setdefault(key, document.id)
    if first == document.id:
      documents.add(document)
    else:
      twins[document.id] = first
  return documents, twins


def _of_firsts(example: Example, twins: Mapping[str, str]) -> Example:
  """The example, about the documents that its own are taken as."""
  ids = dict.fromkeys(twins.get(id, id) for id in example.document_ids)
  return dataclasses.replace(example, document_ids=tuple(ids))


def _told(twins: Mapping[str, str]) -> str:
  """Says what documents are not read for themselves, if any."""
  if not twins:
    return ''
  twin, first = next(iter(twins.items()))
  return (
    'Documents that have the text of another and are taken as that one: '
    f"{len(twins):,} ('{twin}' as '{first}')."
  )


def _document(fields: dict) -> Document:
  """The document of a line."""
  return Document(
    text(fields, 'id'),
    text(fields, 'text'),
    text(fields, 'group') if 'group' in fields else 'default',
  )


def _example(fields: dict) -> Example:
  """The example of a line."""
  return Example(
    text(fields, 'id'),
    text(fields, 'question'),
    _one_or_several(fields, 'answer', 'answers'),
    _one_or_several(fields, 'document_id', 'document_ids'),
    texts(fields, 'tags') if fields.get('tags', []) != [] else (),
  )


def _one_or_several(fields: dict, one: str, several: str) -> tuple[str, ...]:
  """A field that is given as one text or, by another name, as a list."""
  if one in fields and several in fields:
    raise ValueError(
      f"Fields '{one}' and '{several}' are both given; drop one."
    )
  return texts(fields, several) if several in fields else (text(fields, one),)
