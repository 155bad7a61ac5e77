"""The shape of a checkpoint's network, without its weights."""

import dataclasses

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.weights import gguf, sources

# As in the config.json of each, so that nothing has to be fetched.
_LLAMA2_7B = LlamaConfig(
  vocab_size=32_000,
  hidden_size=4096,
  intermediate_size=11_008,
  num_hidden_layers=32,
  num_attention_heads=32,
  num_key_value_heads=32,
  head_dim=128,
  max_position_embeddings=4096,
  rms_norm_eps=1e-5,
  bos_token_id=1,
  eos_token_ids=(2,),
)
_PUBLISHED = {
  'meta-llama/Llama-2-7b-hf': _LLAMA2_7B,
  'princeton-nlp/AutoCompressor-Llama-2-7b-6k': dataclasses.replace(
    _LLAMA2_7B, summary_length=50
  ),
}


def read_config(name) -> LlamaConfig:
  """The config of a checkpoint; weights are fetched only if they carry it.

  Raises:
    FileNotFoundError, OSError, ValueError: as `sources.resolve`.
  """
  if name in _PUBLISHED:
    return _PUBLISHED[name]
  path = sources.resolve(name, weights=False)
  if path.is_dir():
    return LlamaConfig.from_file(path / 'config.json')
  return gguf.read_config(gguf.open_gguf(path))
