"""Attention whose mask is made of positions and groups.

Axes: B batch, T queries, S keys, N heads, K key-value heads, G heads per
key-value head, H head size.

Back ends: 'xla' computes any mask on any device. 'splash' (TPU) and 'cudnn'
(GPU) take over where there are many scores and the slots of the keys tell the
mask, so that they can say it exactly. None holds the scores of all keys.
"""

import functools
import math

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from lloco_jax.nn import cudnn, splash
from lloco_jax.nn.placement import placement_in_use
from lloco_jax.nn.tiles import Marks, tiled_attention
from lloco_jax.nn.visibility import UNSEEN, visible

# Scores of a row and head that exist at a time where queries read a cache, so
# that memory does not grow with it; and the bounds of a block of queries.
SCORES = 2**18
QUERY_BLOCKS = (32, 512)
# Scores of a row and head that are computed at once by the back end 'xla', and
# the queries and keys of the tiles that more of them are computed in. A CPU's
# cores share what is in a tile, not a loop, but of few queries much of a large
# one is not seen; elsewhere each step of a loop costs a launch.
AT_ONCE = 2**17
LONG = 1024
CPU_TILE, LONG_CPU_TILE, OTHER_TILE = (64, 64), (128, 256), (512, 512)
# On a GPU: matrices that a step's products should be of, the fewest keys of
# one, and the most queries that share a head's; caches have a multiple of so
# many places.
MATRICES, PART_KEYS, MOST_QUERIES, CACHE_MULTIPLE = 1024, 64, 8, 128
BACKENDS = ('xla', 'splash', 'cudnn')
_OF_PLATFORM = {'tpu': 'splash', 'gpu': 'cudnn'}
# JAX keeps programs traced with one back end apart from those with another.
IN_USE = jax.make_user_context(default_value=None)


def use_backend(name: str):
  """A context in which programs are traced for a back end of BACKENDS.

  Without one it is that of the default device's platform. Programs that are
  compiled for another device than the machine's own need it.
  """
  if name not in BACKENDS:
    raise ValueError(
      f"The attention back end '{name}' is unknown; choose from "
      f'{", ".join(BACKENDS)}.'
    )
  return IN_USE(name)


def backend() -> str:
  """The back end of BACKENDS that programs are traced for."""
  if IN_USE.value:
    return IN_USE.value
  name = _OF_PLATFORM.get(jax.default_backend(), 'xla')
  return 'xla' if name == 'cudnn' and not cudnn.is_here() else name


def row_padding(positions: int) -> int:
  """How many positions are best put behind a row of so many.

  A TPU's compiler takes many times as long over long rows of odd lengths.
  """
  if backend() != 'splash' or positions < splash.BLOCK:
    return 0
  return -positions % splash.LANES


def tile_of(queries: int) -> tuple[int, int]:
  """The queries and the keys of a tile, where a row has so many queries."""
  if backend() != 'xla':
    return OTHER_TILE
  return CPU_TILE if queries < LONG else LONG_CPU_TILE


def query_block(keys: int) -> int:
  """Queries whose scores are computed at a time, a multiple of 32."""
  least, most = QUERY_BLOCKS
  return min(max(SCORES // keys // least * least, least), most)


def attention(
  query,
  key,
  value,
  query_positions,
  key_positions,
  query_groups=None,
  key_groups=None,
  shared=None,
  tile=None,
):
  """Softmax attention whose memory does not grow with the keys' scores.

  The queries are the last T of the S keys, and a query sees no key behind its
  own and every one before it that is not UNSEEN, groups aside. So queries can
  leave out the keys after them; `cached_attention` is for keys that lie
  otherwise.

  Args:
    query: [B, T, N, H].
    key, value: [B, S, K, H].
    query_positions, key_positions: int32 [B, T] and [B, S].
    query_groups, key_groups: int32 [B, T] and [B, S], or None.
    shared: with groups, that the first so many keys are SHARED and behind them
      each group is one run; None if it is not so.
    tile: the queries and the keys whose scores exist at a time, by the back
      end 'xla'; None for what suits the device, or another back end.

  Returns:
    [B, T, N, H]; what padding gets is undefined, but finite.
  """
  t, s = query.shape[1], key.shape[1]
  name, grouped = backend(), key_groups is not None
  positions = (query_positions, key_positions, query_groups, key_groups)
  if tile is None and (not grouped or shared is not None):
    many = t > query_block(s)
    if name == 'splash' and many and splash.can(query, s, grouped):
      return _splash(query, key, value, key_positions, query_groups, shared)
    if name == 'cudnn' and cudnn.can(query):
      return checkpoint_name(_cudnn(query, key, value, *positions), 'attention')
  if tile is not None or t * s > AT_ONCE:
    marks = Marks(*positions)
    return tiled_attention(query, key, value, marks, *(tile or tile_of(t)))
  # As the products want them.
  key, value = key.transpose(0, 2, 1, 3), value.transpose(0, 2, 1, 3)
  queries = (query, query_positions, query_groups)
  output = _attend(queries, (key, value, key_positions, key_groups))
  return checkpoint_name(output, 'attention')


def cached_attention(
  query,
  key,
  value,
  query_positions,
  key_positions,
  query_groups=None,
  key_groups=None,
):
  """`attention` over a decode cache, where keys lie anywhere.

  `key` and `value` are [B, K, S, H] or [B K, S, H], as the products want
  them: a step reads all of them, and turning them would take longer.
  """
  queries = (query, query_positions, query_groups)
  keys = (key, value, key_positions, key_groups)
  block = query_block(key.shape[-2])
  if query.shape[1] <= block:
    return _attend(queries, keys, parts_of(query, key))
  return _attend_in_blocks(queries, keys, block)


def cache_padding(places: int) -> int:
  """How many places are best left free in a cache of so many."""
  return -places % CACHE_MULTIPLE if backend() == 'cudnn' else 0


def parts_of(query, key) -> int | None:
  """Parts that a step reads the values of a cache in; None for one product."""
  *lead, places, _ = key.shape
  queries = math.prod(query.shape[:-1]) // math.prod(lead)
  if backend() != 'cudnn' or queries > MOST_QUERIES:
    return None
  most = min(-(-MATRICES // math.prod(lead)), places // PART_KEYS)
  return max(n for n in range(1, max(most, 1) + 1) if places % n == 0)


def _splash(query, key, value, key_positions, groups, shared):
  there = key_positions != UNSEEN
  if groups is None:
    return _on_mesh(splash.splash_attention, query, key, value, there)
  # Where each group's run begins.
  offset = key.shape[1] - query.shape[1]
  slots = offset + jnp.arange(query.shape[1], dtype=jnp.int32)
  changes = jnp.diff(groups, axis=1, prepend=groups[:, :1]) != 0
  starts = jax.lax.cummax(jnp.where(changes, slots, 0), axis=1)
  run = functools.partial(splash.splash_attention, shared=shared)
  return _on_mesh(run, query, key, value, there, starts)


def _cudnn(query, key, value, query_positions, key_positions, *groups):
  if groups[0] is None and query.shape[1] == key.shape[1]:
    there = key_positions != UNSEEN
    return _on_mesh(cudnn.causal_attention, query, key, value, there)
  mask = visible(query_positions, key_positions, *groups)
  return _on_mesh(cudnn.masked_attention, query, key, value, mask)


def _on_mesh(run, query, key, value, *rows):
  """Runs a kernel on each device's rows and heads of [B, ...] arrays.

  The compiler cannot cut a kernel, and none of ours needs its neighbours.
  """
  placement = placement_in_use()
  if placement is None:
    return run(query, key, value, *rows)
  wanted = placement.sharding(query.shape, ('batch', None, 'heads', None)).spec
  kept = placement.sharding(key.shape, ('batch', None, 'kv_heads', None)).spec
  if kept != wanted:
    # Fewer key-value heads than parts: every device takes what its heads read.
    each = query.shape[2] // key.shape[2]
    key, value = (jnp.repeat(x, each, axis=2) for x in (key, value))
  specs = [
    placement.sharding(x.shape, ('batch', *(None,) * (x.ndim - 1))).spec
    for x in rows
  ]
  return jax.shard_map(
    run,
    mesh=placement.mesh,
    in_specs=(wanted, wanted, wanted, *specs),
    out_specs=wanted,
    check_vma=False,
  )(query, key, value, *rows)


def _attend_in_blocks(queries, keys, block: int):
  """One block after the other: a loop, or a CPU would compute all at once."""
  t = queries[0].shape[1]
  count = -(-t // block)

  def split(x):
    x = jnp.pad(x, ((0, 0), (0, count * block - t)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(x.shape[0], count, block, *x.shape[2:]), 1, 0)

  def one(carry, queries):
    return carry, _attend(queries, keys)

  _, outputs = jax.lax.scan(one, None, jax.tree.map(split, queries))
  outputs = jnp.moveaxis(outputs, 0, 1)
  return outputs.reshape(outputs.shape[0], -1, *outputs.shape[3:])[:, :t]


def _attend(queries, keys, parts=None):
  query, query_positions, query_groups = queries
  key, value, key_positions, key_groups = keys
  b, t, n, h = query.shape
  *lead, s, _ = key.shape
  k = math.prod(lead) // b
  wide = jnp.promote_types(query.dtype, 'f4')
  einsum = functools.partial(jnp.einsum, preferred_element_type=wide)
  query = query.reshape(b, t, k, n // k, h).transpose(0, 2, 3, 1, 4)
  query = query.reshape(*lead, n // k, t, h)
  scores = einsum('...gth,...sh->...gts', query, key) / np.sqrt(h)
  scores = scores.reshape(b, k, n // k, t, s)
  mask = visible(query_positions, key_positions, query_groups, key_groups)
  # Finite, so that a padded query, which sees nothing, is not a NaN.
  scores = jnp.where(mask[:, None, None], scores, jnp.finfo(wide).min)
  most = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
  weights = jnp.exp(scores - most)
  sums = jnp.sum(weights, axis=-1, keepdims=True)
  if parts is not None:
    # In the kernel that has them.
    weights, sums = weights / sums, 1
  weights = weights.astype(value.dtype).reshape(*lead, n // k, t, s)
  if parts is None:
    output = einsum('...gts,...sh->...gth', weights, value)
  else:
    output = _mixed_in_parts(weights, value, parts, einsum)
  # The few outputs are divided by the sums, not the many weights.
  output = (output.reshape(b, k, n // k, t, h) / sums).astype(value.dtype)
  return output.transpose(0, 3, 1, 2, 4).reshape(b, t, n, h)


def _mixed_in_parts(weights, value, parts: int, einsum):
  """Weights [..., G, T, S] times values [..., S, H], some keys at a time.

  As one product a GPU's compiler puts it into the softmax's kernel, which reads
  the values a few columns at a time, and slowly (docs/gpu.md).
  """
  weights = jax.lax.optimization_barrier(weights)
  weights = weights.reshape(*weights.shape[:-1], parts, -1)
  value = value.reshape(*value.shape[:-2], parts, -1, value.shape[-1])
  each = einsum('...gtps,...psh->...pgth', weights, value)
  return jnp.sum(jax.lax.optimization_barrier(each), axis=-4)
