"""The stage that compresses the documents of a config."""

from lloco_jax.compression.corpus import StoredSummaries, compress_documents
from lloco_jax.compression.schedule import CompressionConfig
from lloco_jax.compression.store import Store


def summaries_of(
  config, workdir, model, dataset, check=None
) -> StoredSummaries:
  """Summary vectors of every document, compressing what is not stored."""
  store = Store(config.compression.store or workdir / 'store')
  stored = compress_documents(
    model,
    dataset.documents,
    store,
    CompressionConfig(
      segment_length=config.compression.segment_length,
      rows=config.compression.rows,
      token_cap=config.compression.token_cap,
      block_characters=config.compression.block_characters or None,
    ),
    check=check,
  )
  return StoredSummaries(store, stored)
