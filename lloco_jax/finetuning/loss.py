"""Cross-entropy of the answer tokens alone."""

import jax
import jax.numpy as jnp

from lloco_jax.data.batches import IGNORED, round_up
from lloco_jax.nn.autocompressor import read
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import logits
from lloco_jax.nn.lora import Adapter
from lloco_jax.nn.placement import constrain, parts_in_use


def cross_entropy(
  params: dict, config: LlamaConfig, hidden, targets, chunk: int = 1024
):
  """Summed next-token loss of rows of hidden states.

  The head runs on `chunk` rows at a time and again in the backward pass, so
  that the [R, V] logits never exist.

  Args:
    params: base parameters, for the head.
    config: the base's config.
    hidden: [R, D] states that predict the targets.
    targets: [R] token ids, IGNORED where nothing is predicted.
    chunk: rows at a time.

  Returns:
    The sum in nats over counted targets, and their number, both float32
    (float64 under float64).
  """
  wide = jnp.promote_types(hidden.dtype, jnp.float32)

  def losses(part):
    rows, target, counted = part
    scores = logits(params, config, rows).astype(wide)
    chosen = jnp.take_along_axis(scores, target[:, None], axis=-1)[:, 0]
    return jnp.where(counted, jax.nn.logsumexp(scores, axis=-1) - chosen, 0)

  counted = targets != IGNORED
  parts = (hidden, jnp.where(counted, targets, 0), counted)
  total = sum_in_chunks(losses, parts, chunk, wide)
  return total, jnp.sum(counted).astype(wide)


def sum_in_chunks(function, rows, chunk: int, dtype):
  """Sum of what `function` gives for rows, so many at a time.

  A chunk is computed again in the backward pass. Rows of zeros fill the last.

  Args:
    function: of a part of `rows`, gives a number for each.
    rows: arrays [R, ...].
    chunk: rows at a time.
    dtype: of the sum.
  """
  count = jax.tree.leaves(rows)[0].shape[0]
  chunk = round_up(min(chunk, count), parts_in_use('batch'))

  def split(x):
    x = jnp.pad(x, ((0, -count % chunk),) + ((0, 0),) * (x.ndim - 1))
    x = x.reshape(-1, chunk, *x.shape[1:])
    # Each chunk is shared out over all devices, or they would take turns.
    return constrain(x, None, 'batch', *(None,) * (x.ndim - 2))

  @jax.checkpoint
  def one(total, part):
    return total + jnp.sum(function(part)), None

  start = jnp.zeros((), dtype)
  return jax.lax.scan(one, start, jax.tree.map(split, rows))[0]


def packed_loss(
  params: dict,
  config: LlamaConfig,
  batch: dict,
  context,
  context_lengths,
  adapter: Adapter | None = None,
  dropout_key=None,
  remat: str = 'none',
):
  """Summed loss of the answers of packed rows, and their token count.

  Arguments are those of `predicting_states`.
  """
  hidden = predicting_states(
    params, config, batch, context, context_lengths, adapter, dropout_key, remat
  )
  return cross_entropy(params, config, hidden, batch['targets'].reshape(-1))


def predicting_states(
  params: dict,
  config: LlamaConfig,
  batch: dict,
  context,
  context_lengths,
  adapter: Adapter | None = None,
  dropout_key=None,
  remat: str = 'none',
) -> jax.Array:
  """States [R, D] that predict the answers of packed rows.

  They are gathered before the head, so it never runs on the context or the
  questions.

  Args:
    params: base parameters.
    config: the base's config.
    batch: packed rows, from `data.batches.pack`.
    context: [B, C, D] summary vectors or embeddings.
    context_lengths: [B] of them that count.
    adapter, dropout_key, remat: see nn/llama.py.
  """
  hidden, _, _ = read(
    params,
    config,
    batch['tokens'],
    context,
    context_lengths,
    batch['offsets'],
    batch['groups'],
    adapter,
    dropout_key=dropout_key,
    remat=remat,
  )
  rows = batch['predicting'] + context.shape[1]
  hidden = jnp.take_along_axis(hidden, rows[..., None], axis=1)
  return hidden.reshape(-1, hidden.shape[-1])
