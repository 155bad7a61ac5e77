"""Tiny networks with nothing at a default, and how far two arrays differ."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.model import Model
from lloco_jax.nn import llama
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import LoraConfig, init_adapter

CONFIG = LlamaConfig(
  vocab_size=61,
  hidden_size=16,
  intermediate_size=24,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=6,
  max_position_embeddings=64,
  rms_norm_eps=1e-3,
  rope_theta=500.0,
  eos_token_ids=(60,),
  summary_length=3,
)
ALL = ('q_proj', 'k_proj', 'v_proj', 'o_proj')
ALL += ('gate_proj', 'up_proj', 'down_proj')


def relative_error(actual, expected) -> float:
  """The largest difference, relative to the largest expected value."""
  actual, expected = np.asarray(actual), np.asarray(expected)
  assert actual.shape == expected.shape
  assert np.isfinite(actual).all()
  return np.abs(actual - expected).max() / np.abs(expected).max()


def normal(seed: int, *shape) -> jax.Array:
  """Standard normal float32, made by numpy, which compiles nothing."""
  values = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(values.astype(np.float32))


def ids(seed: int, *shape, vocab_size: int = CONFIG.vocab_size - 1):
  """Token ids, none of them the EOS."""
  random = np.random.default_rng(seed)
  return random.integers(0, vocab_size, shape).astype(np.int32)


@functools.cache
def model(config: LlamaConfig = CONFIG) -> Model:
  """Random weights large enough that attention is far from uniform."""
  shapes = jax.eval_shape(lambda: llama.init_params(config, jax.random.key(0)))
  leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
  params = [
    jnp.asarray(
      (path[-1].key == 'scale') + 0.4 * np.asarray(normal(index, *leaf.shape))
    )
    for index, (path, leaf) in enumerate(leaves)
  ]
  params = jax.tree.unflatten(structure, params)
  return Model(config, params, None, 'tiny', '0')


def adapter(
  seed: int = 0,
  rank: int = 2,
  alpha: float = 3.0,
  targets=ALL,
  dropout: float = 0.0,
  config: LlamaConfig = CONFIG,
):
  """An adapter whose A and B are both far from zero."""
  lora = LoraConfig(rank, alpha, dropout, targets)
  shapes = jax.eval_shape(lambda: init_adapter(config, lora, jax.random.key(0)))
  leaves, structure = jax.tree.flatten(shapes)
  leaves = [
    0.3 * normal(1000 * seed + index, *leaf.shape)
    for index, leaf in enumerate(leaves)
  ]
  return jax.tree.unflatten(structure, leaves)
