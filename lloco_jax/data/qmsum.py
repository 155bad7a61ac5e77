"""QMSum: summaries of meetings for a query, from the official JSON lines.

A line is a meeting (Zhong et al. 2021). The document is its turns, a line
each, 'speaker: content', behind an empty line, and answers are stripped, as in
SCROLLS (scrolls.py). Tags: 'general' and 'specific', the kind of the query.
"""

import pathlib

from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.records import (
  at,
  objects,
  read_json_lines,
  split_files,
  text,
)

DOWNLOAD = (
  'get them with `git clone https://github.com/Yale-LILY/QMSum` and give its '
  'folder.'
)
_SPLITS = {'train': 'train', 'validation': 'val', 'test': 'test'}
_KINDS = ('general', 'specific')


def read_qmsum(
  path: str | pathlib.Path, splits: tuple[str, ...] = ('train', 'validation')
) -> Dataset:
  """Reads a clone of the official repository, or a folder of its files.

  Raises:
    FileNotFoundError: nothing is there.
    ValueError: a line is damaged.
  """
  patterns = {
    split: (f'{name}.jsonl', f'ALL/jsonl/{name}.jsonl')
    + (f'data/ALL/jsonl/{name}.jsonl',)
    for split, name in _SPLITS.items()
  }
  files = split_files(path, patterns, splits, DOWNLOAD)
  return dataset_of_files('qmsum', files, _read)


def _read(path, split, collection):
  examples = []
  for number, (place, fields) in enumerate(read_json_lines(path)):
    meeting = f'{split}-{number}'
    with at(place):
      turns = [
        f'{text(turn, "speaker")}: {text(turn, "content")}'
        for turn in objects(fields, 'meeting_transcripts')
      ]
      document = collection.add(meeting, '\n'.join(('', *turns)))
      queries = [
        (kind, query)
        for kind in _KINDS
        for query in objects(fields, f'{kind}_query_list')
      ]
      for place_of_query, (kind, query) in enumerate(queries):
        with at(f'query {place_of_query + 1}'):
          examples.append(
            Example(
              collection.new_id(f'{meeting}-{place_of_query}'),
              text(query, 'query'),
              (text(query, 'answer').strip(),),
              (document,),
              (kind,),
            )
          )
  return tuple(examples)
