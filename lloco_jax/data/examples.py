"""Examples: questions with their answers, asked about documents."""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence, ValuesView
import dataclasses
import pathlib

from lloco_jax.data.documents import Collection, Document, DocumentFile
from lloco_jax.data.prepared import Rows


@dataclasses.dataclass(frozen=True)
class Example:
  """A question about documents; any of `answers` is right.

  The first answer is the one that finetuning teaches. `tags` name the groups
  of examples that are scored apart, such as 'hard' or 'unanswerable'.

  Raises:
    ValueError: a field is empty.
  """

  id: str
  question: str
  answers: tuple[str, ...]
  document_ids: tuple[str, ...]
  tags: tuple[str, ...] = ()

  def __post_init__(self):
    if not self.id.strip():
      raise ValueError('An example has an empty id; give every example one.')
    if not self.question.strip():
      raise ValueError(f"Example '{self.id}' has an empty question; ask one.")
    for name in ('answers', 'document_ids'):
      values = getattr(self, name)
      if isinstance(values, str) or not values:
        raise ValueError(
          f"Example '{self.id}' needs one or more {name}, in a list; it has "
          f'{values!r}.'
        )
      object.__setattr__(self, name, tuple(values))
    if not all(answer.strip() for answer in self.answers):
      raise ValueError(
        f"Example '{self.id}' has an empty answer; give one, or leave it out."
      )
    for said in (self.id, self.question, *self.answers):
      try:
        said.encode('utf-8')
      except UnicodeEncodeError:
        raise ValueError(
          f'Example {self.id!r} holds half a surrogate pair in {said!r}, which '
          'no tokenizer can read; remove it.'
        ) from None
    if isinstance(self.tags, str) or not all(self.tags):
      raise ValueError(
        f"Example '{self.id}' has tags that are empty or no tuple of texts."
      )
    object.__setattr__(self, 'tags', tuple(self.tags))


def check_examples(
  examples: Iterable[Example], documents: Iterable[str]
) -> None:
  """Checks that ids of examples are unique and their documents known.

  `documents` are ids, or a mapping whose keys are.

  Raises:
    ValueError: two examples share an id, or a document is unknown.
  """
  documents = frozenset(documents)
  examples = tuple(examples)
  doubled = _first_repeated(example.id for example in examples)
  if doubled is not None:
    raise ValueError(
      f"Two examples have the id '{doubled}'; give each its own."
    )
  for example in examples:
    for document_id in example.document_ids:
      if document_id not in documents:
        raise ValueError(
          f"Example '{example.id}' asks about document '{document_id}', "
          'which is not among the documents; add it or correct the id.'
        )


def linked(sets: Sequence[Sequence[str]]) -> list[str]:
  """Which of the sets share documents, also through others.

  Args:
    sets: [N] of one or more ids, such as the documents of each example.

  Returns:
    [N] one id for all sets that are linked.
  """
  nearer = {}

  def first(id):
    while nearer.setdefault(id, id) != id:
      nearer[id] = nearer[nearer[id]]
      id = nearer[id]
    return id

  for one, *others in sets:
    for other in others:
      nearer[first(other)] = first(one)
  return [first(ids[0]) for ids in sets]


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Documents by id, and examples by split ('train', 'validation').

  However the documents are given, their texts are on the disk afterwards.
  `files` are the names of the files that they come from, if any, and `told`
  says in a sentence what it is: a score on a part of a benchmark has to be told
  from one on the whole.

  Raises:
    ValueError: ids clash, or an example's document is unknown.
  """

  documents: Mapping[str, Document]
  splits: Mapping[str, tuple[Example, ...]]
  files: tuple[str, ...] = ()
  told: str = dataclasses.field(default='', compare=False)

  def __post_init__(self):
    if not isinstance(self.documents, DocumentFile):
      for key, document in self.documents.items():
        if key != document.id:
          raise ValueError(
            f"Document '{document.id}' is filed under '{key}'; use its id."
          )
      filed = DocumentFile(self.documents.values())
      object.__setattr__(self, 'documents', filed)
    check_examples(
      (example for split in self.splits.values() for example in split),
      self.documents,
    )

  def document_ids(self, split: str) -> tuple[str, ...]:
    """The documents that examples of `split` ask about, each once."""
    return tuple(
      dict.fromkeys(
        document_id
        for example in self.splits.get(split, ())
        for document_id in example.document_ids
      )
    )

  def documents_of(self, split: str) -> ValuesView[Document]:
    """The documents of `document_ids`, each read when its turn comes."""
    return self.documents.only(self.document_ids(split)).values()


def dataset_of_files(
  group: str, files: Mapping[str, pathlib.Path | Rows], read: Callable
) -> Dataset:
  """The dataset of a file a split, or its rows, with documents of one group.

  `read(file, split, collection)` gives the examples of a file, and adds their
  documents to the collection.

  Raises:
    ValueError: a file has no examples; or as `read`.
  """
  collection = Collection(group)
  splits = {}
  for split, file in files.items():
    splits[split] = read(file, split, collection)
    if not splits[split]:
      where = file if isinstance(file, pathlib.Path) else file.name
      raise ValueError(f'{where} holds no questions; download it again.')
  names = tuple(file.name for file in files.values())
  return Dataset(collection.documents, splits, names)


def by_id(
  documents: Mapping[str, Document] | Iterable[Document],
) -> Mapping[str, Document]:
  """Files documents under their ids, in their order.

  A mapping is returned as it is: its documents may lie on the disk.

  Raises:
    ValueError: two documents share an id.
  """
  if isinstance(documents, Mapping):
    return documents
  documents = tuple(documents)
  doubled = _first_repeated(document.id for document in documents)
  if doubled is not None:
    raise ValueError(
      f"Two documents have the id '{doubled}'; give each its own."
    )
  return {document.id: document for document in documents}


def _first_repeated(ids: Iterable[str]) -> str | None:
  """The first id that occurs more than once, if any."""
  counts = collections.Counter(ids)
  return next((key for key, count in counts.items() if count > 1), None)
