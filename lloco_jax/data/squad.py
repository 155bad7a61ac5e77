"""SQuAD by article: one document an article, from the official JSON files.

The paragraphs of an article are joined by a blank line (Rajpurkar et al. 2016
ask about one paragraph at a time). A question of version 2.0 that its
paragraph does not answer has the answer 'unanswerable', the word that Qasper
uses, and the tag 'unanswerable'; the official metric scores an empty answer
there. It was written for one paragraph: another of the article may answer it.
"""

import pathlib

from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.records import (
  at,
  distinct,
  identifier,
  objects,
  read_json,
  split_files,
  text,
)

PARTS = ('v1.1', 'v2.0')
UNANSWERABLE = 'unanswerable'
_SPLITS = {'train': 'train', 'validation': 'dev'}


def download(part: str) -> str:
  """Where the official files are, as the end of a sentence."""
  return (
    f'download train-{part}.json and dev-{part}.json from '
    'https://rajpurkar.github.io/SQuAD-explorer/dataset/.'
  )


def read_squad(
  path: str | pathlib.Path,
  part: str = 'v1.1',
  splits: tuple[str, ...] = ('train', 'validation'),
) -> Dataset:
  """Reads a folder with `train-v1.1.json` and `dev-v1.1.json`, or 2.0's.

  Raises:
    FileNotFoundError: nothing is there.
    ValueError: an article is damaged.
  """
  patterns = {
    split: (f'{name}-{part}.json',) for split, name in _SPLITS.items()
  }
  files = split_files(path, patterns, splits, download(part))
  return dataset_of_files(
    'squad', files, lambda file, _, collection: _read(file, collection)
  )


def _read(path, collection):
  examples = []
  with at(str(path)):
    articles = objects(read_json(path), 'data')
  for number, article in enumerate(articles, 1):
    with at(f'{path}, article {number}'):
      title = text(article, 'title')
      paragraphs = objects(article, 'paragraphs')
      document = collection.add(
        title, '\n\n'.join(text(each, 'context') for each in paragraphs)
      )
      for order, paragraph in enumerate(paragraphs, 1):
        for question in objects(paragraph, 'qas'):
          with at(f'{title}, paragraph {order}'):
            examples.append(_example(question, document))
  return tuple(examples)


def _example(fields, document):
  id, question = identifier(fields, 'id'), text(fields, 'question').strip()
  if fields.get('is_impossible'):
    return Example(id, question, (UNANSWERABLE,), (document,), (UNANSWERABLE,))
  answers = [text(answer, 'text') for answer in objects(fields, 'answers')]
  return Example(id, question, distinct(answers), (document,))
