"""Tiny random Llama checkpoints made by transformers, to compare with."""

import functools
import tempfile

import numpy as np
from references import need_torch

import lloco_jax as lloco

# Every value that the network reads differs from its default.
SHAPE = dict(
  vocab_size=61,
  hidden_size=24,
  intermediate_size=28,
  num_hidden_layers=2,
  num_attention_heads=4,
  max_position_embeddings=64,
  bos_token_id=1,
  eos_token_id=2,
  pad_token_id=0,
)
PLAIN = {'rope_type': 'default'}
KINDS = {
  'grouped queries, biases, wide heads': dict(
    num_key_value_heads=2,
    head_dim=10,
    rms_norm_eps=1e-3,
    attention_bias=True,
    mlp_bias=True,
    tie_word_embeddings=False,
    rope_parameters={**PLAIN, 'rope_theta': 500_000.0},
  ),
  'one key-value head, tied, linear scaling': dict(
    num_key_value_heads=1,
    head_dim=6,
    rms_norm_eps=1e-2,
    tie_word_embeddings=True,
    rope_parameters={
      'rope_type': 'linear',
      'factor': 3.0,
      'rope_theta': 100.0,
    },
  ),
  'llama3 scaling, narrow heads': dict(
    num_key_value_heads=4,
    head_dim=4,
    rms_norm_eps=1e-4,
    tie_word_embeddings=False,
    mlp_bias=True,
    # Of the two frequencies one is scaled down and one is in between.
    rope_parameters={
      'rope_type': 'llama3',
      'rope_theta': 30.0,
      'factor': 5.0,
      'low_freq_factor': 1.5,
      'high_freq_factor': 6.0,
      'original_max_position_embeddings': 24,
    },
  ),
}


@functools.cache
def twins(kind: str):
  """The same checkpoint in transformers and here, through its files."""
  torch = need_torch()
  import transformers

  config = transformers.LlamaConfig(**SHAPE, **KINDS[kind])
  torch.manual_seed(len(kind))
  reference = transformers.LlamaForCausalLM(config).eval()
  with torch.no_grad():
    for name, weight in reference.named_parameters():
      weight.normal_(float('norm' in name), 0.4)
  with tempfile.TemporaryDirectory() as folder:
    reference.save_pretrained(folder)
    return reference, lloco.load(folder)


def to_torch(array):
  return need_torch().from_numpy(np.array(array))
