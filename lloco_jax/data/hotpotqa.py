"""HotpotQA: questions over several paragraphs, from the official JSON files.

The document of a row is its ten or fewer paragraphs, 'title\\nsentences' with
no separator between sentences, joined by a blank line, as in the reference
(Tan et al. 2024). The two settings (Yang et al. 2018) share the training file;
in 'fullwiki' the paragraphs of validation are retrieved ones, and where nothing
was retrieved the document says so, since every question counts. Tags: the type
('bridge', 'comparison'), the level, 'gold paragraphs' where all that support
the answer are there, and 'no paragraphs'.
"""

from collections.abc import Mapping
import itertools
import pathlib

from lloco_jax.data.downloads import Download
from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.prepared import Rows
from lloco_jax.data.records import (
  at,
  identifier,
  read_json_array,
  split_files,
  text,
)

PARTS = ('fullwiki', 'distractor')
_NOTHING_RETRIEVED = 'No paragraphs were found.'
_URL = 'http://curtis.ml.cmu.edu/datasets/hotpot/'
# Sizes and hashes: datasets/hotpot_qa/dataset_infos.json of
# github.com/huggingface/datasets.
_TRAIN = Download(
  f'{_URL}hotpot_train_v1.1.json',
  566_426_227,
  '26650cf50234ef5fb2e664ed70bbecdfd87815e6bffc257e068efea5cf7cd316',
)
DOWNLOADS = {
  'fullwiki': {
    'train': _TRAIN,
    'validation': Download(
      f'{_URL}hotpot_dev_fullwiki_v1.json',
      47_454_698,
      '2f1f3e594a3066a3084cc57950ca2713c24712adaad03af6ccce18d1846d5618',
    ),
  },
  'distractor': {
    'train': _TRAIN,
    'validation': Download(
      f'{_URL}hotpot_dev_distractor_v1.json',
      46_320_117,
      '4e9ecb5c8d3b719f624d66b60f8d56bf227f03914f5f0753d6fa1b359d7104ea',
    ),
  },
}


def download(part: str) -> str:
  """Where the official files are, as the end of a sentence."""
  return (
    f'download hotpot_train_v1.1.json and hotpot_dev_{part}_v1.json from '
    f'{_URL}.'
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
  dev = {each: f'hotpot_dev_{each}_v1*.json' for each in PARTS}
  patterns = {
    'train': ('hotpot_train_v1.1*.json',),
    'validation': (dev.pop(part),),
  }
  others = tuple(dev.values())
  files = split_files(path, patterns, splits, download(part), others)
  return dataset_of_files(
    'hotpotqa',
    files,
    lambda file, *of: _read(read_json_array(file), *of),
  )


def hotpotqa_of_rows(splits: Mapping[str, Rows], part: str) -> Dataset:
  """As `read_hotpotqa`, of what tensorflow_datasets has prepared."""
  return dataset_of_files(
    'hotpotqa',
    splits,
    lambda rows, *of: _read(_as_in_files(rows), *of),
  )


def _as_in_files(rows):
  for place, fields in rows:
    facts, context = fields['supporting_facts'], fields['context']
    sentences = iter(fields['sentences'])
    yield (
      place,
      {
        **fields,
        'supporting_facts': list(zip(facts['title'], facts['sentence'])),
        'context': [
          (title, list(itertools.islice(sentences, count)))
          for title, count in zip(context['title'], context['sentences'])
        ],
      },
    )


def _read(rows, split, collection):
  examples = []
  for place, fields in rows:
    with at(place):
      id = collection.new_id(identifier(fields, '_id'))
      paragraphs = _pairs(fields, 'context', _sentences)
      document = '\n\n'.join(
        f'{title}\n{sentences}' for title, sentences in paragraphs
      )
      tags = [text(fields, 'type'), text(fields, 'level')]
      if not paragraphs and split != 'train':
        document = _NOTHING_RETRIEVED
        tags.append('no paragraphs')
      gold = {title for title, _ in _pairs(fields, 'supporting_facts', int)}
      if gold and gold <= {title for title, _ in paragraphs}:
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


def _title(value):
  if not isinstance(value, str):
    raise TypeError
  return value


def _sentences(value):
  if not isinstance(value, list):
    raise TypeError
  return ''.join(value)


def _pairs(fields, name, convert):
  try:
    pairs = [(_title(title), convert(other)) for title, other in fields[name]]
  except (KeyError, TypeError, ValueError):
    raise ValueError(
      f"Field '{name}' is no list of pairs that begin with a title; mend it."
    ) from None
  return pairs
