"""What a config names: the checkpoints, and the documents and examples."""

from collections.abc import Callable
import dataclasses

from ml_collections import ConfigDict

from lloco_jax.data import hotpotqa, longbench, needle, scrolls, squad
from lloco_jax.data.examples import Dataset
from lloco_jax.data.fairytaleqa import read_fairytaleqa
from lloco_jax.data.jsonl import read_jsonl
from lloco_jax.data.qmsum import read_qmsum
from lloco_jax.data.quality import read_quality
from lloco_jax.data.reports import make_dataset
from lloco_jax.data.splits import sample, split_documents, teach_every_answer
from lloco_jax.model import Model
from lloco_jax.weights.checkpoint import load
from lloco_jax.weights.compressor import (
  apply_compressor,
  read_fields,
  shipped_compressor,
)


def load_models(config: ConfigDict) -> tuple[Model, Model]:
  """The base of a config, and what compresses: the same without a compressor.

  Raises:
    ValueError, OSError: as `load` and `apply_compressor`; a compressor that is
      missing is told before the base is read.
  """
  folder = config.compressor
  if folder:
    read_fields(
      shipped_compressor(config.name) if folder == 'shipped' else folder
    )
  base = load(config.name, config.dtype)
  return base, apply_compressor(base, folder) if folder else base


def load_dataset(
  config: ConfigDict,
  evaluated: str = 'validation',
  tokenizer: Callable | None = None,
) -> Dataset:
  """The documents and examples of a config, and prints how many there are.

  Args:
    config: config.data, see configs/common.py.
    evaluated: the split that is evaluated; no other than it and 'train' is
      read.
    tokenizer: gives the model's tokenizer. Only needles call it, whose lengths
      are in tokens; so for all other data nothing of the model is read.

  Raises:
    ValueError: the config names no source or split, or a file is damaged; or
      needles are to be made without a tokenizer.
    FileNotFoundError: files are missing; the message says where to get them.
  """
  if config.source == 'reports':
    return make_dataset(
      config.seed,
      config.train_documents,
      config.validation_documents,
      config.questions_per_document,
      tuple(config.words),
    )
  if config.source == 'needle':
    return _limited(config, _load_needles(config, tokenizer))
  if config.source not in _SOURCES:
    raise ValueError(
      f"config.data.source is '{config.source}'; it must be one of reports, "
      f'{", ".join(_SOURCES)}, needle.'
    )
  source = _SOURCES[config.source]
  if not config.path:
    raise ValueError(
      'config.data.path is empty; name the folder of the data, which holds '
      f'{source.holds}.'
    )
  if config.part not in (source.parts or ('',)):
    allowed = ', '.join(source.parts) or "'', as it has no parts"
    raise ValueError(
      f"config.data.part is '{config.part}'; for {config.source} it must be "
      f'{"one of " if source.parts else ""}{allowed}.'
    )
  part = (config.part,) if source.parts else ()
  dataset = source.read(config.path, *part, splits=('train', evaluated))
  if config.validation_share and 'train' not in dataset.splits:
    dataset = split_documents(dataset, config.validation_share, config.seed)
  return _limited(config, dataset)


@dataclasses.dataclass(frozen=True)
class _Source:
  """Reads a data set from its official files; `holds` names them."""

  read: Callable[..., Dataset]
  holds: str
  parts: tuple[str, ...] = ()


_SOURCES = {
  'jsonl': _Source(
    lambda path, splits: read_jsonl(path),
    'documents.jsonl, train.jsonl and validation.jsonl',
  ),
  'scrolls': _Source(
    scrolls.read_scrolls, 'train.jsonl and validation.jsonl', scrolls.PARTS
  ),
  'quality': _Source(
    read_quality, 'QuALITY.v1.0.1.htmlstripped.train and .dev'
  ),
  'qmsum': _Source(read_qmsum, 'train.jsonl and val.jsonl'),
  'squad': _Source(squad.read_squad, 'dev-v1.1.json', squad.PARTS),
  'fairytaleqa': _Source(read_fairytaleqa, 'data-by-train-split'),
  'hotpotqa': _Source(
    hotpotqa.read_hotpotqa, 'hotpot_train_v1.1.json', hotpotqa.PARTS
  ),
  'longbench': _Source(
    longbench.read_longbench, 'a .jsonl file a task', tuple(longbench.TASKS)
  ),
}


def _load_needles(config: ConfigDict, tokenizer: Callable | None) -> Dataset:
  if config.part not in needle.PARTS:
    raise ValueError(
      f"config.data.part is '{config.part}'; for needle it must be one of "
      f'{", ".join(needle.PARTS)}.'
    )
  if tokenizer is None:
    raise ValueError(
      'The lengths of needle data are in tokens; give load_dataset what loads '
      'the tokenizer.'
    )
  return needle.make_needles(
    config.part,
    tokenizer(),
    tuple(config.needle.lengths),
    tuple(config.needle.depths),
    {
      'train': config.needle.train_repeats,
      'validation': config.needle.validation_repeats,
    },
    config.seed,
    config.path,
  )


def _limited(config: ConfigDict, dataset: Dataset) -> Dataset:
  """The dataset within the limits of the config, told in a line."""
  splits, said = {}, []
  for name, examples in dataset.splits.items():
    limits = 'train' if name == 'train' else 'validation'
    splits[name] = sample(
      examples,
      config[f'{limits}_examples'],
      config[f'{limits}_documents'],
      config.questions_per_document,
      config.seed,
    )
    said.append(f'{name} {_told(splits[name])}')
    if len(splits[name]) < len(examples):
      said[-1] += f' (of {_told(examples)}; the rest is left out)'
    if name == 'train' and config.teach_every_answer:
      splits[name] = teach_every_answer(splits[name])
      said[-1] += f', {len(splits[name]):,} answers to learn'
  if dataset.files:
    origin = f'from {", ".join(dataset.files)} in {config.path}'
  else:
    origin = f'from texts in {config.path}' if config.path else 'made texts'
  print(f'Data: {"; ".join(said)}; {origin}.', flush=True)
  sides = [_asked_about(examples) for examples in splits.values()]
  if len(sides) == 2 and (both := sides[0] & sides[1]):
    print(f'Of the documents {len(both):,} are in both splits.', flush=True)
  # What nothing asks about any more need not be compressed.
  before = set().union(*map(_asked_about, dataset.splits.values()))
  dropped = before.difference(*sides)
  documents = dataset.documents.only(
    name for name in dataset.documents if name not in dropped
  )
  return dataclasses.replace(dataset, documents=documents, splits=splits)


def _asked_about(examples) -> set[str]:
  return {name for example in examples for name in example.document_ids}


def _told(examples) -> str:
  """How many examples and documents there are."""
  documents = len(_asked_about(examples))
  return f'{len(examples):,} questions about {documents:,} documents'
