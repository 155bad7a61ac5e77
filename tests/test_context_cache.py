"""The cache of contexts, against a list that is searched."""

import numpy as np
import pytest

from lloco_jax.serving.context_cache import (
  ContextCache,
  ContextKey,
  vectors_hash,
)

VECTORS = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_the_least_recently_used_leave():
  random = np.random.default_rng(0)
  cache, model = ContextCache(1000), []
  values = {key: [np.full(25 * (1 + key % 4), key, 'f4')] for key in range(12)}
  hits = 0
  for _ in range(500):
    key = int(random.integers(12))
    found = cache.get(key)
    if key in model:
      assert found is values[key]
      model.remove(key)
      hits += 1
    else:
      assert found is None
      cache.put(key, values[key])
    model.append(key)
    while sum(values[key][0].nbytes for key in model) > 1000:
      model.pop(0)
    assert cache.bytes == sum(values[key][0].nbytes for key in model)
    assert len(cache) == len(model)
  assert (cache.hits, cache.misses) == (hits, 500 - hits)
  assert 100 < hits < 400


def test_what_is_larger_than_the_limit_is_not_kept():
  cache = ContextCache(100)
  cache.put('small', np.zeros(80, np.uint8))
  cache.put('large', np.zeros(101, np.uint8))
  assert cache.get('large') is None and cache.get('small') is not None
  cache.put('small', np.zeros(30, np.uint8))
  assert cache.bytes == 30 and len(cache) == 1
  nothing = ContextCache(0)
  nothing.put('small', np.zeros(1, np.uint8))
  assert len(nothing) == nothing.bytes == 0
  with pytest.raises(ValueError, match='-1 bytes; give 0 or more'):
    ContextCache(-1)


def test_a_key_tells_base_adapter_and_vectors_apart():
  hashes = [
    vectors_hash(VECTORS),
    vectors_hash(VECTORS + 1),
    vectors_hash(VECTORS.reshape(3, 2)),
    vectors_hash(VECTORS.astype(np.float64)),
    vectors_hash(VECTORS[::-1]),
  ]
  assert len(set(hashes)) == len(hashes)
  assert vectors_hash(VECTORS.copy()) == hashes[0]
  keys = {
    ContextKey(base, adapter, vectors)
    for base in 'ab'
    for adapter in ('', 'x')
    for vectors in hashes
  }
  assert len(keys) == 4 * len(hashes)
