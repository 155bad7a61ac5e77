"""Keys and values of contexts, kept so that a context is read once."""

import collections
import hashlib
from typing import NamedTuple

import jax
import numpy as np


class ContextKey(NamedTuple):
  """What the keys and values of a context depend on, each as a hash.

  The base's fingerprint, the adapter, and the context's own vectors, since
  they are what is read whatever documents they are of.
  """

  base: str
  adapter: str
  vectors: str


def vectors_hash(vectors: np.ndarray) -> str:
  """A hash of summary vectors [n, D], their shape and dtype included."""
  digest = hashlib.sha256(f'{vectors.shape}{vectors.dtype}'.encode())
  digest.update(np.ascontiguousarray(vectors).tobytes())
  return digest.hexdigest()


class ContextCache:
  """Arrays by key; those not used for longest leave when bytes exceed limit.

  Args:
    limit: bytes in all; what exceeds it alone is not kept.

  Raises:
    ValueError: the limit is negative.
  """

  def __init__(self, limit: int):
    if limit < 0:
      raise ValueError(
        f'The cache is limited to {limit} bytes; give 0 or more.'
      )
    self.limit = limit
    self.bytes = 0
    self.hits = 0
    self.misses = 0
    self._kept = collections.OrderedDict()

  def __len__(self) -> int:
    return len(self._kept)

  def get(self, key: ContextKey):
    """The arrays of a key, or None."""
    if key not in self._kept:
      self.misses += 1
      return None
    self.hits += 1
    self._kept.move_to_end(key)
    return self._kept[key]

  def put(self, key: ContextKey, arrays) -> None:
    """Keeps a tree of arrays, which nobody may give up or change."""
    self._drop(key)
    size = _bytes(arrays)
    if size > self.limit:
      return
    while self.bytes + size > self.limit:
      self._drop(next(iter(self._kept)))
    self._kept[key] = arrays
    self.bytes += size

  def _drop(self, key):
    if key in self._kept:
      self.bytes -= _bytes(self._kept.pop(key))


def _bytes(arrays) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
