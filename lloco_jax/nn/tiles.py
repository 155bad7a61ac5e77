"""Attention of which no more scores exist at a time than those of a tile.

Axes as in nn/attention.py; C is the queries of a tile. Tiles whose keys are all
behind their queries are left out. The backward pass computes the weights again
from the logarithm of their sum, one number a query (FlashAttention-2, arXiv
2307.08691, section 3.1).
"""

import functools
from typing import NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from lloco_jax.nn.visibility import UNSEEN, visible


class Marks(NamedTuple):
  """int32 [B, T] or [B, S], which say what a query sees; groups may be None."""

  query_positions: jax.Array
  key_positions: jax.Array
  query_groups: jax.Array | None
  key_groups: jax.Array | None


class Layout(NamedTuple):
  """The slot of the first query, and the queries and the keys of a tile."""

  offset: int
  queries: int
  keys: int


def tiled_attention(query, key, value, marks: Marks, queries: int, keys: int):
  """Softmax attention of queries that are the last T of the S keys.

  The output, and what the backward pass needs of it, is named 'attention'.

  Args:
    query: [B, T, N, H].
    key, value: [B, S, K, H].
    marks: by which no query sees a key behind its own.
    queries, keys: those of a tile.

  Returns:
    [B, T, N, H].
  """
  b, t, n, h = query.shape
  k = key.shape[2]
  # Half a tile more is one, as a second would be mostly padding.
  queries = t if 2 * t <= 3 * queries else queries
  layout = Layout(key.shape[1] - t, queries, keys)
  query = _whole_tiles(query, queries).reshape(b, -1, k, n // k, h)
  query = query.transpose(0, 2, 3, 1, 4)
  key, value = (
    _whole_tiles(x, keys).transpose(0, 2, 1, 3) for x in (key, value)
  )
  sizes = (queries, keys, queries, keys)
  marks = Marks(
    *(_whole_tiles(x, size, UNSEEN) for x, size in zip(marks, sizes))
  )
  output = _attend(layout, query, key, value, marks)
  return output.transpose(0, 3, 1, 2, 4).reshape(b, -1, n, h)[:, :t]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(layout, query, key, value, marks):
  """[B, K, G, T, H], [B, K, S, H] twice -> [B, K, G, T, H]."""
  return _forward(layout, query, key, value, marks)[0]


def _forward(layout, query, key, value, marks):
  wide, einsum = _wide(query)

  def of_tile(_, i):
    queries, scores_of = _queries(layout, i, query, marks, einsum)

    def add(j, sums):
      most, total, output = sums
      scores = scores_of(_tile(key, j, layout.keys, 2), j)
      higher = jnp.maximum(most, jnp.max(scores, axis=-1, keepdims=True))
      weights, kept = jnp.exp(scores - higher), jnp.exp(most - higher)
      total = total * kept + jnp.sum(weights, axis=-1, keepdims=True)
      values = _tile(value, j, layout.keys, 2)
      weights = weights.astype(value.dtype)
      mixed = einsum('bkgts,bksh->bkgth', weights, values)
      return higher, total, output * kept + mixed

    one = (*queries.shape[:-1], 1)
    most, total, output = jax.lax.fori_loop(
      0,
      _tiles_seen(layout, i, key),
      add,
      (
        jnp.full(one, jnp.finfo(wide).min),
        jnp.zeros(one, wide),
        jnp.zeros(queries.shape, wide),
      ),
    )
    logs = jnp.squeeze(most + jnp.log(total), axis=-1)
    return None, ((output / total).astype(value.dtype), logs)

  tiles = jnp.arange(query.shape[3] // layout.queries)
  _, (output, logs) = jax.lax.scan(of_tile, None, tiles)
  # Named here, where a rematerialised layer would else compute them again.
  output = checkpoint_name(_joined(output), 'attention')
  logs = checkpoint_name(_joined(logs), 'attention')
  return output, (query, key, value, marks, output, logs)


def _backward(layout, kept, output_gradient):
  query, key, value, marks, output, logs = kept
  wide, einsum = _wide(query)
  # What all of a query's weights have in common, being shares of one.
  common = jnp.sum(output_gradient.astype(wide) * output, axis=-1)

  def of_tile(gradients, i):
    queries, scores_of = _queries(layout, i, query, marks, einsum)
    outputs, log, shared = (
      _tile(x, i, layout.queries, 3) for x in (output_gradient, logs, common)
    )

    def add(j, gradients):
      of_queries, of_keys, of_values = gradients
      keys, values = (_tile(x, j, layout.keys, 2) for x in (key, value))
      weights = jnp.exp(scores_of(keys, j) - log[..., None])
      of_weights = einsum('bkgth,bksh->bkgts', outputs, values)
      of_scores = weights * (of_weights - shared[..., None])
      weights, of_scores = (x.astype(query.dtype) for x in (weights, of_scores))
      return (
        of_queries + einsum('bkgts,bksh->bkgth', of_scores, keys),
        _added(of_keys, einsum('bkgts,bkgth->bksh', of_scores, queries), j),
        _added(of_values, einsum('bkgts,bkgth->bksh', weights, outputs), j),
      )

    begin = (jnp.zeros(queries.shape, wide), *gradients)
    of_queries, *gradients = jax.lax.fori_loop(
      0, _tiles_seen(layout, i, key), add, begin
    )
    return tuple(gradients), of_queries

  tiles = jnp.arange(query.shape[3] // layout.queries)
  begin = jnp.zeros(key.shape, wide), jnp.zeros(value.shape, wide)
  (of_keys, of_values), of_queries = jax.lax.scan(of_tile, begin, tiles)
  scale = query.shape[-1] ** -0.5
  return (
    (_joined(of_queries) * scale).astype(query.dtype),
    (of_keys * scale).astype(key.dtype),
    of_values.astype(value.dtype),
    None,
  )


_attend.defvjp(_forward, _backward)


def _queries(layout, i, query, marks, einsum):
  """Tile i of the queries, and what gives their scores of a tile of keys."""
  queries = _tile(query, i, layout.queries, 3)

  def scores_of(keys, j):
    mask = visible(
      _tile(marks.query_positions, i, layout.queries, 1),
      _tile(marks.key_positions, j, layout.keys, 1),
      _tile(marks.query_groups, i, layout.queries, 1),
      _tile(marks.key_groups, j, layout.keys, 1),
    )
    scores = einsum('bkgth,bksh->bkgts', queries, keys)
    scores *= queries.shape[-1] ** -0.5
    # Finite, so that a padded query, which sees nothing, is not a NaN.
    least = jnp.finfo(scores.dtype).min
    return jnp.where(mask[:, None, None], scores, least)

  return queries, scores_of


def _tiles_seen(layout, i, key):
  """Tiles of the keys up to the last query of tile i."""
  last = layout.offset + (i + 1) * layout.queries
  return jnp.minimum(-(-last // layout.keys), key.shape[2] // layout.keys)


def _wide(array):
  wide = jnp.promote_types(array.dtype, 'f4')
  return wide, functools.partial(jnp.einsum, preferred_element_type=wide)


def _whole_tiles(x, tile, fill=0):
  """[B, T, ...] or None, with padding behind, so that tiles divide it."""
  if x is None:
    return None
  pads = [(0, 0)] * x.ndim
  pads[1] = 0, -x.shape[1] % tile
  return jnp.pad(x, pads, constant_values=fill)


def _tile(x, i, size, axis):
  if x is None:
    return None
  return jax.lax.dynamic_slice_in_dim(x, i * size, size, axis)


def _added(x, tile, j):
  start = (0, 0, j * tile.shape[2], 0)
  tile += jax.lax.dynamic_slice(x, start, tile.shape)
  return jax.lax.dynamic_update_slice(x, tile, start)


def _joined(x):
  """[tiles, B, K, G, C, ...] -> [B, K, G, T, ...]."""
  x = jnp.moveaxis(x, 0, 3)
  return x.reshape(*x.shape[:3], -1, *x.shape[5:])
