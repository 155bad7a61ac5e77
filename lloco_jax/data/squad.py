"""SQuAD by article: one document an article, from the official JSON files.

The paragraphs of an article are joined by a blank line (Rajpurkar et al. 2016
ask about one paragraph at a time). A question of version 2.0 that its
paragraph does not answer has the answer 'unanswerable', the word that Qasper
uses, and the tag 'unanswerable'; the official metric scores an empty answer
there. It was written for one paragraph: another of the article may answer it.
"""

from collections.abc import Mapping
import itertools
import pathlib

from lloco_jax.data.downloads import Download
from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.prepared import Rows, rows_of
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
_URL = 'https://rajpurkar.github.io/SQuAD-explorer/dataset/'
# Sizes and hashes: tensorflow_datasets/datasets/squad/checksums.tsv of
# github.com/tensorflow/datasets.
DOWNLOADS = {
  'v1.1': {
    'train': Download(
      f'{_URL}train-v1.1.json',
      30_288_272,
      '3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955',
    ),
    'validation': Download(
      f'{_URL}dev-v1.1.json',
      4_854_279,
      '95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9',
    ),
  },
  'v2.0': {
    'train': Download(
      f'{_URL}train-v2.0.json',
      42_123_633,
      '68dcfbb971bd3e96d5b46c7177b16c1a4e7d4bdef19fb204502738552dede002',
    ),
    'validation': Download(
      f'{_URL}dev-v2.0.json',
      4_370_528,
      '80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8',
    ),
  },
}
UNANSWERABLE = 'unanswerable'
_SPLITS = {'train': 'train', 'validation': 'dev'}


def download(part: str) -> str:
  """Where the official files are, as the end of a sentence."""
  return f'download train-{part}.json and dev-{part}.json from {_URL}.'


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
  others = tuple(f'*-{each}.json' for each in PARTS if each != part)
  files = split_files(path, patterns, splits, download(part), others)
  return dataset_of_files(
    'squad',
    files,
    lambda file, _, collection: _read(_articles(file), collection),
  )


def squad_of_rows(splits: Mapping[str, Rows], part: str) -> Dataset:
  """As `read_squad`, of what tensorflow_datasets has prepared."""
  return dataset_of_files(
    'squad',
    splits,
    lambda rows, _, collection: _read(_as_in_files(rows), collection),
  )


def _articles(path):
  content = read_json(path)
  with at(str(path)):
    articles = objects(content, 'data')
  for number, article in enumerate(articles, 1):
    yield f'{path}, article {number}', article


def _as_in_files(rows):
  for place, fields in rows:
    answers = iter(fields['answers'])
    paragraphs = [{'context': each, 'qas': []} for each in fields['contexts']]
    for question in rows_of(fields['questions']):
      texts = itertools.islice(answers, question['answers'])
      paragraphs[question['paragraph']]['qas'].append(
        {
          **question,
          'is_impossible': bool(question['is_impossible']),
          'answers': [{'text': each} for each in texts],
        }
      )
    yield place, {**fields, 'paragraphs': paragraphs}


def _read(articles, collection):
  examples = []
  for place, article in articles:
    with at(place):
      title = text(article, 'title')
      paragraphs = objects(article, 'paragraphs')
      document = collection.add(
        title, '\n\n'.join(text(each, 'context') for each in paragraphs)
      )
      for order, paragraph in enumerate(paragraphs, 1):
        with at(f'{title}, paragraph {order}'):
          questions = objects(paragraph, 'qas')
          if questions and not paragraph['context'].strip():
            raise ValueError(
              "Field 'context' is empty, and there are questions about it; "
              'fetch the file again.'
            )
          examples += [
            _example(question, document, collection) for question in questions
          ]
  return tuple(examples)


def _example(fields, document, collection):
  id = collection.new_id(identifier(fields, 'id'))
  question = text(fields, 'question').strip()
  impossible = fields.get('is_impossible', False)
  if not isinstance(impossible, bool):
    raise ValueError(
      f"Field 'is_impossible' is {impossible!r}; it must be true or false."
    )
  if impossible and fields.get('answers'):
    raise ValueError(
      "Field 'is_impossible' is true, and there are answers; mend one of them."
    )
  if impossible:
    return Example(id, question, (UNANSWERABLE,), (document,), (UNANSWERABLE,))
  answers = [text(answer, 'text') for answer in objects(fields, 'answers')]
  return Example(id, question, distinct(answers), (document,))
