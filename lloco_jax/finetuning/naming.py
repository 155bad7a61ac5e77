"""Naming: what tells a compressor early where to look."""

import jax
import jax.numpy as jnp

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

  The k-th of K vectors stands for the k-th of K equal runs of the T tokens,
  which its state should predict through the head, the rarest above all; or,
  with `last`, for the k-th of the segment's last K tokens. It teaches a
  compressor where to look within few tokens of training; answers alone take
  far more (docs/LOG.md).

  Args:
    params: base parameters.
    config: its config.
    states: [B, S, K, D] final hidden states at the summary tokens.
    segments, lengths: [B, S, T] and [B, S]; K must divide T, unless `last`.
    rarity: [V] weight of each token; None weighs all alike.
    last: whether vectors stand for the last tokens.

  Returns:
    The weighted mean loss in nats over a vector's tokens, summed over vectors,
    and their number.

  Raises:
    ValueError: K does not divide T.
  """
  k = config.summary_length
  batch, count, width = segments.shape
  if last:
    places = lengths[..., None] + jnp.arange(-k, 0)
    segments = jnp.take_along_axis(segments, jnp.maximum(places, 0), axis=-1)
    there, width = places >= 0, k
  elif width % k:
    raise ValueError(
      'Naming needs segments whose length is a multiple of their '
      f'{k} vectors; these are {width} tokens long.'
    )
  else:
    there = jnp.arange(width) < lengths[..., None]
  shape = (batch * count * k, width // k)
  targets, there = segments.reshape(shape), there.reshape(shape)
  states = states.reshape(-1, states.shape[-1])
  wide = jnp.promote_types(states.dtype, jnp.float32)
  scores = jax.nn.log_softmax(logits(params, config, states).astype(wide))
  named = jnp.take_along_axis(scores, targets, axis=1)
  weights = there.astype(wide)
  if rarity is not None:
    weights = weights * jnp.asarray(rarity)[targets]
  total = jnp.sum(weights, axis=1)
  mean = jnp.sum(named * weights, axis=1) / jnp.maximum(total, 1e-9)
  return -jnp.sum(mean), jnp.sum(total > 0).astype(wide)
