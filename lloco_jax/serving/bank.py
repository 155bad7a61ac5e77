"""A bank of adapters that grows while it is in use."""

import functools
import hashlib

from flax.traverse_util import flatten_dict, unflatten_dict
import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.nn.llama import unstack_layers
from lloco_jax.nn.lora import Adapter, scaled_weights


class AdapterBank:
  """Adapters by name, as one `Adapter` from which rows choose by id.

  Smaller ranks are padded with zeros, missing projections are zero, and the
  scale is folded in. There is room for `capacity` adapters of at most `rank`:
  one that fits changes no shape, so nothing is compiled again. Capacity and
  rank double as they are exceeded.

  Raises:
    ValueError: capacity or rank is below 1.
  """

  def __init__(self, capacity: int = 4, rank: int = 8):
    if capacity < 1 or rank < 1:
      raise ValueError(
        f'A bank with room for {capacity} adapters of rank {rank} holds '
        'none; both must be 1 or more.'
      )
    self._capacity = capacity
    self._rank = rank
    self._ids: dict[str, int] = {}
    self._hashes: list[str] = []
    self._leaves: dict[tuple, jax.Array] = {}

  @property
  def names(self) -> list[str]:
    """Of the adapters, in the order of their ids."""
    return list(self._ids)

  @property
  def adapter(self) -> Adapter | None:
    """The bank, layers unstacked, for decoding; None where it is empty.

    It is lost when the next adapter is added.
    """
    if not self._leaves:
      return None
    return Adapter(unflatten_dict(self._leaves), rank=1, alpha=1.0)

  def id_of(self, name: str | None) -> int:
    """The adapter's id; -1, the base alone, for None.

    Raises:
      ValueError: there is no such adapter.
    """
    if name is None:
      return -1
    if name not in self._ids:
      there = ', '.join(f"'{other}'" for other in self._ids) or 'none'
      raise ValueError(
        f"There is no adapter '{name}' in the bank, which has {there}; add "
        'it first.'
      )
    return self._ids[name]

  def hash_of(self, name: str | None) -> str:
    """A hash of what the adapter computes; '' for None.

    Raises:
      ValueError: there is no such adapter.
    """
    index = self.id_of(name)
    return '' if index < 0 else self._hashes[index]

  def add(self, name: str, adapter: Adapter) -> None:
    """Adds an adapter of the same base; one that is there already stays.

    Raises:
      ValueError: it is a bank, or the name has another adapter.
    """
    if adapter.bank_size is not None:
      raise ValueError(f"'{name}' is a bank of adapters; add them one by one.")
    weights = scaled_weights(adapter)
    digest = _hash(weights)
    if name in self._ids:
      if self.hash_of(name) == digest:
        return
      raise ValueError(
        f"The bank has another adapter '{name}', which rows may be using; "
        'give the new one a name of its own.'
      )
    new = flatten_dict(unstack_layers(weights))
    self._make_room(new, adapter.rank)
    index = len(self._ids)
    self._leaves |= _put(
      {path: self._leaves[path] for path in new},
      {
        path: self._padded(path, jnp.expand_dims(leaf, _axis(path)))
        for path, leaf in new.items()
      },
      index,
    )
    self._ids[name] = index
    self._hashes.append(digest)

  def _make_room(self, new, rank):
    """Arrays that hold one adapter more, of a rank and of these leaves."""
    before = self._capacity, self._rank
    while self._capacity <= len(self._ids):
      self._capacity *= 2
    while self._rank < rank:
      self._rank *= 2
    if before != (self._capacity, self._rank):
      for path, leaf in self._leaves.items():
        self._leaves[path] = self._padded(path, leaf, self._capacity)
    for path, leaf in new.items():
      if path not in self._leaves:
        shape = list(leaf.shape)
        shape.insert(_axis(path), 0)
        empty = jnp.zeros(shape, leaf.dtype)
        self._leaves[path] = self._padded(path, empty, self._capacity)

  def _padded(self, path, leaf, count=1):
    """A [D, n, r] or B [n, r, F] with zeros up to `count` and the rank."""
    axis = _axis(path)
    pad = [(0, 0)] * 3
    pad[axis] = (0, count - leaf.shape[axis])
    pad[axis + 1] = (0, self._rank - leaf.shape[axis + 1])
    return jnp.pad(leaf, pad)


def _axis(path) -> int:
  """The axis of the adapters, before that of the rank."""
  return 1 if path[-1] == 'a' else 0


@functools.partial(jax.jit, donate_argnums=0)
def _put(leaves, new, index):
  """Leaves of the bank with those of one adapter, [D, 1, R] and [1, R, F]."""
  return {
    path: jax.lax.dynamic_update_slice_in_dim(
      leaf, new[path], index, _axis(path)
    )
    for path, leaf in leaves.items()
  }


def _hash(weights) -> str:
  digest = hashlib.sha256()
  for path, leaf in sorted(flatten_dict(weights).items()):
    digest.update(f'{path}{leaf.shape}{leaf.dtype}'.encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()
