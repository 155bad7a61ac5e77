"""Checkpoint folders: every file format, and what is said of a bad one."""

import dataclasses
import json
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from references import need_torch
import safetensors.numpy

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.weights import huggingface
from lloco_jax.weights.checkpoint import load

CONFIG = LlamaConfig(
  vocab_size=11,
  hidden_size=8,
  intermediate_size=36,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=4,
  max_position_embeddings=32,
)


def tensors_of(config, seed=0):
  """Random tensors of a checkpoint, by their Hugging Face names."""
  random = np.random.default_rng(seed)
  d, f = config.hidden_size, config.intermediate_size
  q = config.num_attention_heads * config.head_dim
  kv = config.num_key_value_heads * config.head_dim
  shapes = {
    'model.embed_tokens.weight': (config.vocab_size, d),
    'model.norm.weight': (d,),
  }
  if config.summary_length:
    shapes['embed_summary.weight'] = (config.summary_length, d)
  if not config.tie_word_embeddings:
    shapes['lm_head.weight'] = (config.vocab_size, d)
  for layer in range(config.num_hidden_layers):
    prefix = f'model.layers.{layer}'
    shapes |= {
      f'{prefix}.input_layernorm.weight': (d,),
      f'{prefix}.post_attention_layernorm.weight': (d,),
      f'{prefix}.self_attn.q_proj.weight': (q, d),
      f'{prefix}.self_attn.k_proj.weight': (kv, d),
      f'{prefix}.self_attn.v_proj.weight': (kv, d),
      f'{prefix}.self_attn.o_proj.weight': (d, q),
      f'{prefix}.mlp.gate_proj.weight': (f, d),
      f'{prefix}.mlp.up_proj.weight': (f, d),
      f'{prefix}.mlp.down_proj.weight': (d, f),
    }
    if config.attention_bias:
      for name, size in {'q': q, 'k': kv, 'v': kv, 'o': d}.items():
        shapes[f'{prefix}.self_attn.{name}_proj.bias'] = (size,)
    if config.mlp_bias:
      for name, size in {'gate': f, 'up': f, 'down': d}.items():
        shapes[f'{prefix}.mlp.{name}_proj.bias'] = (size,)
  return {
    name: random.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def tree_of(tensors, config):
  """The tree that those tensors should become, spelt out."""

  def stack(name, transpose=False):
    layers = [
      tensors[f'model.layers.{layer}.{name}']
      for layer in range(config.num_hidden_layers)
    ]
    return np.stack([x.T if transpose else x for x in layers])

  def linear(name, bias):
    leaf = {'kernel': stack(f'{name}.weight', transpose=True)}
    if bias:
      leaf['bias'] = stack(f'{name}.bias')
    return leaf

  tree = {
    'embed_tokens': {'embedding': tensors['model.embed_tokens.weight']},
    'norm': {'scale': tensors['model.norm.weight']},
    'layers': {
      'input_layernorm': {'scale': stack('input_layernorm.weight')},
      'post_attention_layernorm': {
        'scale': stack('post_attention_layernorm.weight')
      },
      'self_attn': {
        name: linear(f'self_attn.{name}', config.attention_bias)
        for name in ('q_proj', 'k_proj', 'v_proj', 'o_proj')
      },
      'mlp': {
        name: linear(f'mlp.{name}', config.mlp_bias)
        for name in ('gate_proj', 'up_proj', 'down_proj')
      },
    },
  }
  if config.summary_length:
    tree['embed_summary'] = {'embedding': tensors['embed_summary.weight']}
  if not config.tie_word_embeddings:
    tree['lm_head'] = {'kernel': tensors['lm_head.weight'].T}
  return tree


def flat(tree, prefix=()):
  """Leaves by their path."""
  if not isinstance(tree, dict):
    return {prefix: tree}
  return {
    path: leaf
    for key, value in tree.items()
    for path, leaf in flat(value, (*prefix, key)).items()
  }


def assert_same(params, expected, dtype='float32'):
  params, expected = flat(params), flat(expected)
  assert params.keys() == expected.keys()
  for path, leaf in expected.items():
    assert params[path].dtype == np.dtype(dtype), path
    np.testing.assert_array_equal(
      params[path], leaf.astype(params[path].dtype), str(path)
    )


def write(folder, tensors, name='model.safetensors'):
  safetensors.numpy.save_file(tensors, folder / name)


def write_shards(folder, tensors, save=None, suffix='safetensors', stem=None):
  """Two shards and their index."""
  stem = stem or 'model'
  names = sorted(tensors)
  weight_map = {}
  for number, chosen in enumerate((names[::2], names[1::2]), 1):
    file = f'{stem}-{number:05}-of-00002.{suffix}'
    part = {name: tensors[name] for name in chosen}
    (save or safetensors.numpy.save_file)(part, folder / file)
    weight_map |= dict.fromkeys(chosen, file)
  index = folder / f'{stem}.{suffix}.index.json'
  index.write_text(json.dumps({'weight_map': weight_map}))
  return index


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'tie_word_embeddings': True},
    {'summary_length': 3},
    {'attention_bias': True, 'mlp_bias': True},
  ],
)
def test_one_file(tmp_path, changes):
  config = dataclasses.replace(CONFIG, **changes)
  tensors = tensors_of(config)
  write(tmp_path, tensors)
  params = huggingface.load_params(tmp_path, config)
  assert_same(params, tree_of(tensors, config))


def test_shards(tmp_path):
  tensors = tensors_of(CONFIG)
  write_shards(tmp_path, tensors)
  params = huggingface.load_params(tmp_path, CONFIG)
  assert_same(params, tree_of(tensors, CONFIG))


@pytest.mark.parametrize('stored', ['bfloat16', 'float16', 'float32'])
@pytest.mark.parametrize('asked', ['bfloat16', 'float16', 'float32', 'float64'])
def test_dtypes(tmp_path, stored, asked):
  kinds = {'bfloat16': ml_dtypes.bfloat16}
  tensors = {
    name: value.astype(kinds.get(stored, stored))
    for name, value in tensors_of(CONFIG).items()
  }
  write(tmp_path, tensors)
  with jax.enable_x64(asked == 'float64'):
    params = huggingface.load_params(tmp_path, CONFIG, asked)
  assert_same(params, tree_of(tensors, CONFIG), kinds.get(asked, asked))


@pytest.mark.parametrize('stored', ['bfloat16', 'float16', 'float32'])
@pytest.mark.parametrize('sharded', [False, True])
@pytest.mark.parametrize('zipped', [False, True])
def test_torch_files(tmp_path, stored, sharded, zipped):
  torch = need_torch()
  tensors = {
    name: torch.from_numpy(value).to(getattr(torch, stored))
    for name, value in tensors_of(CONFIG).items()
  }

  def save(part, path):
    torch.save(part, path, _use_new_zipfile_serialization=zipped)

  if sharded:
    write_shards(tmp_path, tensors, save, 'bin', 'pytorch_model')
  else:
    save(tensors, tmp_path / 'pytorch_model.bin')
  params = huggingface.load_params(tmp_path, CONFIG, 'float32')
  plain = {name: value.float().numpy() for name, value in tensors.items()}
  assert_same(params, tree_of(plain, CONFIG))


def test_torch_parameters_and_dtypes(tmp_path):
  torch = need_torch()
  tensors = {
    name: torch.nn.Parameter(torch.from_numpy(value))
    for name, value in tensors_of(CONFIG).items()
  }
  path = tmp_path / 'pytorch_model.bin'
  torch.save(tensors, path)
  params = huggingface.load_params(tmp_path, CONFIG)
  assert_same(params, tree_of(tensors_of(CONFIG), CONFIG))
  small = {
    name: value.detach().to(torch.float8_e4m3fn)
    for name, value in tensors.items()
  }
  torch.save(small, path)
  with pytest.raises(ValueError, match='bin: .* stored as torch.float8'):
    huggingface.load_params(tmp_path, CONFIG)


def test_torch_files_keep_bfloat16(tmp_path):
  torch = need_torch()
  tensors = tensors_of(CONFIG)
  torch.save(
    {name: torch.from_numpy(x).bfloat16() for name, x in tensors.items()},
    tmp_path / 'pytorch_model.bin',
  )
  params = huggingface.load_params(tmp_path, CONFIG, 'bfloat16')
  rounded = {
    name: value.astype(ml_dtypes.bfloat16) for name, value in tensors.items()
  }
  assert_same(params, tree_of(rounded, CONFIG), ml_dtypes.bfloat16)


def test_torch_file_that_runs_code_is_refused(tmp_path):
  torch = need_torch()
  torch.save({'model.norm.weight': print}, tmp_path / 'pytorch_model.bin')
  with pytest.raises(ValueError, match='holds more than tensors'):
    huggingface.load_params(tmp_path, CONFIG)


def test_torch_training_state_is_refused(tmp_path):
  torch = need_torch()
  torch.save({'step': 3, 'model': {}}, tmp_path / 'pytorch_model.bin')
  with pytest.raises(ValueError, match='save the state_dict'):
    huggingface.load_params(tmp_path, CONFIG)


def test_truncated_torch_file(tmp_path):
  torch = need_torch()
  path = tmp_path / 'pytorch_model.bin'
  torch.save({'model.norm.weight': torch.zeros(1000)}, path)
  path.write_bytes(path.read_bytes()[:2000])
  with pytest.raises(ValueError, match=r'pytorch_model.bin is truncated'):
    huggingface.load_params(tmp_path, CONFIG)


def test_torch_file_without_torch(tmp_path, monkeypatch):
  (tmp_path / 'pytorch_model.bin').write_bytes(b'')
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ImportError, match=r'pip install lloco_jax\[torch\]'):
    huggingface.load_params(tmp_path, CONFIG)


def test_safetensors_go_before_torch(tmp_path):
  tensors = tensors_of(CONFIG)
  write_shards(tmp_path, tensors)
  (tmp_path / 'pytorch_model.bin').write_bytes(b'not read')
  params = huggingface.load_params(tmp_path, CONFIG)
  assert_same(params, tree_of(tensors, CONFIG))


def test_names_without_prefix(tmp_path):
  tensors = tensors_of(CONFIG)
  write(tmp_path, {k.removeprefix('model.'): v for k, v in tensors.items()})
  params = huggingface.load_params(tmp_path, CONFIG)
  assert_same(params, tree_of(tensors, CONFIG))


def test_golden_checkpoint(golden):
  folder = golden / 'accumulate'
  config = LlamaConfig.from_file(folder / 'config.json')
  params = huggingface.load_params(folder, config)
  tensors = safetensors.numpy.load_file(folder / 'model.safetensors')
  assert_same(params, tree_of(tensors, config))
  assert params['embed_summary']['embedding'].shape == (5, 64)


def test_implied_tensors_are_passed_over(tmp_path):
  config = dataclasses.replace(CONFIG, tie_word_embeddings=True)
  tensors = tensors_of(config)
  extra = {
    'lm_head.weight': tensors['model.embed_tokens.weight'],
    'model.layers.0.self_attn.rotary_emb.inv_freq': np.ones(3, np.float32),
  }
  write(tmp_path, tensors | extra)
  params = huggingface.load_params(tmp_path, config)
  assert_same(params, tree_of(tensors, config))


@pytest.mark.parametrize('rows', [11, 10])
def test_a_head_that_is_not_the_tied_embedding_is_refused(tmp_path, rows):
  config = dataclasses.replace(CONFIG, tie_word_embeddings=True)
  tensors = tensors_of(config)
  head = tensors['model.embed_tokens.weight'][:rows].copy()
  head[-1, -1] += 1
  write(tmp_path, tensors | {'lm_head.weight': head})
  with pytest.raises(ValueError, match='lm_head.weight other than the embed'):
    huggingface.load_params(tmp_path, config)


@pytest.mark.parametrize(
  'name, shape, reason',
  [
    ('model.layers.0.self_attn.q_proj.bias', (16,), 'attention_bias'),
    ('embed_summary.weight', (3, 8), 'summary_length is 0'),
    ('model.layers.2.input_layernorm.weight', (8,), 'does not have'),
    ('score.weight', (2, 8), 'does not have'),
  ],
)
def test_unknown_tensor_is_refused(tmp_path, name, shape, reason):
  write(tmp_path, tensors_of(CONFIG) | {name: np.zeros(shape, np.float32)})
  with pytest.raises(ValueError, match=f'holds {name}.*{reason}'):
    huggingface.load_params(tmp_path, CONFIG)


@pytest.mark.parametrize(
  'name', ['lm_head.weight', 'model.layers.1.mlp.up_proj.weight']
)
def test_missing_tensor(tmp_path, name):
  tensors = tensors_of(CONFIG)
  del tensors[name]
  write(tmp_path, tensors)
  with pytest.raises(ValueError, match=f'lacks {name}; '):
    huggingface.load_params(tmp_path, CONFIG)


def test_missing_summary_embedding(tmp_path):
  write(tmp_path, tensors_of(CONFIG))
  config = dataclasses.replace(CONFIG, summary_length=4)
  with pytest.raises(ValueError, match='lacks embed_summary.weight'):
    huggingface.load_params(tmp_path, config)


def test_wrong_shape(tmp_path):
  write(tmp_path, tensors_of(dataclasses.replace(CONFIG, vocab_size=13)))
  with pytest.raises(
    ValueError, match=r'embed_tokens.weight has shape \(13, 8\).*\(11, 8\)'
  ):
    huggingface.load_params(tmp_path, CONFIG)


def test_shapes_are_checked_before_weights_are_read(tmp_path, monkeypatch):
  write(tmp_path, tensors_of(dataclasses.replace(CONFIG, vocab_size=13)))
  monkeypatch.setattr(
    huggingface.streaming, 'load_leaves', lambda *_: pytest.fail('too late')
  )
  with pytest.raises(ValueError, match='has shape'):
    huggingface.load_params(tmp_path, CONFIG)


@pytest.mark.parametrize('kept', [0, 5, 200, -1])
def test_truncated_file(tmp_path, kept):
  write(tmp_path, tensors_of(CONFIG))
  path = tmp_path / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:kept])
  with pytest.raises(ValueError, match=r'model.safetensors is truncated'):
    huggingface.load_params(tmp_path, CONFIG)


def test_missing_shard(tmp_path):
  write_shards(tmp_path, tensors_of(CONFIG))
  (tmp_path / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(
    FileNotFoundError, match='00002-of-00002.safetensors is missing'
  ):
    huggingface.load_params(tmp_path, CONFIG)


@pytest.mark.parametrize('text', ['{', '[]', '{}', '{"weight_map": 3}'])
def test_damaged_index(tmp_path, text):
  write_shards(tmp_path, tensors_of(CONFIG)).write_text(text)
  with pytest.raises(ValueError, match='is not an index'):
    huggingface.load_params(tmp_path, CONFIG)


def test_tensor_in_two_shards(tmp_path):
  tensors = tensors_of(CONFIG)
  write_shards(tmp_path, tensors)
  write(tmp_path, tensors, 'model-00002-of-00002.safetensors')
  with pytest.raises(ValueError, match='a second time'):
    huggingface.load_params(tmp_path, CONFIG)


def test_quantised_tensor_is_refused(tmp_path):
  tensors = tensors_of(CONFIG)
  tensors['model.norm.weight'] = np.ones(8, np.int8)
  write(tmp_path, tensors)
  with pytest.raises(ValueError, match='norm.weight is stored as I8'):
    huggingface.load_params(tmp_path, CONFIG)


def test_folder_without_weights(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no weights'):
    huggingface.load_params(tmp_path, CONFIG)


def test_an_adapter_is_no_base(tmp_path):
  huggingface.refuse_adapter(tmp_path)
  for name in ('adapter_config.json', 'config.json'):
    (tmp_path / name).write_text('{}')
    with pytest.raises(FileNotFoundError, match='is a PEFT adapter'):
      load(tmp_path)
  # A base that lies beside it can be read.
  (tmp_path / 'model.safetensors').touch()
  huggingface.refuse_adapter(tmp_path)


def test_unknown_dtype(tmp_path):
  with pytest.raises(ValueError, match="dtype is 'int8'; choose from float32"):
    huggingface.load_params(tmp_path, CONFIG, 'int8')


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('shard_bytes', [10**9, 500])
def test_save_and_load(tmp_path, dtype, shard_bytes):
  config = dataclasses.replace(
    CONFIG, summary_length=3, attention_bias=True, eos_token_ids=(2,)
  )
  write(tmp_path, tensors_of(config))
  params = huggingface.load_params(tmp_path, config, dtype)
  folder = tmp_path / 'saved'
  huggingface.save_params(folder, params, config, shard_bytes)
  assert LlamaConfig.from_file(folder / 'config.json') == config
  files = huggingface.weight_files(folder)
  assert (len(files) > 1) == (shard_bytes == 500)
  assert sorted(folder.glob('*.safetensors')) == sorted(files)
  again = huggingface.load_params(folder, config, dtype)
  assert_same(again, params, flat(params)['norm', 'scale'].dtype)


def test_equal_tensors_and_metadata_give_equal_bytes(tmp_path):
  path, written = tmp_path / 'some.safetensors', set()
  tensors = {'é': np.arange(3.0, dtype=np.float32), 'b': np.ones((2, 2))}
  for _ in range(20):
    huggingface.write_safetensors(path, tensors, trained_on='é"', author='b')
    written.add(path.read_bytes())
  assert len(written) == 1
  assert huggingface.read_metadata(path) == {
    'author': 'b',
    'format': 'pt',
    'trained_on': 'é"',
  }
  for key, tensor in safetensors.numpy.load_file(path).items():
    np.testing.assert_array_equal(tensor, tensors[key])


@pytest.mark.parametrize('first, second', [(10**9, 500), (500, 10**9)])
def test_save_over_an_earlier_save(tmp_path, first, second):
  old, new = (tree_of(tensors_of(CONFIG, seed), CONFIG) for seed in (0, 1))
  huggingface.save_params(tmp_path, old, CONFIG, first)
  huggingface.save_params(tmp_path, new, CONFIG, second)
  assert_same(huggingface.load_params(tmp_path, CONFIG), new)


def test_a_save_that_was_stopped_is_no_mixture(tmp_path, monkeypatch):
  old, new = (tree_of(tensors_of(CONFIG, seed), CONFIG) for seed in (0, 1))
  huggingface.save_params(tmp_path, old, CONFIG, 500)
  write, written = huggingface.write_safetensors, []

  def stopped(path, tensors):
    if written:
      raise KeyboardInterrupt
    written.append(path)
    write(path, tensors)

  monkeypatch.setattr(huggingface, 'write_safetensors', stopped)
  with pytest.raises(KeyboardInterrupt):
    huggingface.save_params(tmp_path, new, CONFIG, 500)
  with pytest.raises(FileNotFoundError, match='config.json is missing'):
    load(tmp_path)


@pytest.mark.parametrize('shard_bytes', [10**9, 500])
def test_saved_folder_loads_in_transformers(tmp_path, shard_bytes):
  torch = need_torch()
  import transformers

  tensors = tensors_of(CONFIG)
  params = tree_of(tensors, CONFIG)
  huggingface.save_params(tmp_path, params, CONFIG, shard_bytes)
  model = transformers.LlamaForCausalLM.from_pretrained(
    tmp_path, dtype=torch.float32
  )
  state = model.state_dict()
  assert state.keys() == tensors.keys()
  for name, value in tensors.items():
    np.testing.assert_array_equal(state[name].numpy(), value, name)


def test_folder_saved_by_transformers_loads(tmp_path):
  torch = need_torch()
  import transformers

  torch.manual_seed(0)
  model = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=11,
      hidden_size=8,
      intermediate_size=12,
      num_hidden_layers=2,
      num_attention_heads=4,
      num_key_value_heads=2,
      attention_bias=True,
    )
  )
  model.save_pretrained(tmp_path, max_shard_size='2KB')
  config = LlamaConfig.from_file(tmp_path / 'config.json')
  assert len(huggingface.weight_files(tmp_path)) > 1
  params = huggingface.load_params(tmp_path, config)
  tensors = {name: value.numpy() for name, value in model.state_dict().items()}
  assert_same(params, tree_of(tensors, config))
