"""Choice of the next token from logits."""

import jax
import jax.numpy as jnp


def sample(logits, key, temperature: float = 0.0, top_p: float = 1.0):
  """Token ids [...] from logits [..., V].

  Temperature 0 is greedy. `top_p` keeps the smallest set of tokens whose
  probability reaches it, the likeliest one always.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  if temperature == 0:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  logits = logits / temperature
  if top_p < 1:
    ordered = jnp.sort(logits, axis=-1, descending=True)
    probability = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probability, axis=-1) - probability
    kept = jnp.sum(before < top_p, axis=-1, keepdims=True)
    least = jnp.take_along_axis(ordered, jnp.maximum(kept, 1) - 1, axis=-1)
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return jax.random.categorical(key, logits, axis=-1).astype(jnp.int32)
