"""SCROLLS: Qasper, QMSum, NarrativeQA and others in one format.

A row has `id`, `pid`, `input` and `output` (Shaham et al. 2022). The input is
a question in its first line, a blank line, and the document; rows with the
same id are references of one question, and are pooled, equal ones too. A
document is what the released adapters were trained on: all lines but the first,
so it begins with the blank one. Its id is a hash of its text, as rows name
questions only.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import pathlib

from lloco_jax.data.downloads import Download
from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.prepared import Rows
from lloco_jax.data.records import (
  at,
  identifier,
  read_json_lines,
  split_files,
  text,
)

# Those whose input begins with a question. Of the others GovReport and
# SummScreen have none, QuALITY has a file format of its own (quality.py).
PARTS = ('qasper', 'qmsum', 'narrative_qa', 'contract_nli')
_SPLITS = ('train', 'validation', 'test')
_URL = 'https://scrolls-tau.s3.us-east-2.amazonaws.com/'
# Sizes and hashes: tensorflow_datasets/text/scrolls/checksums.tsv of
# github.com/tensorflow/datasets, commit a4eabfa.
_ARCHIVES = {
  'qasper': (
    20_136_770,
    'f5b6a3dda9eaeab13d14c3aa6ee8f2c1a87b1db2690a361a729e13ba74809377',
  ),
  'qmsum': (
    27_288_503,
    '6dff4c1ffb7d81cdd909872862f65a2fc9409e6e4b9c15665e281338a48bc61b',
  ),
  'narrative_qa': (
    8_048_900_135,
    '1a91b383704dcd15096f7ef024e7dea3f2fabc0f41db07e9f89a22b01e1688e9',
  ),
  'contract_nli': (
    4_862_245,
    '9e53af34b625c0d4576e718548511212f24edd81e923636c444645ee69762565',
  ),
}
DOWNLOADS = {
  part: dict.fromkeys(_SPLITS, Download(f'{_URL}{part}.zip', size, sha256))
  for part, (size, sha256) in _ARCHIVES.items()
}


def download(part: str) -> str:
  """Where the official files are, as the end of a sentence."""
  return f'download {_URL}{part}.zip and unpack it there.'


def read_scrolls(
  path: str | pathlib.Path,
  part: str,
  splits: tuple[str, ...] = ('train', 'validation'),
) -> Dataset:
  """Reads the rows of a folder with `train.jsonl` and so on, or above it.

  Raises:
    FileNotFoundError: nothing is there.
    ValueError: a row is damaged, or has no output, as in the official test
      files.
  """
  patterns = {
    split: (f'{split}.jsonl', f'{part}/{split}.jsonl') for split in _SPLITS
  }
  files = split_files(path, patterns, splits, download(part))
  return dataset_of_files(
    part,
    files,
    lambda file, _, collection: _read(read_json_lines(file), collection),
  )


def scrolls_of_rows(splits: Mapping[str, Rows], part: str) -> Dataset:
  """As `read_scrolls`, of what tensorflow_datasets has prepared."""
  return dataset_of_files(
    part, splits, lambda rows, _, collection: _read(rows, collection)
  )


def _read(rows, collection):
  found = {}
  for place, fields in rows:
    with at(place):
      if fields.get('output', '') is None:
        raise ValueError(
          "Field 'output' is null, as in the official test files, whose rows "
          'cannot be scored; take another split.'
        )
      id, output = identifier(fields, 'id'), text(fields, 'output')
      question, *lines = text(fields, 'input').splitlines() or ['']
      document = '\n'.join(lines)
      if not question.strip():
        raise ValueError("Field 'input' begins with no question.")
      if not document.strip():
        raise ValueError(
          "Field 'input' holds no document below the line of its question."
        )
      name = hashlib.sha256(document.encode('utf-8', 'replace')).hexdigest()
      name = collection.add(name[:16], document)
      if not output.strip():
        raise ValueError("Field 'output' is empty; leave the row out.")
      if not id.strip():
        raise ValueError("Field 'id' is empty; give the row one.")
      if id not in found:
        found[collection.new_id(id)] = Example(id, question, (output,), (name,))
        continue
      known = found[id]
      if (known.question, known.document_ids) != (question, (name,)):
        raise ValueError(
          f"Id '{id}' came with another question or document before; an id is "
          'of one question.'
        )
      found[id] = dataclasses.replace(known, answers=(*known.answers, output))
  return tuple(found.values())
