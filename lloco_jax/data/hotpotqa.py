"""HotpotQA: questions over several paragraphs, from the official JSON files.

The document of a row is its ten or fewer paragraphs, 'title\\nsentences' with
no separator between sentences, joined by a blank line, as in the reference
(Tan et al. 2024). The two settings (Yang et al. 2018) share the training file;
in 'fullwiki' the paragraphs of validation are retrieved ones. Tags: the type
('bridge', 'comparison'), the level, and 'gold paragraphs' where all that
support the answer are there.
"""

import pathlib

from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.records import (
  at,
  identifier,
  read_json_array,
  split_files,
  text,
)

PARTS = ('fullwiki', 'distractor')


def download(part: str) -> str:
  """Where the official files are, as the end of a sentence."""
  return (
    f'download hotpot_train_v1.1.json and hotpot_dev_{part}_v1.json from '
    'http://curtis.ml.cmu.edu/datasets/hotpot/.'
  )


def read_hotpotqa(
  path: str | pathlib.Path,
  part: str = 'fullwiki',
  splits: tuple[str, ...] = ('train', 'validation'),
) -> Dataset:
  """Reads a folder with `hotpot_train_v1.1.json` and the dev file of a part.

  Raises:
    FileNotFoundError: nothing is there.
    ValueError: a row is damaged.
  """
  patterns = {
    'train': ('hotpot_train_v1.1*.json',),
    'validation': (f'hotpot_dev_{part}_v1*.json',),
  }
  files = split_files(path, patterns, splits, download(part))
  return dataset_of_files(
    'hotpotqa', files, lambda file, _, collection: _read(file, collection)
  )


def _read(path, collection):
  examples = []
  for place, fields in read_json_array(path):
    with at(place):
      id = identifier(fields, '_id')
      paragraphs = _pairs(fields, 'context', _sentences)
      document = '\n\n'.join(
        f'{title}\n{sentences}' for title, sentences in paragraphs
      )
      tags = [text(fields, 'type'), text(fields, 'level')]
      gold = {title for title, _ in _pairs(fields, 'supporting_facts', int)}
      if gold <= {title for title, _ in paragraphs}:
        tags.append('gold paragraphs')
      examples.append(
        Example(
          id,
          text(fields, 'question'),
          (text(fields, 'answer'),),
          (collection.add(id, document),),
          tuple(tags),
        )
      )
  return tuple(examples)


def _sentences(value):
  if not isinstance(value, list):
    raise TypeError
  return ''.join(value)


def _pairs(fields, name, convert):
  try:
    pairs = [(str(title), convert(other)) for title, other in fields[name]]
  except (KeyError, TypeError, ValueError):
    raise ValueError(
      f"Field '{name}' is no list of pairs that begin with a title; mend it."
    ) from None
  return pairs
