"""Attention on TPUs by JAX's splash kernel, which never holds the scores.

Axes as in nn/attention.py. The kernel skips the blocks of keys that a causal
layout hides and masks the others by what it is given of every query and key.
"""

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_kernel as kernels,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_mask as masks,
)
import jax.numpy as jnp
import numpy as np

# Queries and keys that the kernel takes at a time, and what it divides by.
BLOCK = 512
LANES = 128
# A query's own slot and the first slot of its group share 32 bits.
_BITS = 15
MOST_KEYS = 2**_BITS


def can(query, keys: int, grouped: bool) -> bool:
  """Whether the kernel computes such queries [B, T, N, H] and so many keys."""
  few = keys + BLOCK <= MOST_KEYS
  return query.dtype in (jnp.bfloat16, jnp.float32) and (few or not grouped)


def splash_attention(
  query, key, value, there, starts=None, shared=0, interpret=False
):
  """Softmax attention where slots tell the order.

  Args:
    query: [B, T, N, H], the last T of the S positions.
    key, value: [B, S, K, H].
    there: bool [B, S], False for padding, which only padding sees.
    starts: int32 [B, T], the first slot of each query's group; of the keys
      from `shared` on it sees none before. None without groups, else S is at
      most MOST_KEYS.
    shared: the first keys, which all groups see.
    interpret: run on any device, very slowly.

  Returns:
    [B, T, N, H]; what padding sees is undefined, but finite.
  """
  t, s, heads = query.shape[1], key.shape[1], query.shape[2]
  query = query * np.asarray(query.shape[-1] ** -0.5, query.dtype)
  blocks = _block(t), _block(s)
  query, key, value = (
    _padded(x, block).transpose(0, 2, 1, 3)
    for x, block in ((query, blocks[0]), (key, blocks[1]), (value, blocks[1]))
  )
  there = there.astype(jnp.int32)
  segments = kernels.SegmentIds(
    _padded(there[:, s - t :], blocks[0]), _padded(there, blocks[1])
  )
  kernel = _kernel(
    heads, (query.shape[2], key.shape[2]), s - t, blocks, interpret
  )
  rows = (query, key, value, segments)
  if starts is None:
    output = jax.vmap(kernel)(*rows)
  else:
    slots = (s - t) + jnp.arange(query.shape[2], dtype=jnp.int32)
    places = (_padded(starts, blocks[0]) << _BITS) + slots
    output = jax.vmap(
      lambda places, *row: _with_groups(kernel, places, shared)(*row)
    )(places, *rows)
  return output.transpose(0, 2, 1, 3)[:, :t]


def _block(length: int) -> int:
  return min(BLOCK, -(-length // LANES) * LANES)


def _padded(x, block: int):
  """[B, T, ...] with zeros behind, up to a multiple of the block."""
  missing = -x.shape[1] % block
  return jnp.pad(x, ((0, 0), (0, missing)) + ((0, 0),) * (x.ndim - 2))


def _kernel(heads: int, shape, offset: int, blocks, interpret: bool):
  block_q, block_kv = blocks
  causal = masks.CausalMask(shape, offset)
  return kernels.make_splash_mha_single_device(
    masks.MultiHeadMask([causal] * heads),
    block_sizes=kernels.BlockSizes(
      block_q=block_q,
      block_kv=block_kv,
      block_q_dkv=block_q,
      block_kv_dkv=block_kv,
      block_q_dq=block_q,
      block_kv_dq=block_kv,
    ),
    # With it the backward pass need not run the forward kernel again.
    residual_checkpoint_name='attention',
    interpret=interpret,
  )


def _with_groups(kernel, places, shared: int):
  """The kernel with its mask computed from `places` in place of the slots.

  It asks a function of each query's number and the key's slot; the number
  may be any, and the blocks that it skips are hidden from every group.
  """

  def visible(place, slot):
    start, own = place >> _BITS, place & (MOST_KEYS - 1)
    return (slot <= own) & ((slot >= start) | (slot < shared))

  def placed(info):
    return info._replace(q_sequence=places)

  return kernels.SplashAttentionKernel(
    *map(
      placed, (kernel.fwd_mask_info, kernel.dq_mask_info, kernel.dkv_mask_info)
    ),
    **{**kernel.kwargs, 'mask_function': visible},
  )
