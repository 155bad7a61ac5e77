"""QuALITY: multiple choice about stories, from the official JSON lines.

A line is an article with the questions of one writer (Pang et al. 2022), so
an article occurs on several lines. The choices are part of the question, in
the words of the reference, and an answer is 'B. text of the option'. Tags:
'hard' where `difficult` is 1, and the number of options.
"""

from collections.abc import Mapping
import itertools
import pathlib
import string

from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.prepared import Rows, rows_of
from lloco_jax.data.records import (
  at,
  identifier,
  objects,
  read_json_lines,
  split_files,
  text,
  texts,
)

URL = 'https://raw.githubusercontent.com/nyu-mll/quality/main/data/v1.0.1/'
DOWNLOAD = (
  f'download {URL}QuALITY.v1.0.1.htmlstripped.train and the same with .dev at '
  'its end.'
)
_FILES = {
  'train': ('QuALITY*.htmlstripped.train',),
  'validation': ('QuALITY*.htmlstripped.dev',),
}


def read_quality(
  path: str | pathlib.Path, splits: tuple[str, ...] = ('train', 'validation')
) -> Dataset:
  """Reads a folder with `QuALITY.v1.0.1.htmlstripped.train` and `.dev`.

  Raises:
    FileNotFoundError: nothing is there.
    ValueError: a line is damaged.
  """
  files = split_files(path, _FILES, splits, DOWNLOAD)
  return dataset_of_files(
    'quality',
    files,
    lambda file, _, collection: _read(read_json_lines(file), collection),
  )


def quality_of_rows(splits: Mapping[str, Rows]) -> Dataset:
  """As `read_quality`, of what tensorflow_datasets has prepared."""
  return dataset_of_files(
    'quality',
    splits,
    lambda rows, _, collection: _read(_as_in_files(rows), collection),
  )


def with_choices(question: str, options: tuple[str, ...]) -> str:
  """The question as it is asked, its choices below it."""
  choices = [f'{letter}. {option}' for letter, option in _lettered(options)]
  return '\n'.join((f'{question}\n\nChoices:', *choices))


def _lettered(options):
  if len(options) > len(string.ascii_uppercase):
    raise ValueError(f'{len(options)} options are more than there are letters.')
  return list(zip(string.ascii_uppercase, options))


def _as_in_files(rows):
  for place, fields in rows:
    options = iter(fields['options'])
    questions = [
      {**each, 'options': list(itertools.islice(options, each['options']))}
      for each in rows_of(fields['questions'])
    ]
    yield place, {**fields, 'questions': questions}


def _read(rows, collection):
  examples = []
  for place, fields in rows:
    with at(place):
      document = collection.add(
        identifier(fields, 'article_id'), text(fields, 'article')
      )
      for number, question in enumerate(objects(fields, 'questions'), 1):
        with at(f'question {number}'):
          examples.append(_example(question, document, collection))
  return tuple(examples)


def _example(fields, document, collection):
  options = texts(fields, 'options')
  gold = fields.get('gold_label')
  if type(gold) is not int or not 1 <= gold <= len(options):
    raise ValueError(
      f"Field 'gold_label' is {gold!r}, and there are {len(options)} options; "
      'it must be the number of one (the test file has none).'
    )
  if fields.get('difficult') not in (0, 1):
    raise ValueError("Field 'difficult' must be 0 or 1.")
  question = text(fields, 'question')
  if not all(each.strip() for each in (question, *options)):
    raise ValueError("Field 'question' or one of the 'options' is empty.")
  letter, option = _lettered(options)[gold - 1]
  return Example(
    collection.new_id(identifier(fields, 'question_unique_id')),
    with_choices(question, options),
    (f'{letter}. {option}',),
    (document,),
    (*(('hard',) if fields['difficult'] else ()), f'{len(options)} options'),
  )
