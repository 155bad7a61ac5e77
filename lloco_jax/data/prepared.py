"""Data sets that tensorflow_datasets has prepared, read without TensorFlow."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import importlib
import os
from typing import Any

import numpy as np

_FORMAT = 'array_record'
_INFO = 'dataset_info.json'


class Rows:
  """The rows of a split, each with its place, as the files' readers yield."""

  def __init__(self, builder: Any, split: str):
    self.name = f'{builder.info.full_name}, {split}'
    self._builder, self._split = builder, split

  def __iter__(self) -> Iterator[tuple[str, dict]]:
    source = self._builder.as_data_source(split=self._split)
    for number in range(len(source)):
      yield f'{self.name}, row {number + 1}', _plain(source[number])


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A data set of tensorflow_datasets; `module` holds its `Builder`."""

  module: str
  config: str | None = None

  @property
  def command(self) -> str:
    """What prepares it, on a command line."""
    config = f"config='{self.config}', " if self.config else ''
    return (
      f'python -c "from {self.module} import Builder; '
      f"Builder({config}file_format='{_FORMAT}').download_and_prepare()\""
    )

  def find(self, splits: Sequence[str]) -> dict[str, Rows] | None:
    """The rows of those of the splits that there are.

    None where tensorflow_datasets is not installed or has not prepared them
    in its folder (TFDS_DATA_DIR).

    Raises:
      ValueError: they are in a format that only TensorFlow reads.
    """
    try:
      module = importlib.import_module(self.module)
    except ImportError:
      return None
    builder = module.Builder(config=self.config)
    # Asked whether it is prepared, it warns where it is not.
    if not (builder.data_path / _INFO).exists():
      return None
    if builder.info.file_format.value != _FORMAT:
      raise ValueError(
        f'tensorflow_datasets has {builder.info.full_name} as '
        f'{builder.info.file_format.value}, which only TensorFlow reads; '
        f'remove {builder.data_path}, and prepare it with {self.command}'
      )
    return {
      split: Rows(builder, split)
      for split in splits
      if split in builder.info.splits
    }


class PreparedTexts:
  """Texts that tensorflow_datasets has prepared, as 'pg19' or 'pg19#test'.

  The text of a row is its field `text`, or the one that ends in it; its name is
  `book_id`, `id` or `title`, or its number. `content` tells them from others.

  Raises:
    ImportError: tensorflow_datasets is not installed.
    ValueError: it has not prepared them, or their rows have no text.
  """

  def __init__(self, name: str):
    try:
      import tensorflow_datasets as tfds
    except ImportError as error:
      raise ImportError(
        'Texts of tensorflow_datasets need the extra tfds: '
        "pip install 'lloco_jax[tfds]'"
      ) from error
    name, _, split = name.partition('#')
    split = split or 'train'
    folder = os.environ.get('TFDS_DATA_DIR')
    try:
      builder = tfds.builder(name, data_dir=folder, file_format=_FORMAT)
      self._source = builder.as_data_source(split=split)
      info = builder.info.splits[split]
    except Exception as error:  # It raises whatever its readers raise.
      said = str(error).strip().partition('\n')[0]
      raise ValueError(
        f"tensorflow_datasets has no '{name}' with the split '{split}' "
        f'({said}); prepare it by python -c "import '
        f"tensorflow_datasets as tfds; tfds.builder('{name}', file_format="
        f"'{_FORMAT}').download_and_prepare()\""
      ) from error
    fields = list(builder.info.features)
    texts = [each for each in fields if each.endswith('text')]
    self._text = 'text' if 'text' in texts else next(iter(texts), '')
    if not self._text:
      raise ValueError(
        f"The rows of '{name}' have the fields {', '.join(fields)}, none of "
        'which is a text; take another data set.'
      )
    known = [each for each in ('book_id', 'id', 'title') if each in fields]
    self._id = known[0] if known else None
    self.name = f'{builder.info.full_name}#{split}'
    self.content = [self.name, info.num_examples, info.num_bytes]

  def __iter__(self) -> Iterator[tuple[str, str]]:
    for number in range(len(self._source)):
      row = _plain(self._source[number])
      id = row[self._id] if self._id else number
      yield f'{self.name}/{id}', row[self._text]


def rows_of(sequence: Mapping[str, list]) -> list[dict]:
  """The objects of a list, which tensorflow_datasets keeps as lists."""
  names = list(sequence)
  return [dict(zip(names, row)) for row in zip(*sequence.values())]


def _plain(value):
  """Texts, numbers and lists, for bytes and arrays."""
  if isinstance(value, bytes):
    return value.decode('utf-8')
  if isinstance(value, dict):
    return {name: _plain(each) for name, each in value.items()}
  if isinstance(value, (list, np.ndarray)):
    return [_plain(each) for each in value]
  return value.item() if isinstance(value, np.generic) else value
