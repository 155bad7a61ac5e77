"""Compression of token ids: segments in order, few shapes."""

import functools
import numbers

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.buckets import bucket
from lloco_jax.nn.autocompressor import (
  compress_segment,
  grow_prefix,
  init_state,
)
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import Adapter


@functools.partial(jax.jit, static_argnames=('config',), donate_argnums=2)
def compress_in_place(
  params, config, prefix, rest, tokens, lengths, adapter=None
):
  """The program of `compress_step`; the state's prefix is given by itself."""
  state = rest.replace(prefix=prefix)
  _, state = compress_segment(params, config, tokens, lengths, state, adapter)
  return state


def compress_step(params, config, tokens, lengths, state, adapter=None):
  """Jitted `compress_segment`; the old state's prefix is given up."""
  rest = state.replace(prefix=None)
  return compress_in_place(
    params, config, state.prefix, rest, tokens, lengths, adapter
  )


def split_length(
  total: int, segment_length: int = 1536, segment_lengths=None
) -> list[int]:
  """Lengths in tokens of the segments of a text of `total` tokens.

  Raises:
    ValueError: the text is empty, or the lengths do not cover it.
  """
  if total < 1:
    raise ValueError('There are no tokens to compress: the text is empty.')
  if segment_lengths is not None:
    if sum(segment_lengths) != total or min(segment_lengths) < 1:
      raise ValueError(
        f'segment_lengths {list(segment_lengths)} must be positive and add '
        f'up to the {total} tokens of the text.'
      )
    return list(segment_lengths)
  if not isinstance(segment_length, numbers.Integral) or segment_length < 1:
    raise ValueError(
      f'segment_length is {segment_length!r}; it must be a whole number >= 1.'
    )
  full, rest = divmod(total, segment_length)
  return [segment_length] * full + ([rest] if rest else [])


def prefix_slots(config: LlamaConfig, segments: int) -> int:
  """Slots for the vectors of `segments` earlier segments."""
  if not config.accumulate_summary:
    return 0
  return bucket(segments, 4) * config.summary_length


def check_compressor(config: LlamaConfig, segment: int = 0) -> None:
  """Raises ValueError unless the checkpoint can compress such a segment."""
  if not config.summary_length:
    raise ValueError(
      'This checkpoint has no summary tokens, so it cannot compress; load an '
      'AutoCompressor, whose config.json has summary_length, or make it one '
      'with apply_compressor (config.model.compressor).'
    )
  needed = segment + config.summary_length
  if needed > config.max_position_embeddings:
    raise ValueError(
      f'A segment of {segment} tokens and {config.summary_length} summary '
      f"tokens exceeds the model's window of {config.max_position_embeddings}; "
      'make segments shorter.'
    )


def compress_ids(
  params: dict,
  config: LlamaConfig,
  ids,
  lengths: list[int],
  adapter: Adapter | None = None,
  earlier=None,
) -> jax.Array:
  """Summary vectors of rows of equal length.

  Args:
    params: the compressor's parameters.
    config: its config.
    ids: [B, T] token ids.
    lengths: of the segments, adding up to T.
    adapter: optional.
    earlier: [B, n, D] vectors of a stored document that the ids continue.

  Returns:
    [B, len(lengths) K, D], or [B, K, D] of the last segment when the
    checkpoint does not accumulate.
  """
  ids = np.asarray(ids, np.int32)
  batch = ids.shape[0]
  dtype = params['norm']['scale'].dtype
  if earlier is None:
    earlier = jnp.zeros((batch, 0, config.hidden_size), dtype)
  known = earlier.shape[1] // config.summary_length
  state = init_state(config, jnp.asarray(earlier, dtype))
  summaries, start = [], 0
  for index, length in enumerate(lengths):
    state = grow_prefix(state, prefix_slots(config, known + index))
    state = compress_step(
      params,
      config,
      ids[:, start : start + length],
      jnp.full((batch,), length, jnp.int32),
      state,
      adapter,
    )
    summaries.append(state.vectors)
    start += length
  if not config.accumulate_summary:
    return summaries[-1]
  return jnp.concatenate(summaries, axis=1)
