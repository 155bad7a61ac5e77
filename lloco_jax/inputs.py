"""What a config names: the checkpoints, and the documents and examples."""

from collections.abc import Callable, Mapping
import dataclasses
import pathlib

from ml_collections import ConfigDict

from lloco_jax.data import (
  fairytaleqa,
  hotpotqa,
  longbench,
  needle,
  qmsum,
  quality,
  scrolls,
  squad,
)
from lloco_jax.data.downloads import Download, fetch
from lloco_jax.data.examples import Dataset
from lloco_jax.data.jsonl import read_jsonl
from lloco_jax.data.prepared import Prepared, Rows
from lloco_jax.data.reports import make_dataset
from lloco_jax.data.splits import sample, split_documents, teach_every_answer
from lloco_jax.model import Model
from lloco_jax.nn.quantize import check_quantization
from lloco_jax.weights.checkpoint import load, quantize
from lloco_jax.weights.compressor import (
  apply_compressor,
  compressor_folder,
  read_fields,
)

# Keys of config.data that say how much is taken, 0 for all of it.
_LIMITS = ('train_documents', 'train_examples', 'validation_documents')
_LIMITS += ('validation_examples', 'questions_per_document')


_NOT_OF_REPORTS = ('path', 'part', 'train_examples', 'validation_examples')
_NOT_OF_REPORTS += ('validation_share', 'teach_every_answer')


def load_model(config: ConfigDict) -> Model:
  """What compresses, and is finetuned; raises what `load_models` does.

  What of the base is not part of it is given up, and not quantised.
  """
  return load_models(config, with_base=False)[1]


def load_models(
  config: ConfigDict, compressor='', with_base: bool = True
) -> tuple[Model | None, Model]:
  """The base of a config, and what compresses: the same without a compressor.

  Where there is one it is merged first and the result quantised, so the base
  has to fit unquantised.

  Args:
    config: config.model, see configs/common.py.
    compressor: a folder in the place of the config's.
    with_base: the base is wanted as well.

  Raises:
    ValueError: `beyond_window` is negative.
    ValueError, OSError: as `load` and `apply_compressor`; a compressor that is
      missing is told before the base is read.
  """
  folder = compressor or config.compressor
  kind = config.quantize or None
  if config.beyond_window < 0:
    raise ValueError(
      f'config.model.beyond_window is {config.beyond_window}; it must be 0 or '
      'more.'
    )
  if not folder:
    base = _load(config, config.name, kind)
    return base, base
  if kind:
    check_quantization(kind)
  read_fields(compressor_folder(folder, config.name))
  base = _load(config, config.name)
  model = apply_compressor(base, folder)
  model = dataclasses.replace(model, beyond=config.beyond_window)
  if not with_base:
    base = None
  if kind:
    model = quantize(model, kind)
    base = base and quantize(base, kind)
  return base, model


def load_base(config: ConfigDict, name: str) -> Model:
  """Another checkpoint, as config.model says; raises what `load` does."""
  return _load(config, name, config.quantize or None)


def _load(config: ConfigDict, name: str, quantization=None) -> Model:
  found = load(name, config.dtype, quantization)
  return dataclasses.replace(found, beyond=config.beyond_window)


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
    OSError: they cannot be fetched.
  """
  check_dataset(config, evaluated)
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
  source = _SOURCES[config.source]
  splits = ('train', evaluated)
  part = (config.part,) if source.parts else ()
  found = None if config.path else source.prepared_rows(config.part, splits)
  if found:
    place, dataset = 'tensorflow_datasets', source.of_rows(found, *part)
  else:
    place = config.path or source.fetched(config, splits)
    dataset = source.read(place, *part, splits=splits)
  if config.validation_share and len(dataset.splits) == 1:
    dataset = split_documents(
      dataset, config.validation_share, config.seed, evaluated
    )
  return _limited(config, dataset, place)


def check_dataset(config: ConfigDict, evaluated: str = 'validation') -> None:
  """Raises ValueError where `load_dataset` has nothing to read or fetch."""
  for name in (*_LIMITS, 'seed'):
    if config[name] < 0:
      raise ValueError(
        f'config.data.{name} is {config[name]}; it must be 0 or more.'
      )
  if not 0 <= config.validation_share < 1:
    raise ValueError(
      f'config.data.validation_share is {config.validation_share}; it must be '
      'between 0 and 1, or 0 for no division.'
    )
  if config.source == 'reports':
    for name in _NOT_OF_REPORTS:
      if config[name]:
        raise ValueError(
          f'config.data.{name} is {config[name]!r}, but the reports are made '
          'anew; for your own folder use --config=configs/jsonl.py.'
        )
  if config.source in ('reports', 'needle'):
    return
  if config.source not in _SOURCES:
    raise ValueError(
      f"config.data.source is '{config.source}'; it must be one of reports, "
      f'{", ".join(_SOURCES)}, needle.'
    )
  source = _SOURCES[config.source]
  if config.part not in (source.parts or ('',)):
    allowed = ', '.join(source.parts) or "'', as it has no parts"
    raise ValueError(
      f"config.data.part is '{config.part}'; for {config.source} it must be "
      f'{"one of " if source.parts else ""}{allowed}.'
    )
  fetched = source.downloads.get(config.part, {})
  if config.path or evaluated in fetched:
    return
  if source.prepared_rows(config.part, ('train', evaluated)):
    return
  if fetched:
    raise ValueError(
      f"config.evaluation.split is '{evaluated}'; what can be fetched of "
      f'{config.source} has {", ".join(fetched)}.'
    )
  raise ValueError(source.wanting(config.part))


@dataclasses.dataclass(frozen=True)
class _Source:
  """Where a data set comes from, and what makes a dataset of it.

  `read` takes a folder of its official files, and `holds` names them; `get`
  says for a part how they are got. `prepared` is what tensorflow_datasets has
  for a part, whose rows `of_rows` takes; `downloads` are files by part and
  split whose checksums are known.
  """

  read: Callable[..., Dataset]
  holds: str
  parts: tuple[str, ...] = ()
  get: Callable[[str], str] | None = None
  prepared: Callable[[str], Prepared] | None = None
  of_rows: Callable[..., Dataset] | None = None
  downloads: Mapping[str, Mapping[str, Download]] = dataclasses.field(
    default_factory=dict
  )

  def prepared_rows(
    self, part: str, splits: tuple[str, ...]
  ) -> dict[str, Rows] | None:
    """What tensorflow_datasets has prepared of the splits, if anything."""
    return self.prepared(part).find(splits) if self.prepared else None

  def fetched(
    self, config: ConfigDict, splits: tuple[str, ...]
  ) -> pathlib.Path:
    """The folder of the official files, whose checksums are known.

    Raises:
      OSError: they cannot be fetched.
    """
    files = self.downloads[config.part]
    wanted = [files[split] for split in splits if split in files]
    return fetch(wanted, config.source)

  def wanting(self, part: str) -> str:
    """What to do where there is nothing to read or fetch."""
    said = [
      'config.data.path is empty; name the folder of the data, which holds '
      f'{self.holds}'
    ]
    if self.get:
      said.append(self.get(part).rstrip('.'))
    if self.prepared:
      said.append(
        "or prepare it with tensorflow_datasets (pip install 'lloco_jax[tfds]')"
        f' by {self.prepared(part).command}'
      )
    return f'{"; ".join(said)}.'


_BUILDERS = 'lloco_jax.data.builders'
_SOURCES = {
  'jsonl': _Source(
    lambda path, splits: read_jsonl(path),
    'documents.jsonl, train.jsonl and validation.jsonl',
  ),
  'scrolls': _Source(
    scrolls.read_scrolls,
    'train.jsonl and validation.jsonl',
    scrolls.PARTS,
    scrolls.download,
    lambda part: Prepared(f'{_BUILDERS}.scrolls_dataset_builder', part),
    scrolls.scrolls_of_rows,
    scrolls.DOWNLOADS,
  ),
  'quality': _Source(
    quality.read_quality,
    'QuALITY.v1.0.1.htmlstripped.train and .dev',
    get=lambda _: quality.DOWNLOAD,
    prepared=lambda _: Prepared(
      f'{_BUILDERS}.quality_htmlstripped_dataset_builder'
    ),
    of_rows=quality.quality_of_rows,
  ),
  'qmsum': _Source(
    qmsum.read_qmsum,
    'train.jsonl and val.jsonl',
    get=lambda _: qmsum.DOWNLOAD,
  ),
  'squad': _Source(
    squad.read_squad,
    'dev-v1.1.json',
    squad.PARTS,
    prepared=lambda part: Prepared(
      f'{_BUILDERS}.squad_by_article_dataset_builder', part
    ),
    of_rows=squad.squad_of_rows,
    downloads=squad.DOWNLOADS,
  ),
  'fairytaleqa': _Source(
    fairytaleqa.read_fairytaleqa,
    'data-by-train-split',
    fairytaleqa.PARTS,
    get=lambda _: fairytaleqa.DOWNLOAD,
    prepared=lambda _: Prepared(f'{_BUILDERS}.fairytaleqa_dataset_builder'),
    of_rows=fairytaleqa.fairytaleqa_of_rows,
  ),
  'hotpotqa': _Source(
    hotpotqa.read_hotpotqa,
    'hotpot_train_v1.1.json',
    hotpotqa.PARTS,
    prepared=lambda part: Prepared(
      f'{_BUILDERS}.hotpotqa_dataset_builder', part
    ),
    of_rows=hotpotqa.hotpotqa_of_rows,
    downloads=hotpotqa.DOWNLOADS,
  ),
  'longbench': _Source(
    longbench.read_longbench,
    'a .jsonl file a task',
    tuple(longbench.TASKS),
    lambda _: longbench.DOWNLOAD,
    lambda part: Prepared(f'{_BUILDERS}.longbench_dataset_builder', part),
    longbench.longbench_of_rows,
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


def _limited(config: ConfigDict, dataset: Dataset, place='') -> Dataset:
  """The dataset within the limits of the config, told in a line.

  `place` says where the files of the dataset are.
  """
  splits, said = {}, []
  for name, examples in dataset.splits.items():
    limits, told = ('train' if name == 'train' else 'validation'), _told
    if name == 'train' and config.teach_every_answer:
      examples, told = teach_every_answer(examples), _told_of_answers
    splits[name] = sample(
      examples,
      config[f'{limits}_examples'],
      config[f'{limits}_documents'],
      config.questions_per_document,
      config.seed,
    )
    if examples and not splits[name]:
      raise ValueError(
        f'No example of the split {name} is about only the documents left by '
        f'config.data.{limits}_documents; raise it.'
      )
    said.append(f'{name} {told(splits[name])}')
    if len(splits[name]) < len(examples):
      said[-1] += f' (of {told(examples)}; the rest is left out)'
  if dataset.files:
    origin = f'from {", ".join(dataset.files)} in {place}'
  else:
    origin = f'from texts in {config.path}' if config.path else 'made texts'
  told = f'{"; ".join(said)}; {origin}. {dataset.told}'.strip()
  print(f'Data: {told}', flush=True)
  sides = [_asked_about(examples) for examples in splits.values()]
  if len(sides) == 2 and (both := sides[0] & sides[1]):
    print(f'Of the documents {len(both):,} are in both splits.', flush=True)
  # What nothing asks about any more need not be compressed.
  before = set().union(*map(_asked_about, dataset.splits.values()))
  dropped = before.difference(*sides)
  documents = dataset.documents.only(
    name for name in dataset.documents if name not in dropped
  )
  return dataclasses.replace(
    dataset, documents=documents, splits=splits, told=told
  )


def _asked_about(examples) -> set[str]:
  return {name for example in examples for name in example.document_ids}


def _told(examples, what='questions') -> str:
  """How many examples and documents there are."""
  documents = len(_asked_about(examples))
  return f'{len(examples):,} {what} about {documents:,} documents'


def _told_of_answers(examples) -> str:
  return _told(examples, 'answers to learn')
