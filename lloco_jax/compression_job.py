"""The stage that compresses the documents of a config."""

from lloco_jax.compression.corpus import StoredSummaries, compress_documents
from lloco_jax.compression.schedule import CompressionConfig
from lloco_jax.compression.store import Store
from lloco_jax.files import named_path
from lloco_jax.runs import writing_to


def compression_of(config) -> CompressionConfig:
  """How a config compresses; raises ValueError where it cannot."""
  chosen = config.compression
  try:
    return CompressionConfig(
      segment_length=chosen.segment_length,
      rows=chosen.rows,
      token_cap=chosen.token_cap,
      block_characters=chosen.block_characters or None,
    )
  except ValueError as error:
    raise ValueError(f'config.compression: {error}') from None


def store_of(config, workdir) -> Store:
  """The store of a run; raises ValueError or OSError where it is none."""
  if config.compression.store:
    return Store(named_path(config.compression.store))
  with writing_to(workdir):
    return Store(workdir / 'store')


def summaries_of(
  config, workdir, model, dataset, check=None
) -> StoredSummaries:
  """Summary vectors of every document, compressing what is not stored.

  `check` is that of `compress_documents`.
  """
  store = store_of(config, workdir)
  stored = compress_documents(
    model, dataset.documents, store, compression_of(config), check=check
  )
  return StoredSummaries(store, stored)
