"""What a compressor is trained on, as its config says."""

import dataclasses
import functools
import itertools

import grain
from ml_collections import ConfigDict
import numpy as np

from lloco_jax.data.passages import (
  AskedPassages,
  PassageConfig,
  first_segments,
  make_passage,
  passage_batches,
)
from lloco_jax.data.text_rows import TextRowConfig, cut_pieces, text_batches
from lloco_jax.data.texts import TokenizedTexts, find_texts, tokenize_texts
from lloco_jax.inputs import load_dataset
from lloco_jax.runs import training_data
from lloco_jax.sharding import check_rows, rows_here

# Tokens of a corpus that say how rare each is.
_COUNTED = 2_000_000


def source_names(config: ConfigDict) -> list[str]:
  """The names in config.data.source.

  Raises:
    ValueError: one is unknown, or the config lacks what it needs.
    FileNotFoundError: there are no texts.
  """
  names = config.data.source.split(',')
  for name in names:
    if name not in _SOURCES:
      raise ValueError(
        f"config.data.source is '{config.data.source}'; it must be one of "
        f'{", ".join(_SOURCES)}, or several with commas between them.'
      )
  if 'questions' in names and not config.data.questions:
    raise ValueError(
      "config.data.source has 'questions', but config.data.questions is 0; "
      'say how many are asked about a passage.'
    )
  if 'texts' in names:
    if not config.data.path:
      raise ValueError(
        'config.data.path is empty; name the file or folder of the texts.'
      )
    find_texts(config.data.path)
  return names


def mixture(config: ConfigDict, names: list[str], tokenizer):
  """Batches of the sources in turn, texts to count tokens in, tokens of a row,
  and a hash of the data of each source that has some.

  A source that is named twice gives twice as many batches.
  """
  made = {
    name: _SOURCES[name](config, tokenizer) for name in dict.fromkeys(names)
  }
  shares = [names.count(name) for name in made]
  batches, counted, tokens, hashes = zip(*made.values())
  hashes = {name: found for name, found in zip(made, hashes) if found}
  return (
    grain.MapDataset.mix(batches, shares) if len(made) > 1 else batches[0],
    itertools.chain(*counted),
    round(np.average(tokens, weights=shares)),
    hashes,
  )


def _passages(config: ConfigDict, tokenizer):
  """Batches, texts to count tokens in, tokens of a row, and no hash."""
  made = fields_of(PassageConfig, config.data)
  passage_of = functools.partial(make_passage, tokenizer, made)
  return _asked(config, passage_of, made.segments * made.segment_length)


def _questions(config: ConfigDict, tokenizer):
  """As `_passages`, of a data set."""
  dataset = load_dataset(config.data.dataset, 'train')
  passage_of = AskedPassages(
    dataset, tokenizer, fields_of(PassageConfig, config.data)
  )
  hashed = training_data(dataset)
  return _asked(config, passage_of, passage_of.tokens, hashed)


def _asked(config: ConfigDict, passage_of, tokens: int, hashed: str = ''):
  passages, rows = fields_of(PassageConfig, config.data), config.batch.rows
  if passages.questions:
    together = passages.passages_per_context
    name = 'config.batch.rows over config.data.passages_per_context'
    check_rows(max(rows // together, 1), name)
  return (
    passage_batches(passage_of, passages, rows, rows_here(rows)),
    first_segments(passage_of),
    tokens,
    hashed,
  )


def _texts(config: ConfigDict, tokenizer):
  """As `_passages`, of plain texts."""
  kinds = text_rows(config)
  for _, rows in kinds:
    check_rows(rows, 'The number of rows of a batch')
  texts: TokenizedTexts = tokenize_texts(
    config.data.path, tokenizer, tuple(config.data.leave_out)
  )
  said = f'{len(texts.ids):,} documents, {len(texts.tokens):,} tokens.'
  print(said, flush=True)
  for made, _ in kinds:
    pieces = cut_pieces(texts.bounds, made)
    left = len(texts.tokens) - sum(stop - start for start, stop in pieces)
    if left:
      print(
        f'Of rows of {made.tokens:,} tokens: {left:,} tokens are left out, in '
        f'documents or ends of them of fewer than {made.fewest:,}.',
        flush=True,
      )
  batches = [
    text_batches(texts.tokens, texts.bounds, made, rows, rows_here(rows))
    for made, rows in kinds
  ]
  return (
    grain.MapDataset.mix(batches) if len(batches) > 1 else batches[0],
    [texts.tokens[:_COUNTED]],
    # Each batch has as many, in more rows of shorter segments.
    kinds[0][0].tokens * kinds[0][1] // config.batch.rows,
    texts.fingerprint,
  )


_SOURCES = {'passages': _passages, 'questions': _questions, 'texts': _texts}


def text_rows(config: ConfigDict) -> list[tuple[TextRowConfig, int]]:
  """How a config cuts texts into rows, and how many rows a batch has.

  Of several kinds each batch is of the next.

  Raises:
    ValueError: a length or a setting is out of range.
  """
  longest = config.data.segment_length
  kinds = []
  for length in config.data.segment_lengths or (None,):
    if length is not None and not 1 <= length <= longest:
      raise ValueError(
        f'config.data.segment_lengths has {length}; each must be from 1 to '
        f'config.data.segment_length, {longest}.'
      )
    made = TextRowConfig(
      segment_length=length or longest,
      shortest=length or config.data.shortest,
      segments=config.data.segments,
      seed=config.data.seed,
      substep=config.summary.substep,
    )
    # As many positions, whatever the length.
    rows = config.batch.rows * longest // made.segment_length
    kinds.append((made, rows))
  return kinds


def fields_of(kind, config: ConfigDict):
  """The dataclass with the keys of the config that are its fields."""
  names = [field.name for field in dataclasses.fields(kind)]
  return kind(**{name: config[name] for name in names})
