"""GGUF files: tiny ones written by the tests, and the embedded default."""

import gguf as library
import numpy as np
import pytest
from references import need_torch

from lloco_jax.nn.config import LlamaConfig, RopeScaling
from lloco_jax.weights import gguf, sources

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
CONFIG = LlamaConfig(
  vocab_size=10,
  hidden_size=32,
  intermediate_size=64,
  num_hidden_layers=2,
  num_attention_heads=HEADS,
  num_key_value_heads=KV_HEADS,
  head_dim=HEAD_DIM,
  max_position_embeddings=48,
  rms_norm_eps=3e-5,
  rope_theta=50_000.0,
  bos_token_id=1,
  eos_token_ids=(2, 5),
  pad_token_id=3,
)
FIELDS = {
  'llama.block_count': 2,
  'llama.embedding_length': 32,
  'llama.feed_forward_length': 64,
  'llama.context_length': 48,
  'llama.attention.head_count': HEADS,
  'llama.attention.head_count_kv': KV_HEADS,
  'llama.attention.layer_norm_rms_epsilon': 3e-5,
  'llama.rope.dimension_count': HEAD_DIM,
  'llama.rope.freq_base': 50_000.0,
  'tokenizer.ggml.bos_token_id': 1,
  'tokenizer.ggml.eos_token_id': 2,
  'tokenizer.ggml.eot_token_id': 5,
  'tokenizer.ggml.padding_token_id': 3,
}
SHAPES = {
  'attn_norm.weight': (32,),
  'ffn_norm.weight': (32,),
  'attn_q.weight': (32, 32),
  'attn_k.weight': (16, 32),
  'attn_v.weight': (16, 32),
  'attn_output.weight': (32, 32),
  'ffn_gate.weight': (64, 32),
  'ffn_up.weight': (64, 32),
  'ffn_down.weight': (32, 64),
}


def tensors_of(tied=False, biased=False):
  """Random tensors by their GGUF names, q and k as Hugging Face has them."""
  random = np.random.default_rng(0)
  shapes = {'token_embd.weight': (10, 32), 'output_norm.weight': (32,)}
  if not tied:
    shapes['output.weight'] = (10, 32)
  for layer in range(2):
    for name, shape in SHAPES.items():
      shapes[f'blk.{layer}.{name}'] = shape
      if biased and len(shape) == 2:
        shapes[f'blk.{layer}.{name}'.replace('weight', 'bias')] = shape[:1]
  return {
    name: random.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def interleaved(rows, heads):
  """The rows in llama.cpp's order: the halves of a head, in turn."""
  result = np.empty_like(rows)
  half = HEAD_DIM // 2
  for head in range(heads):
    for pair in range(half):
      for side in (0, 1):
        result[head * HEAD_DIM + 2 * pair + side] = rows[
          head * HEAD_DIM + side * half + pair
        ]
  return result


def write(path, tensors, fields=FIELDS, architecture='llama', kind=None):
  """A GGUF file, with the matrices quantised to `kind` where given."""
  writer = library.GGUFWriter(path, architecture)
  for name, value in fields.items():
    if isinstance(value, str):
      writer.add_string(name, value)
    elif isinstance(value, list):
      writer.add_array(name, value)
    elif isinstance(value, float):
      writer.add_float32(name, value)
    else:
      writer.add_uint32(name, value)
  for name, value in tensors.items():
    if 'attn_q' in name:
      value = interleaved(value, HEADS)
    if 'attn_k' in name:
      value = interleaved(value, KV_HEADS)
    if kind is not None and value.ndim == 2:
      value = library.quants.quantize(value, kind)
      writer.add_tensor(name, value, raw_dtype=kind)
    else:
      writer.add_tensor(name, value)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def stacked(tensors, name):
  return np.stack([tensors[f'blk.{layer}.{name}'] for layer in range(2)])


PLACES = {
  ('self_attn', 'q_proj'): 'attn_q',
  ('self_attn', 'k_proj'): 'attn_k',
  ('self_attn', 'v_proj'): 'attn_v',
  ('self_attn', 'o_proj'): 'attn_output',
  ('mlp', 'gate_proj'): 'ffn_gate',
  ('mlp', 'up_proj'): 'ffn_up',
  ('mlp', 'down_proj'): 'ffn_down',
}


def assert_params(params, tensors, equal=np.testing.assert_array_equal):
  equal(params['embed_tokens']['embedding'], tensors['token_embd.weight'])
  equal(params['norm']['scale'], tensors['output_norm.weight'])
  assert ('lm_head' in params) == ('output.weight' in tensors)
  if 'lm_head' in params:
    equal(params['lm_head']['kernel'], tensors['output.weight'].T)
  layers = params['layers']
  equal(
    layers['input_layernorm']['scale'], stacked(tensors, 'attn_norm.weight')
  )
  equal(
    layers['post_attention_layernorm']['scale'],
    stacked(tensors, 'ffn_norm.weight'),
  )
  for (block, projection), name in PLACES.items():
    leaf = layers[block][projection]
    kernel = stacked(tensors, f'{name}.weight').swapaxes(1, 2)
    equal(leaf['kernel'], kernel)
    assert ('bias' in leaf) == (f'blk.0.{name}.bias' in tensors)
    if 'bias' in leaf:
      equal(leaf['bias'], stacked(tensors, f'{name}.bias'))


@pytest.mark.parametrize('tied', [False, True])
def test_config_and_params(tmp_path, tied):
  tensors = tensors_of(tied)
  config, params = gguf.load_gguf(write(tmp_path / 'a.gguf', tensors))
  assert config.tie_word_embeddings == tied
  expected = LlamaConfig(**{**vars(CONFIG), 'tie_word_embeddings': tied})
  assert config == expected
  assert_params(params, tensors)


def test_biases(tmp_path):
  tensors = tensors_of(biased=True)
  config, params = gguf.load_gguf(write(tmp_path / 'a.gguf', tensors))
  assert config.attention_bias and config.mlp_bias
  assert_params(params, tensors)


@pytest.mark.parametrize(
  'kind, error',
  [('F16', 1e-3), ('Q8_0', 0.02), ('Q4_1', 0.3), ('BF16', 0.02)],
)
def test_quantised_tensors(tmp_path, kind, error):
  tensors = tensors_of()
  kind = library.GGMLQuantizationType[kind]
  path = write(tmp_path / 'a.gguf', tensors, kind=kind)
  _, params = gguf.load_gguf(path)
  assert_params(
    params, tensors, lambda *pair: np.testing.assert_allclose(*pair, atol=error)
  )


def test_dtype(tmp_path):
  path = write(tmp_path / 'a.gguf', tensors_of())
  _, params = gguf.load_gguf(path, 'bfloat16')
  assert params['norm']['scale'].dtype.name == 'bfloat16'
  with pytest.raises(ValueError, match="dtype is 'int4'"):
    gguf.load_gguf(path, 'int4')


def config_with(tmp_path, *dropped, tensors=None, **changes):
  fields = {
    name: value
    for name, value in (FIELDS | changes).items()
    if name not in dropped
  }
  path = write(tmp_path / 'a.gguf', tensors or tensors_of(), fields)
  return gguf.load_gguf(path)[0]


def test_defaults_of_absent_fields(tmp_path):
  config = config_with(
    tmp_path,
    'llama.rope.freq_base',
    'llama.rope.dimension_count',
    'tokenizer.ggml.eot_token_id',
    'tokenizer.ggml.padding_token_id',
  )
  assert config.rope_theta == 10_000.0
  assert config.head_dim == 8
  assert config.eos_token_ids == (2,)
  assert config.pad_token_id is None


@pytest.mark.parametrize(
  'changes',
  [
    {'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': 4.0},
    {'llama.rope.scale_linear': 4.0},
  ],
)
def test_linear_scaling(tmp_path, changes):
  config = config_with(tmp_path, **changes)
  assert config.rope_scaling == RopeScaling('linear', 4.0)


def llama3_factors(factor):
  """The factors llama.cpp writes for Llama 3.1 (8) and 3.2 (32)."""
  factors = []
  for index in range(0, HEAD_DIM, 2):
    wavelength = 2 * np.pi * 50_000.0 ** (index / HEAD_DIM)
    if wavelength < 8192 / 4:
      factors.append(1)
    elif wavelength > 8192:
      factors.append(factor)
    else:
      smooth = (8192 / wavelength - 1) / (4 - 1)
      factors.append(1 / ((1 - smooth) / factor + smooth))
  return np.array(factors, np.float32)


@pytest.mark.parametrize('factor', [8.0, 32.0])
def test_llama3_scaling(tmp_path, factor):
  tensors = tensors_of() | {'rope_freqs.weight': llama3_factors(factor)}
  config = config_with(tmp_path, tensors=tensors)
  assert config.rope_scaling == RopeScaling('llama3', factor)


def test_two_scalings_are_refused(tmp_path):
  tensors = tensors_of() | {'rope_freqs.weight': llama3_factors(8.0)}
  with pytest.raises(ValueError, match='by 2.0 and by a tensor of factors'):
    config_with(tmp_path, tensors=tensors, **{'llama.rope.scale_linear': 2.0})


def test_other_factors_are_refused(tmp_path):
  factors = llama3_factors(8.0)
  factors[-2] *= 1.5
  tensors = tensors_of() | {'rope_freqs.weight': factors}
  with pytest.raises(ValueError, match='not the scaling of Llama 3.1 or 3.2'):
    config_with(tmp_path, tensors=tensors)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'llama.rope.scaling.type': 'yarn'}, "rope scaling 'yarn'"),
    ({'llama.expert_count': 8}, 'mixture of experts'),
    ({'llama.rope.dimension_count': 4}, 'dimension_count is 4, but the heads'),
    ({'llama.attention.sliding_window': 4096}, 'sliding_window is 4096'),
    ({'llama.attention.head_count_kv': [2, 4]}, 'differs by layer'),
    ({'llama.feed_forward_length': 32}, r'ffn_gate.weight has shape \(64, 32'),
    ({'llama.block_count': 1}, 'holds blk.1.*does not have'),
    ({'llama.block_count': 3}, 'lacks blk.2'),
    ({'split.count': 2}, 'one of 2 parts.*--merge'),
  ],
)
def test_refused_fields(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    config_with(tmp_path, **changes)


def test_other_architecture(tmp_path):
  path = write(tmp_path / 'a.gguf', tensors_of(), architecture='gemma')
  with pytest.raises(ValueError, match="'gemma'; only 'llama'"):
    gguf.load_gguf(path)


def test_missing_field(tmp_path):
  with pytest.raises(ValueError, match='lacks the field llama.context_length'):
    config_with(tmp_path, 'llama.context_length')


def test_types_that_cannot_be_dequantised_are_refused(tmp_path):
  tensors = tensors_of()
  tensors['blk.0.ffn_up.weight'] = tensors['blk.0.ffn_up.weight'].astype('f8')
  path = write(tmp_path / 'a.gguf', tensors)
  with pytest.raises(ValueError, match='ffn_up.weight is of the type F64'):
    gguf.load_gguf(path)


def test_missing_tensor(tmp_path):
  tensors = tensors_of()
  del tensors['blk.1.attn_q.weight']
  with pytest.raises(ValueError, match='lacks blk.1.attn_q.weight'):
    config_with(tmp_path, tensors=tensors)


@pytest.mark.parametrize('kept', [4, 20, 300, 700, 1500, 5000, -1])
def test_truncated_file(tmp_path, kept):
  path = write(tmp_path / 'a.gguf', tensors_of())
  path.write_bytes(path.read_bytes()[:kept])
  with pytest.raises(ValueError, match='a.gguf is a truncated or damaged GGUF'):
    gguf.load_gguf(path)


@pytest.mark.parametrize('content', [b'', b'GG', b'PK\x03\x04 something else'])
def test_other_file(tmp_path, content):
  path = tmp_path / 'a.gguf'
  path.write_bytes(content)
  with pytest.raises(ValueError, match='is not a GGUF file'):
    gguf.load_gguf(path)


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match='b.gguf is missing'):
    gguf.load_gguf(tmp_path / 'b.gguf')


@pytest.mark.slow
def test_embedded_default_equals_transformers():
  torch = need_torch()
  import transformers

  path = sources.resolve(sources.EMBEDDED_DEFAULT)
  config, params = gguf.load_gguf(path)
  model = transformers.LlamaForCausalLM.from_pretrained(
    path.parent, gguf_file=path.name, dtype=torch.float32
  )
  theirs = model.config
  assert config.num_hidden_layers == theirs.num_hidden_layers == 30
  assert config.num_attention_heads == theirs.num_attention_heads
  assert config.num_key_value_heads == theirs.num_key_value_heads
  assert config.rope_theta == theirs.rope_parameters['rope_theta']
  assert np.float32(config.rms_norm_eps) == np.float32(theirs.rms_norm_eps)
  assert config.max_position_embeddings == theirs.max_position_embeddings
  assert config.tie_word_embeddings and theirs.tie_word_embeddings
  state = model.state_dict()
  layers = params['layers']
  for layer in range(30):
    for (block, projection), _ in PLACES.items():
      name = f'model.layers.{layer}.{block}.{projection}.weight'
      kernel = layers[block][projection]['kernel'][layer]
      np.testing.assert_array_equal(kernel.T, state[name].numpy(), name)
    for norm in ('input_layernorm', 'post_attention_layernorm'):
      name = f'model.layers.{layer}.{norm}.weight'
      scale = layers[norm]['scale'][layer]
      np.testing.assert_array_equal(scale, state[name].numpy(), name)
  np.testing.assert_array_equal(
    params['embed_tokens']['embedding'],
    state['model.embed_tokens.weight'].numpy(),
  )
  np.testing.assert_array_equal(
    params['norm']['scale'], state['model.norm.weight'].numpy()
  )
