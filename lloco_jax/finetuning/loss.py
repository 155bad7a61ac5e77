"""Cross-entropy of the answer tokens alone."""

import jax
import jax.numpy as jnp

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import logits

IGNORED = -100


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
  rows = hidden.shape[0]
  chunk = min(chunk, rows)
  padding = -rows % chunk
  hidden = jnp.pad(hidden, ((0, padding), (0, 0)))
  targets = jnp.pad(targets, (0, padding), constant_values=IGNORED)
  wide = jnp.promote_types(hidden.dtype, jnp.float32)

  @jax.checkpoint
  def one(total, part):
    rows, target = part
    scores = logits(params, config, rows).astype(wide)
    counted = target != IGNORED
    target = jnp.where(counted, target, 0)
    chosen = jnp.take_along_axis(scores, target[:, None], axis=-1)[:, 0]
    loss = jax.nn.logsumexp(scores, axis=-1) - chosen
    return total + jnp.sum(jnp.where(counted, loss, 0)), None

  parts = (
    hidden.reshape(-1, chunk, hidden.shape[-1]),
    targets.reshape(-1, chunk),
  )
  total, _ = jax.lax.scan(one, jnp.zeros((), wide), parts)
  return total, jnp.sum(targets != IGNORED).astype(wide)
