"""Attention on NVIDIA GPUs by cuDNN, which never holds the scores.

Axes as in nn/attention.py. cuDNN masks natively what is causal, of as many
queries as keys, with padding on the right; any other mask it takes as an
array of its own, which is added to the scores.
"""

import jax
import jax.numpy as jnp

# The first generation of GPUs that computes this, and head sizes that every one
# from it on computes.
AMPERE, MOST_HEAD_SIZE = 8.0, 128
# Fewer read a prompt, or decode.
LEAST_QUERIES = 128


def is_here() -> bool:
  """Whether the default device is a GPU that cuDNN's attention runs on."""
  said = getattr(jax.devices()[0], 'compute_capability', '')
  try:
    return float(said) >= AMPERE
  except ValueError:
    return False


def can(query) -> bool:
  """Whether cuDNN computes such queries [B, T, N, H]."""
  t, h = query.shape[1], query.shape[-1]
  half = query.dtype in (jnp.bfloat16, jnp.float16)
  return half and t >= LEAST_QUERIES and h % 8 == 0 and h <= MOST_HEAD_SIZE


def causal_attention(query, key, value, there, implementation='cudnn'):
  """Softmax attention where each query sees its own key and those before.

  Args:
    query: [B, T, N, H].
    key, value: [B, T, K, H].
    there: bool [B, T], False for padding, which may stand anywhere.
    implementation: 'xla' computes the same on any device, with all scores.

  Returns:
    [B, T, N, H].
  """
  # What is there keeps its order, and the padding goes to the right.
  order = jnp.argsort(~there, axis=1, stable=True)[..., None, None]
  lengths = jnp.maximum(jnp.sum(there, axis=1, dtype=jnp.int32), 1)
  query, key, value = (
    _even(jnp.take_along_axis(x, order, axis=1), 1) for x in (query, key, value)
  )
  output = jax.nn.dot_product_attention(
    query,
    key,
    value,
    is_causal=True,
    query_seq_lengths=lengths,
    key_value_seq_lengths=lengths,
    implementation=implementation,
  )
  return jnp.take_along_axis(output, jnp.argsort(order, axis=1), axis=1)


def masked_attention(query, key, value, mask, implementation='cudnn'):
  """Softmax attention by a mask [B, T, S] of what each query sees."""
  output = jax.nn.dot_product_attention(
    *(_even(x, 1) for x in (query, key, value)),
    mask=_even(_even(mask, 1), 2)[:, None],
    implementation=implementation,
  )
  return output[:, : query.shape[1]]


def _even(x, axis: int):
  """Padded to an even length; cuDNN has no gradient of odd ones."""
  pads = [(0, 0)] * x.ndim
  pads[axis] = (0, x.shape[axis] % 2)
  return jnp.pad(x, pads)
