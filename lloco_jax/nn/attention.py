"""Attention whose mask is made of positions and groups.

Axes: B batch, T queries, S keys, N heads, K key-value heads, G heads per
key-value head, H head size.

A key is visible to a query when its position is not after the query's and
its group is SHARED or the query's own. Padding has position UNSEEN. So one
rule covers ragged rows, a kept prefix, a decode cache and several questions
packed behind one context.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

UNSEEN = np.iinfo(np.int32).max
SHARED = 0
QUERY_BLOCK = 512


def visible(query_positions, key_positions, query_groups, key_groups):
  """[B, T], [B, S], [B, T] or None, [B, S] or None -> mask [B, T, S]."""
  mask = key_positions[:, None, :] <= query_positions[:, :, None]
  if key_groups is not None:
    key_groups = key_groups[:, None, :]
    own = key_groups == query_groups[:, :, None]
    mask &= own | (key_groups == SHARED)
  return mask


def attention(
  query,
  key,
  value,
  query_positions,
  key_positions,
  query_groups=None,
  key_groups=None,
  layout_is_causal=True,
  block=QUERY_BLOCK,
):
  """Softmax attention, one block of queries at a time.

  Args:
    query: [B, T, N, H].
    key, value: [B, S, K, H].
    query_positions, key_positions: int32 [B, T] and [B, S].
    query_groups, key_groups: int32 [B, T] and [B, S], or None.
    layout_is_causal: the queries are the last T of the S keys and no key
      is visible to an earlier one, so that a block can leave out the keys
      after it.
    block: queries whose [B, N, block, S] scores exist at a time.

  Returns:
    [B, T, N, H].
  """
  t, s = query.shape[1], key.shape[1]
  if t <= block:
    return _attend(
      query, key, value, query_positions, key_positions, query_groups,
      key_groups,
    )  # fmt: skip
  outputs = []
  for start in range(0, t, block):
    stop = min(start + block, t)
    end = s - t + stop if layout_is_causal else s
    rows, keys = slice(start, stop), slice(0, end)
    # Without it the backward pass would keep every block's scores.
    outputs.append(
      jax.checkpoint(_attend)(
        query[:, rows],
        key[:, keys],
        value[:, keys],
        query_positions[:, rows],
        key_positions[:, keys],
        None if query_groups is None else query_groups[:, rows],
        None if key_groups is None else key_groups[:, keys],
      )
    )
  return jnp.concatenate(outputs, axis=1)


def _attend(query, key, value, q_positions, k_positions, q_groups, k_groups):
  b, t, n, h = query.shape
  k = key.shape[2]
  einsum = functools.partial(
    jnp.einsum, preferred_element_type=jnp.promote_types(query.dtype, 'f4')
  )
  query = query.reshape(b, t, k, n // k, h)
  scores = einsum('btkgh,bskh->bkgts', query, key) / np.sqrt(h)
  mask = visible(q_positions, k_positions, q_groups, k_groups)
  # Finite, so that a padded query, which sees nothing, is not a NaN.
  scores = jnp.where(mask[:, None, None], scores, jnp.finfo(scores.dtype).min)
  weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
  output = einsum('bkgts,bskh->btkgh', weights, value)
  return output.astype(value.dtype).reshape(b, t, n, h)
