"""Splits: which documents train, and which examples of a split are taken."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import hashlib
import itertools

import numpy as np

from lloco_jax.data.documents import Document, DocumentFile
from lloco_jax.data.examples import Dataset, Example, linked


def split_documents(
  dataset: Dataset, share: float, seed: int, evaluated: str = 'validation'
) -> Dataset:
  """Divides data that has one split alone into 'train' and one to evaluate.

  The latter is the split that the data has, or where that is 'train',
  `evaluated`, or 'validation' where that is 'train', too. Documents are ordered
  by a hash of the seed and their ids; the first `share` of them, rounded up,
  are evaluated, and with them those that examples link them to; the others
  train. So a document's side depends on no order of files, and a larger share
  keeps what a smaller one had.

  Raises:
    ValueError: the share is not between 0 and 1, there are several splits, or
      too few documents that are not linked.
  """
  if not 0 < share < 1:
    raise ValueError(
      f'The share of documents to validate is {share}; it must be between 0 '
      'and 1.'
    )
  if len(dataset.splits) != 1:
    raise ValueError(
      f'The data has the splits {", ".join(dataset.splits)}; only data with '
      'one split is divided.'
    )
  ((only, examples),) = dataset.splits.items()
  name = only
  if only == 'train':
    name = 'validation' if evaluated == 'train' else evaluated
  parts = linked([example.document_ids for example in examples])
  part_of = {
    id: part for e, part in zip(examples, parts) for id in e.document_ids
  }
  ids = sorted(
    part_of, key=lambda id: hashlib.sha256(f'{seed}/{id}'.encode()).digest()
  )
  count = int(np.ceil(round(share * len(ids), 9)))
  kept = {part_of[id] for id in ids[:count]}
  if not kept or kept == set(parts):
    raise ValueError(
      f'{len(ids)} documents cannot be divided into train and {name}; the '
      'data needs two or more that no examples link.'
    )
  sides = {'train': [], name: []}
  for example, part in zip(examples, parts):
    sides[name if part in kept else 'train'].append(example)
  splits = {side: tuple(found) for side, found in sides.items()}
  return dataclasses.replace(dataset, splits=splits)


def sample(
  examples: Sequence[Example],
  count: int = 0,
  documents: int = 0,
  questions_per_document: int = 0,
  seed: int = 0,
) -> tuple[Example, ...]:
  """At most so many examples, about at most so many documents; 0 is all.

  What is taken comes first in a random order of the seed, and is returned in
  its own. With `count` alone these are the rows that the reference's
  `shuffle(seed).select(range(count))` of Hugging Face's datasets takes (Tan et
  al. 2024), which permutes with the same generator. With `documents` one
  question about each of them goes before all others.

  Raises:
    ValueError: a limit is negative.
  """
  for name, limit in {
    'count': count,
    'documents': documents,
    'questions_per_document': questions_per_document,
  }.items():
    if limit < 0:
      raise ValueError(f'{name} is {limit}; it must be 0 (all) or more.')
  if documents:
    ids = list(dict.fromkeys(id for e in examples for id in e.document_ids))
    order = np.random.default_rng(seed).permutation(len(ids))[:documents]
    chosen = {ids[place] for place in order}
    examples = [e for e in examples if chosen.issuperset(e.document_ids)]
  order = np.random.default_rng(seed).permutation(len(examples))
  if documents:
    order = _each_document_first(examples, order)
  taken, about = [], {}
  for place in order:
    if count and len(taken) == count:
      break
    key = examples[place].document_ids
    about[key] = about.get(key, 0) + 1
    if not questions_per_document or about[key] <= questions_per_document:
      taken.append(place)
  return tuple(examples[place] for place in sorted(taken))


def _each_document_first(
  examples: Sequence[Example], order: Iterable[int]
) -> list[int]:
  """The order, but the first example about each of the documents leads."""
  firsts, others, met = [], [], set()
  for place in order:
    key = examples[place].document_ids
    (others if key in met else firsts).append(place)
    met.add(key)
  return firsts + others


def teach_every_answer(examples: Sequence[Example]) -> tuple[Example, ...]:
  """Examples for finetuning, one an answer, which then comes first.

  The second and later ones of an example have a number behind its id.
  """
  taught, ids = [], {example.id for example in examples}
  for example in examples:
    numbers = itertools.count(2)
    for place, answer in enumerate(example.answers):
      others = example.answers[:place] + example.answers[place + 1 :]
      name = example.id
      while place and name in ids:
        name = f'{example.id} ({next(numbers)})'
      ids.add(name)
      taught.append(
        dataclasses.replace(example, id=name, answers=(answer, *others))
      )
  return tuple(taught)


def join(datasets: Mapping[str, Dataset], group: str = 'combined') -> Dataset:
  """Several data sets as one, in their order, of one group.

  Ids of documents and examples have the name of their data set before them,
  'qasper/ID'.
  """
  documents, splits, files = DocumentFile(), {}, []
  for name, dataset in datasets.items():
    for document in dataset.documents.values():
      documents.add(Document(f'{name}/{document.id}', document.text, group))
    for split, examples in dataset.splits.items():
      splits.setdefault(split, []).extend(
        dataclasses.replace(
          example,
          id=f'{name}/{example.id}',
          document_ids=tuple(f'{name}/{id}' for id in example.document_ids),
        )
        for example in examples
      )
    files += [f'{name}/{file}' for file in dataset.files]
  splits = {split: tuple(examples) for split, examples in splits.items()}
  return Dataset(documents, splits, tuple(files))
