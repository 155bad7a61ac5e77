"""FairytaleQA: questions about stories, from the official CSV files.

Two files a story (Xu et al. 2022): its sections and its questions. A document
is a story, its sections joined by a blank line; or a section, and a question is
about those that `cor_section` names. References are `answer1` and, where a
second person answered, `answer4`; further wordings of either (`answer2`, 3, 5
and 6, which 358 of the 1,025 validation questions have) are left out. Tags:
'local' or 'summary', 'explicit' or 'implicit', and the attribute asked about,
such as 'causal relationship'.
"""

from collections.abc import Mapping
import pathlib

from lloco_jax.data.documents import Collection
from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.prepared import Rows, rows_of
from lloco_jax.data.records import at, distinct, read_csv, split_files

DOWNLOAD = (
  'get them with `git clone https://github.com/uci-soe/FairytaleQAData` and '
  'give its folder.'
)
PARTS = ('stories', 'sections')
_SPLITS = {'train': 'train', 'validation': 'val', 'test': 'test'}
_TAGS = ('local-or-sum', 'ex-or-im1', 'attribute1')
_COLUMNS = ('question', 'answer1', 'answer4', 'cor_section', *_TAGS)
_QUESTIONS, _STORY = '-questions.csv', '-story.csv'


def read_fairytaleqa(
  path: str | pathlib.Path,
  part: str = 'stories',
  splits: tuple[str, ...] = ('train', 'validation'),
) -> Dataset:
  """Reads a clone of the official repository, or its folder of splits.

  Raises:
    FileNotFoundError: nothing is there, or a story of questions is missing.
    ValueError: a row is damaged, or names a section that the story lacks.
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
      split: _read(_stories(folder), part, collection)
      for split, folder in folders.items()
    },
    tuple(f'questions/{folder.name}' for folder in folders.values()),
  )


def fairytaleqa_of_rows(
  splits: Mapping[str, Rows], part: str = 'stories'
) -> Dataset:
  """As `read_fairytaleqa`, of what tensorflow_datasets has prepared."""
  return dataset_of_files(
    'fairytaleqa',
    splits,
    lambda rows, _, collection: _read(
      _prepared_stories(rows), part, collection
    ),
  )


def _stories(folder):
  """The place, name, sections, and placed questions of every story."""
  if not folder.is_dir():
    raise ValueError(f"'{folder}' is no folder of question files; {DOWNLOAD}")
  stories = folder.parent.parent / 'section-stories' / folder.name
  paths = sorted(folder.glob(f'*{_QUESTIONS}'))
  if not paths:
    raise ValueError(f"'{folder}' holds no *{_QUESTIONS} files; {DOWNLOAD}")
  asked = {path.name.removesuffix(_QUESTIONS) for path in paths}
  for story in sorted(stories.glob(f'*{_STORY}')):
    if (name := story.name.removesuffix(_STORY)) not in asked:
      raise FileNotFoundError(
        f'{story} has no questions beside it at '
        f'{folder / (name + _QUESTIONS)}; {DOWNLOAD}'
      )
  for path in paths:
    name = path.name.removesuffix(_QUESTIONS)
    story = stories / f'{name}{_STORY}'
    if not story.is_file():
      raise FileNotFoundError(
        f'{path} has no story beside it at {story}; {DOWNLOAD}'
      )
    sections = []
    for place, fields in read_csv(story, ('section', 'text')):
      if not fields['text'].strip():
        raise ValueError(f'{place}: The section is empty; remove the row.')
      sections.append((fields['section'], fields['text']))
    yield str(story), name, sections, read_csv(path, _COLUMNS)


def _prepared_stories(rows):
  for place, fields in rows:
    questions = [
      (f'{place}, question {number}', question)
      for number, question in enumerate(rows_of(fields['questions']), 1)
    ]
    sections = zip(fields['numbers'], fields['sections'])
    yield place, fields['story'], list(sections), questions


def _read(stories, part, collection):
  examples = []
  for place, name, sections, questions in stories:
    with at(place):
      documents = {}
      if part == 'stories':
        story = collection.add(
          name, '\n\n'.join(section for _, section in sections)
        )
        documents = {number: [story] for number, _ in sections}
      else:
        for number, section in sections:
          # One story has two sections of one number.
          documents.setdefault(number, []).append(
            collection.add(f'{name}, section {number}', section)
          )
    # Some files give a question_id twice, so rows are counted.
    for number, (row, fields) in enumerate(questions, 1):
      with at(row):
        asked = _documents(fields['cor_section'], documents)
        if part == 'stories':
          asked = (story,)
        elif not asked:
          raise ValueError('cor_section names no section; add one.')
        examples.append(
          Example(
            collection.new_id(f'{name}-{number}'),
            fields['question'],
            distinct((fields['answer1'], fields['answer4'])),
            asked,
            distinct(fields[tag] for tag in _TAGS),
          )
        )
  return tuple(examples)


def _documents(
  named: str, documents: Mapping[str, list[str]]
) -> tuple[str, ...]:
  """Those that have the sections which a question names, as in '8,9'.

  Raises:
    ValueError: the story has none of a number: its file may have been cut off.
  """
  numbers = [each.strip() for each in named.split(',') if each.strip()]
  missing = [number for number in numbers if number not in documents]
  if missing:
    raise ValueError(
      f"cor_section is '{named}', but the story has the sections "
      f'{", ".join(documents)}.'
    )
  return distinct(name for number in numbers for name in documents[number])
