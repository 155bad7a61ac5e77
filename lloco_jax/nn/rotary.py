"""Rotary position embeddings.

Axes: B batch, T positions, N heads, H head size.
"""

import jax.numpy as jnp
import numpy as np

from lloco_jax.nn.config import LlamaConfig


def inverse_frequencies(config: LlamaConfig) -> np.ndarray:
  """Rotary frequencies [H / 2], scaled as the config says."""
  exponent = np.arange(0, config.head_dim, 2) / config.head_dim
  frequency = config.rope_theta**-exponent
  scaling = config.rope_scaling
  if scaling is None:
    return frequency
  if scaling.kind == 'linear':
    return frequency / scaling.factor
  wavelength = 2 * np.pi / frequency
  original = scaling.original_max_position_embeddings
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  smooth = np.clip((original / wavelength - low) / (high - low), 0, 1)
  return frequency * (smooth + (1 - smooth) / scaling.factor)


def rotary_tables(config: LlamaConfig, positions, dtype):
  """cos and sin [B, T, 1, H / 2] of the positions' angles."""
  wide = jnp.promote_types(dtype, jnp.float32)
  frequency = jnp.asarray(inverse_frequencies(config), wide)
  angles = positions.astype(wide)[:, :, None, None] * frequency
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x, cos, sin):
  """Rotary embedding of [B, T, N, H], halves paired as in Hugging Face."""
  first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
  rotated = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
