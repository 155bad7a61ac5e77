"""A bank of adapters that grows while it is in use."""

import hashlib

from flax.traverse_util import flatten_dict, unflatten_dict
import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.nn.joining import unstack_layers
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
    """The bank, layers unstacked, for decoding; None where it is empty."""
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

  def add(self, name: str, adapter: Adapter, dtype=np.float32) -> None:
    """Adds an adapter of the same base; one that is there already stays.

    `dtype` is that in which it will be computed.

    Raises:
      ValueError: it is a bank or not finite in the dtype, or the name is no
        string or has another adapter.
    """
    if not isinstance(name, str):
      raise ValueError(
        f'The name of an adapter is {name!r}; requests name it by a string.'
      )
    if adapter.bank_size is not None:
      raise ValueError(f"'{name}' is a bank of adapters; add them one by one.")
    weights = scaled_weights(adapter)
    if not all(
      jnp.isfinite(jnp.asarray(leaf, dtype)).all()
      for leaf in jax.tree.leaves(weights)
    ):
      # 0 times them is not 0, so they would reach the rows of others.
      raise ValueError(
        f"The adapter '{name}' holds numbers that are not finite in "
        f'{np.dtype(dtype).name}; train it again.'
      )
    digest = _hash(weights)
    if name in self._ids:
      if self.hash_of(name) == digest:
        return
      raise ValueError(
        f"The bank has another adapter '{name}', which rows may be using; "
        'give the new one a name of its own.'
      )
    new = {
      path: jnp.expand_dims(leaf, _axis(path))
      for path, leaf in flatten_dict(unstack_layers(weights)).items()
    }
    index = len(self._ids)
    capacity, rank = self._capacity, self._rank
    while capacity <= index:
      capacity *= 2
    while rank < adapter.rank:
      rank *= 2
    leaves = dict(self._leaves)
    if (capacity, rank) != (self._capacity, self._rank):
      leaves = {
        path: _padded(path, leaf, capacity, rank)
        for path, leaf in leaves.items()
      }
    for path, leaf in new.items():
      if path not in leaves:
        leaves[path] = _padded(path, 0 * leaf, capacity, rank)
    leaves |= _put(
      {path: leaves[path] for path in new},
      {path: _padded(path, leaf, 1, rank) for path, leaf in new.items()},
      index,
    )
    # At the end and at once: whatever fails before leaves the bank as it was.
    self._leaves, self._capacity, self._rank = leaves, capacity, rank
    self._hashes = [*self._hashes[:index], digest]
    self._ids[name] = index


def _axis(path) -> int:
  """The axis of the adapters, before that of the rank."""
  return 1 if path[-1] == 'a' else 0


def _padded(path, leaf, count, rank):
  """A [D, n, r] or B [n, r, F] with zeros up to `count` and the rank."""
  axis = _axis(path)
  pad = [(0, 0)] * 3
  pad[axis] = (0, count - leaf.shape[axis])
  pad[axis + 1] = (0, rank - leaf.shape[axis + 1])
  return jnp.pad(leaf, pad)


@jax.jit
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
