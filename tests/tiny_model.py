"""A tiny model whose tokens are characters, for the tests of answers."""

import dataclasses

import tiny

CONFIG = dataclasses.replace(
  tiny.CONFIG, vocab_size=128, max_position_embeddings=512, eos_token_ids=(0,)
)
WIDTH = CONFIG.hidden_size


class Characters:
  """A tokenizer with one token a character."""

  eos_id = 0

  def encode(self, text):
    return [ord(character) % 128 for character in text]

  def decode(self, ids):
    return ''.join(chr(token) for token in ids)


def tiny_model(window=512):
  config = dataclasses.replace(CONFIG, max_position_embeddings=window)
  return dataclasses.replace(tiny.model(config), tokenizer=Characters())


def tiny_adapter(seed=0):
  return tiny.adapter(seed, config=CONFIG)
