"""Attention against loops over rows, heads and queries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import normal, relative_error

from lloco_jax.nn import attention as attention_module
from lloco_jax.nn.attention import attention, cached_attention
from lloco_jax.nn.remat import REMAT_POLICIES
from lloco_jax.nn.visibility import SHARED, UNSEEN, visible

B, T, S, N, K, H = 2, 13, 19, 4, 2, 3
# Queries and keys. None is all at once; the last one of 3 or 4 is short, 9 and
# 16 queries are all of a row's.
TILES = None, (3, 3), (4, 8), (9, 9), (9, 4), (16, 16)


def arrays(seed=0):
  shapes = (B, T, N, H), (B, S, K, H), (B, S, K, H)
  return [normal(seed + i, *shape) for i, shape in enumerate(shapes)]


def ragged():
  """Row 0 has 6 kept keys, row 1 only 4; queries follow them.

  The queries are two groups, and the last ones of row 1 are padding.
  """
  kept = np.array([6, 4])[:, None]
  query = (kept + np.arange(T)).astype(np.int32)
  query_groups = np.where(np.arange(T) < 7, 1, 2) * np.ones((B, 1), np.int32)
  slots = np.where(np.arange(S - T) < kept, np.arange(S - T), UNSEEN)
  new = query.copy()
  new[1, -3:] = UNSEEN
  key = np.concatenate([slots, new], axis=1).astype(np.int32)
  shared = np.full((B, S - T), SHARED)
  groups = np.concatenate([shared, query_groups], axis=1)
  return query, key, query_groups.astype(np.int32), groups.astype(np.int32)


def by_loops(query, key, value, q_positions, k_positions, q_groups, k_groups):
  query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
  output = np.zeros(query.shape)
  for b, t, n in np.ndindex(query.shape[:3]):
    seen = [
      s
      for s in range(key.shape[1])
      if k_positions[b, s] <= q_positions[b, t]
      and (k_groups is None or k_groups[b, s] in (SHARED, q_groups[b, t]))
    ]
    head = n // (query.shape[2] // key.shape[2])
    scores = key[b, seen, head] @ query[b, t, n] / np.sqrt(query.shape[3])
    weights = np.exp(scores - scores.max())
    output[b, t, n] = weights @ value[b, seen, head] / weights.sum()
  return output


@pytest.mark.parametrize('tile', TILES)
@pytest.mark.parametrize('grouped', [False, True])
def test_equals_loops(grouped, tile):
  query, key, q_groups, k_groups = ragged()
  if not grouped:
    q_groups = k_groups = None
  rest = (query, key, q_groups, k_groups)
  expected = by_loops(*arrays(), *rest)
  actual = attention(*arrays(), *rest, tile=tile)
  assert relative_error(actual, expected) < 1e-5


@pytest.mark.parametrize('tile', TILES[1:])
@pytest.mark.parametrize('remat', [False, True])
def test_gradients_of_tiles_equal_those_of_the_whole(tile, remat):
  """Also of queries that are padding, whose output is not looked at."""
  positions = ragged()
  there = (positions[0] != UNSEEN)[..., None, None]

  def gradients(tile):
    def loss(arrays):
      output = attention(*arrays, *positions, tile=tile)
      return jnp.sum(jnp.where(there, output, 0) ** 3)

    if remat:
      loss = jax.checkpoint(loss, policy=REMAT_POLICIES['projections'])
    return jax.jit(jax.grad(loss))(arrays())

  for actual, expected in zip(gradients(tile), gradients(None)):
    assert relative_error(actual, expected) < 1e-5


def test_a_rematerialised_layer_keeps_what_its_tiles_need():
  """No tile is computed forwards a second time."""
  positions = ragged()

  def loops(name):
    def loss(arrays):
      return jnp.sum(attention(*arrays, *positions, tile=(4, 4)) ** 3)

    run = jax.checkpoint(loss, policy=REMAT_POLICIES[name])
    return str(jax.make_jaxpr(jax.grad(run))(arrays())).count('while[')

  assert loops('full') == 3
  assert loops('attention') == 2


@pytest.mark.parametrize('queries', [700, 1030])
def test_the_tiles_of_long_rows_equal_the_whole(queries, monkeypatch):
  keys = 1100
  shapes = (1, queries, 2, 4), (1, keys, 1, 4), (1, keys, 1, 4)
  arrays = [normal(seed, *shape) for seed, shape in enumerate(shapes)]
  positions = jnp.arange(keys)[None]
  places = positions[:, -queries:], positions
  tile = attention_module.tile_of(queries)
  assert tile == ((128, 256) if queries == 1030 else (64, 64))
  by_tiles = attention(*arrays, *places)
  np.testing.assert_array_equal(
    by_tiles, attention(*arrays, *places, tile=tile)
  )
  monkeypatch.setattr(attention_module, 'AT_ONCE', queries * keys)
  assert relative_error(by_tiles, attention(*arrays, *places)) < 1e-5


def test_memory_does_not_grow_with_the_keys():
  """Beside the keys themselves: eight times as many, as the compiler says."""

  def temporary(keys):
    shapes = [(1, 512, 2, 4), (1, keys, 1, 4), (1, keys, 1, 4)]
    arrays = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    places = [jax.ShapeDtypeStruct((1, n), np.int32) for n in (512, keys)]
    run = jax.jit(attention).lower(*arrays, *places).compile()
    return run.memory_analysis().temp_size_in_bytes

  assert temporary(8192) < 1.5 * temporary(1024)


@pytest.mark.parametrize('few', [False, True])
@pytest.mark.parametrize('grouped', [False, True])
def test_a_cache_with_keys_anywhere(grouped, few, monkeypatch):
  """Also a block of queries at a time."""
  if few:
    monkeypatch.setattr(attention_module, 'QUERY_BLOCKS', (2, 5))
    monkeypatch.setattr(attention_module, 'SCORES', 1)
  query, key, value = arrays()
  q_positions, k_positions, q_groups, k_groups = ragged()
  order = np.random.default_rng(0).permutation(S)
  rest = [q_positions, k_positions[:, order], q_groups, k_groups[:, order]]
  if not grouped:
    rest[2:] = None, None
  expected = by_loops(query, key, value, *rest)
  key, value = key.transpose(0, 2, 1, 3), value.transpose(0, 2, 1, 3)
  actual = cached_attention(query, key, value, *rest)
  assert relative_error(actual, expected) < 1e-5


@pytest.mark.parametrize('tile', TILES)
def test_unseen_keys_have_no_influence(tile):
  """Exactly: by gradient, for keys, values and the queries of padding."""
  q_positions, k_positions, q_groups, k_groups = ragged()
  row, t = 1, 8
  mask = visible(q_positions, k_positions, q_groups, k_groups)[row, t]
  assert 0 < mask.sum() < S

  def loss(arrays):
    output = attention(
      *arrays, q_positions, k_positions, q_groups, k_groups, tile=tile
    )
    return jnp.sum(output[row, t] ** 3)

  query, key, value = jax.grad(loss)(arrays())
  for gradient in (key, value):
    assert (np.abs(gradient[row]).max((1, 2)) > 0).tolist() == mask.tolist()
    assert (gradient[1 - row] == 0).all()
  touched = np.abs(query).max((2, 3)) > 0
  assert touched.sum() == 1 and touched[row, t]


@pytest.mark.parametrize('tile', TILES)
def test_a_query_that_sees_nothing_is_finite(tile):
  query, key, value = arrays()
  nowhere = jnp.full((B, T), -1)
  key_positions = jnp.full((B, S), UNSEEN)

  def loss(value):
    output = attention(query, key, value, nowhere, key_positions, tile=tile)
    return jnp.sum(output)

  output, gradient = jax.value_and_grad(loss)(value)
  assert np.isfinite(output) and np.isfinite(gradient).all()


@pytest.mark.parametrize('tile', [None, (32, 32)])
def test_scores_are_float32_in_bfloat16(tile):
  """Keys that differ by less than bfloat16 scores could tell."""
  query, key, value = (x.astype(jnp.bfloat16) for x in arrays())
  positions = (np.full((B, T), S), np.zeros((B, S), np.int32))
  actual = attention(query * 16, key, value, *positions, tile=tile)
  assert actual.dtype == jnp.bfloat16
  wide = [np.asarray(x, np.float64) for x in (query * 16, key, value)]
  expected = by_loops(*wide, *positions, None, None)
  assert relative_error(actual.astype(jnp.float32), expected) < 0.01
