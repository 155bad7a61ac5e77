"""What a config names: the checkpoints, and the documents and examples."""

from ml_collections import ConfigDict

from lloco_jax.data.examples import Dataset
from lloco_jax.data.jsonl import read_jsonl
from lloco_jax.data.reports import make_dataset
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


def load_dataset(config: ConfigDict) -> Dataset:
  """The documents and examples of a config."""
  if config.source == 'reports':
    return make_dataset(
      config.seed,
      config.train_documents,
      config.validation_documents,
      config.questions_per_document,
      tuple(config.words),
    )
  if config.source == 'jsonl':
    if not config.path:
      raise ValueError(
        'config.data.path is empty; name the folder that holds '
        'documents.jsonl, train.jsonl and validation.jsonl.'
      )
    return read_jsonl(config.path)
  raise ValueError(
    f"config.data.source is '{config.source}'; it must be 'reports' or 'jsonl'."
  )
