"""Naming: what tells a compressor early where to look."""

import jax
import jax.numpy as jnp

from lloco_jax.nn.autocompressor import owners
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import logits


def naming_loss(
  params: dict,
  config: LlamaConfig,
  states,
  segments,
  lengths,
  rarity=None,
  last: bool = False,
):
  """How badly each vector names the tokens that it stands for.

  The k-th of K vectors stands for the k-th of K equal runs of its segment
  (`run_ends`), which its state should predict through the head, the rarest
  above all; or, with `last`, for the k-th of the last K tokens. It teaches a
  compressor where to look within few tokens of training; answers alone take
  far more (docs/LOG.md).

  Args:
    params: base parameters.
    config: its config.
    states: [B, S, K, D] final hidden states at the summary tokens.
    segments, lengths: [B, S, T] and [B, S].
    rarity: [V] weight of each token; None weighs all alike.
    last: whether vectors stand for the last tokens.

  Returns:
    The weighted mean loss in nats over a vector's tokens, summed over vectors,
    and their number.
  """
  k = config.summary_length
  width = segments.shape[-1]
  if last:
    places = lengths[..., None] + jnp.arange(-k, 0)
    segments = jnp.take_along_axis(segments, jnp.maximum(places, 0), axis=-1)
    there = places >= 0
    vector = jnp.broadcast_to(jnp.arange(k), segments.shape)
  else:
    there = jnp.arange(width) < lengths[..., None]
    vector = owners(lengths, k, width)
  wide = jnp.promote_types(states.dtype, jnp.float32)
  scores = jax.nn.log_softmax(logits(params, config, states).astype(wide))
  # One index a token, within its segment, so that no device asks another.
  places = jnp.where(there, vector * scores.shape[-1] + segments, 0)
  scores = scores.reshape(*segments.shape[:2], -1)
  named = jnp.take_along_axis(scores, places, axis=-1)
  weights = there.astype(wide)
  if rarity is not None:
    weights = weights * jnp.asarray(rarity)[segments]
  whose = (vector[..., None] == jnp.arange(k)).astype(wide)
  total = jnp.einsum('bst,bstk->bsk', weights, whose)
  sums = jnp.einsum('bst,bstk->bsk', named * weights, whose)
  mean = sums / jnp.maximum(total, 1e-9)
  return -jnp.sum(mean), jnp.sum(total > 0).astype(wide)
