"""FairytaleQA: questions about stories, from the official CSV files.

Two files a story (Xu et al. 2022): its sections, which are joined by a blank
line, and its questions. References are `answer1` and, where a second person
answered, `answer4`. Tags: 'local' or 'summary', 'explicit' or 'implicit', and
the attribute asked about, such as 'causal relationship'.
"""

from collections.abc import Mapping
import pathlib

from lloco_jax.data.documents import Collection
from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.prepared import Rows, rows_of
from lloco_jax.data.records import at, distinct, read_csv, split_files, text

DOWNLOAD = (
  'get them with `git clone https://github.com/uci-soe/FairytaleQAData` and '
  'give its folder.'
)
_SPLITS = {'train': 'train', 'validation': 'val', 'test': 'test'}
_TAGS = ('local-or-sum', 'ex-or-im1', 'attribute1')
_COLUMNS = ('question', 'answer1', 'answer4', *_TAGS)
_QUESTIONS, _STORY = '-questions.csv', '-story.csv'


def read_fairytaleqa(
  path: str | pathlib.Path, splits: tuple[str, ...] = ('train', 'validation')
) -> Dataset:
  """Reads a clone of the official repository, or its folder of splits.

  Raises:
    FileNotFoundError: nothing is there, or a story of questions is missing.
    ValueError: a row is damaged.
  """
  patterns = {
    split: (f'data-by-train-split/questions/{name}', f'questions/{name}')
    for split, name in _SPLITS.items()
  }
  folders = split_files(path, patterns, splits, DOWNLOAD)
  collection = Collection('fairytaleqa')
  return Dataset(
    collection.documents,
    {
      split: _read(_stories(folder), collection)
      for split, folder in folders.items()
    },
    tuple(f'questions/{folder.name}' for folder in folders.values()),
  )


def fairytaleqa_of_rows(splits: Mapping[str, Rows]) -> Dataset:
  """As `read_fairytaleqa`, of what tensorflow_datasets has prepared."""
  return dataset_of_files(
    'fairytaleqa',
    splits,
    lambda rows, _, collection: _read(_prepared_stories(rows), collection),
  )


def _stories(folder):
  """The place, name, sections, and placed questions of every story."""
  if not folder.is_dir():
    raise ValueError(f"'{folder}' is no folder of question files; {DOWNLOAD}")
  stories = folder.parent.parent / 'section-stories' / folder.name
  paths = sorted(folder.glob(f'*{_QUESTIONS}'))
  if not paths:
    raise ValueError(f"'{folder}' holds no *{_QUESTIONS} files; {DOWNLOAD}")
  for path in paths:
    name = path.name.removesuffix(_QUESTIONS)
    story = stories / f'{name}{_STORY}'
    if not story.is_file():
      raise FileNotFoundError(
        f'{path} has no story beside it at {story}; {DOWNLOAD}'
      )
    sections = [
      text(fields, 'text') for _, fields in read_csv(story, ('text',))
    ]
    yield str(story), name, sections, read_csv(path, _COLUMNS)


def _prepared_stories(rows):
  for place, fields in rows:
    questions = [
      (f'{place}, question {number}', question)
      for number, question in enumerate(rows_of(fields['questions']), 1)
    ]
    yield place, fields['story'], fields['sections'], questions


def _read(stories, collection):
  examples = []
  for place, name, sections, questions in stories:
    with at(place):
      document = collection.add(name, '\n\n'.join(sections))
    # Some files give a question_id twice, so rows are counted.
    for number, (row, fields) in enumerate(questions, 1):
      with at(row):
        examples.append(
          Example(
            f'{name}-{number}',
            fields['question'],
            distinct((fields['answer1'], fields['answer4'])),
            (document,),
            distinct(fields[tag] for tag in _TAGS),
          )
        )
  return tuple(examples)
