"""A tiny random model whose tokens are characters, for the tests."""

import jax
import jax.numpy as jnp

from lloco_jax.model import Model
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import init_params
from lloco_jax.nn.lora import LoraConfig, init_adapter

WIDTH = 32


class Characters:
  """A tokenizer with one token a character."""

  eos_id = 0

  def encode(self, text):
    return [ord(character) % 128 for character in text]

  def decode(self, ids):
    return ''.join(chr(token) for token in ids)


def tiny_model(window=512, seed=0, eos=(0,)):
  """Large weights, so that answers depend on all that is read."""
  config = LlamaConfig(
    vocab_size=128,
    hidden_size=WIDTH,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=window,
    eos_token_ids=eos,
  )
  params = init_params(config, jax.random.key(seed))
  params['embed_tokens'] = jax.tree.map(
    lambda leaf: 50 * leaf, params['embed_tokens']
  )
  params['layers'] = jax.tree.map(lambda leaf: 2 * leaf, params['layers'])
  return Model(config, params, Characters(), 'tiny', 'fingerprint')


def tiny_adapter(model, seed=0):
  """An adapter that changes answers: its B is not zero."""
  adapter = init_adapter(
    model.config, LoraConfig(rank=2, dropout=0.0), jax.random.key(seed)
  )

  def fill(path, leaf):
    noise = jax.random.normal(jax.random.key(seed + 1), leaf.shape, jnp.float32)
    return noise if path[-1].key == 'b' else leaf

  weights = jax.tree_util.tree_map_with_path(fill, adapter.weights)
  return adapter.replace(weights=weights)
