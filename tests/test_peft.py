"""PEFT adapter folders: read, written, and refused in a sentence."""

import dataclasses
import json
import shutil
import sys
import warnings

import jax
import ml_dtypes
import numpy as np
import pytest
from references import need_torch
import safetensors.numpy

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import (
  Adapter,
  LoraConfig,
  init_adapter,
  merge_adapter,
  stack_adapters,
)
from lloco_jax.weights import huggingface, peft

CONFIG = LlamaConfig(
  vocab_size=17,
  hidden_size=8,
  intermediate_size=12,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=2,
  max_position_embeddings=32,
)
ALL = ('q_proj', 'k_proj', 'v_proj', 'o_proj')
ALL += ('gate_proj', 'up_proj', 'down_proj')


def random_adapter(config=CONFIG, targets=ALL, rank=3, alpha=5.0, dropout=0.25):
  """An adapter with no zero matrices."""
  adapter = init_adapter(
    config, LoraConfig(rank, alpha, dropout, targets), jax.random.key(0)
  )
  random = np.random.default_rng(1)
  weights = jax.tree.map(
    lambda x: random.normal(size=x.shape).astype(np.float32), adapter.weights
  )
  return adapter.replace(weights=weights)


def assert_same(one, other):
  assert (one.rank, one.alpha, one.dropout) == (
    other.rank,
    other.alpha,
    other.dropout,
  )
  assert jax.tree.structure(one.weights) == jax.tree.structure(other.weights)
  jax.tree.map(np.testing.assert_array_equal, one.weights, other.weights)


@pytest.fixture
def folder(tmp_path):
  """A good adapter folder, to be spoilt."""
  peft.save_adapter(tmp_path / 'adapter', random_adapter(), 'owner/base')
  return tmp_path / 'adapter'


def change_fields(folder, **changes):
  path = folder / 'adapter_config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder, change):
  path = folder / 'adapter_model.safetensors'
  tensors = safetensors.numpy.load_file(path)
  safetensors.numpy.save_file(change(tensors), path)


KEY = 'base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight'


@pytest.mark.parametrize('name', ['accumulate', 'no_accumulate'])
def test_golden_adapter(golden, name):
  config = LlamaConfig.from_file(golden / name / 'config.json')
  adapter = peft.load_adapter(golden / name / 'adapter', config)
  fields = json.loads(
    (golden / name / 'adapter/adapter_config.json').read_text()
  )
  tensors = safetensors.numpy.load_file(
    golden / name / 'adapter/adapter_model.safetensors'
  )
  assert adapter.rank == fields['r']
  assert adapter.alpha == fields['lora_alpha']
  assert sorted(adapter.targets) == sorted(fields['target_modules'])
  count = 0
  for projection, pair in adapter.weights['layers']['self_attn'].items():
    for layer in range(config.num_hidden_layers):
      for side in 'ab':
        key = KEY.format(layer, side.upper()).replace('q_proj', projection)
        np.testing.assert_array_equal(pair[side][layer], tensors[key].T)
        count += 1
  assert count == len(tensors)


@pytest.mark.parametrize('targets', [ALL, ('q_proj',), ('down_proj', 'k_proj')])
def test_round_trip(tmp_path, targets):
  adapter = random_adapter(targets=targets)
  peft.save_adapter(tmp_path, adapter, 'base')
  assert_same(peft.load_adapter(tmp_path, CONFIG), adapter)


def test_gradients_are_saved_like_an_adapter(tmp_path):
  adapter = random_adapter()
  gradients = jax.grad(
    lambda adapter: sum((x**3).sum() for x in jax.tree.leaves(adapter))
  )(adapter)
  assert isinstance(gradients, Adapter)
  peft.save_adapter(tmp_path, gradients, 'base')
  assert_same(peft.load_adapter(tmp_path, CONFIG), gradients)


def test_peft_computes_the_same(tmp_path):
  torch = need_torch()
  import peft as library
  import transformers

  torch.manual_seed(0)
  base = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=17,
      hidden_size=8,
      intermediate_size=12,
      num_hidden_layers=2,
      num_attention_heads=4,
      num_key_value_heads=2,
      initializer_range=0.5,
    )
  )
  base.save_pretrained(tmp_path / 'base')
  adapter = random_adapter()
  params = huggingface.load_params(tmp_path / 'base', CONFIG)
  huggingface.save_params(
    tmp_path / 'merged', merge_adapter(params, adapter), CONFIG
  )
  merged = transformers.LlamaForCausalLM.from_pretrained(tmp_path / 'merged')
  peft.save_adapter(tmp_path / 'adapter', adapter, str(tmp_path / 'base'))
  adapted = library.PeftModel.from_pretrained(base, tmp_path / 'adapter')
  ids = torch.arange(12).reshape(2, 6)
  with torch.no_grad():
    expected = adapted.eval()(ids).logits.numpy()
    found = merged.eval()(ids).logits.numpy()
  np.testing.assert_allclose(
    found, expected, atol=2e-5 * np.abs(expected).max()
  )


@pytest.mark.parametrize('use_rslora', [False, True])
def test_adapter_saved_by_peft(tmp_path, use_rslora):
  torch = need_torch()
  import peft as library
  import transformers

  torch.manual_seed(0)
  base = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=17,
      hidden_size=8,
      intermediate_size=12,
      num_hidden_layers=2,
      num_attention_heads=4,
      num_key_value_heads=2,
    )
  )
  adapted = library.get_peft_model(
    base,
    library.LoraConfig(
      r=4,
      lora_alpha=6,
      use_rslora=use_rslora,
      target_modules='all-linear',
      init_lora_weights=False,
      task_type='CAUSAL_LM',
    ),
  )
  adapted.save_pretrained(tmp_path)
  adapter = peft.load_adapter(tmp_path, CONFIG)
  assert adapter.scale == pytest.approx(6 / 2 if use_rslora else 6 / 4)
  for layer in range(2):
    module = adapted.base_model.model.model.layers[layer].mlp.down_proj
    pair = adapter.weights['layers']['mlp']['down_proj']
    delta = adapter.scale * pair['a'][layer] @ pair['b'][layer]
    np.testing.assert_allclose(
      delta.T, module.get_delta_weight('default').detach().numpy(), atol=1e-6
    )


def test_two_byte_weights_become_float32(folder):
  kinds = {}

  def shorten(tensors):
    kinds.update(tensors)
    return {k: v.astype(ml_dtypes.bfloat16) for k, v in tensors.items()}

  change_tensors(folder, shorten)
  pair = peft.load_adapter(folder, CONFIG).weights['layers']['self_attn']
  a = pair['q_proj']['a']
  assert a.dtype == np.float32
  rounded = kinds[KEY.format(1, 'A')].astype(ml_dtypes.bfloat16)
  np.testing.assert_array_equal(a[1], rounded.T.astype(np.float32))


def test_torch_file(folder):
  torch = need_torch()
  path = folder / 'adapter_model.safetensors'
  tensors = safetensors.numpy.load_file(path)
  path.unlink()
  torch.save(
    {name: torch.from_numpy(value) for name, value in tensors.items()},
    folder / 'adapter_model.bin',
  )
  assert_same(peft.load_adapter(folder, CONFIG), random_adapter())


def test_torch_file_without_torch(folder, monkeypatch):
  (folder / 'adapter_model.safetensors').rename(folder / 'adapter_model.bin')
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ImportError, match=r'pip install lloco_jax\[torch\]'):
    peft.load_adapter(folder, CONFIG)


@pytest.mark.parametrize(
  'targets',
  [
    'all-linear',
    r'.*\.(self_attn|mlp)\.\w+_proj',
    ['self_attn.q_proj', 'k_proj', 'v_proj', 'o_proj', 'mlp.gate_proj']
    + ['up_proj', 'down_proj'],
  ],
)
def test_ways_to_name_targets(folder, targets):
  change_fields(folder, target_modules=targets)
  assert_same(peft.load_adapter(folder, CONFIG), random_adapter())


@pytest.mark.parametrize(
  'targets, message',
  [
    (['q_proj', 'lm_head'], 'target_modules names lm_head;'),
    (
      ['layers.1.mlp.up_proj'],
      r'adapts up_proj in some layers only \(\[1\] of 2\)',
    ),
    (r'.*\.0\..*q_proj', r'adapts q_proj in some layers only \(\[0\] of 2\)'),
    ('.*c_attn', r'target_modules names \.\*c_attn'),
    (['q_proj'], r'holds .*down_proj.*does not name'),
    ([], 'lacks the field target_modules'),
    ('*q_proj', r"'\*q_proj', which is no regular expression"),
    (['q_proj', 3], 'target_modules names 3'),
    ({'q_proj': 1}, 'target_modules is {'),
  ],
)
def test_targets_that_do_not_fit(folder, targets, message):
  change_fields(folder, target_modules=targets)
  with pytest.raises(ValueError, match=message):
    peft.load_adapter(folder, CONFIG)


@pytest.mark.parametrize(
  'changes',
  [
    {'use_dora': True},
    {'bias': 'all'},
    {'modules_to_save': ['lm_head']},
    {'fan_in_fan_out': True},
    {'rank_pattern': {'q_proj': 2}},
    {'alpha_pattern': {'q_proj': 2}},
    {'layers_to_transform': [0]},
    {'layers_to_transform': 0},
    {'exclude_modules': '.*k_proj'},
    {'layer_replication': [[0, 1]]},
    {'init_lora_weights': 'pissa'},
    {'corda_config': {'corda_method': 'kpm'}},
    {'lora_bias': True},
    {'a_switch_of_next_year': True},
    {'peft_type': 'IA3'},
  ],
)
def test_other_kinds_are_refused(folder, changes):
  change_fields(folder, **changes)
  (name,) = changes
  with pytest.raises(ValueError, match=f'{name} is .*support'):
    peft.load_adapter(folder, CONFIG)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'hidden_size': 16}, 'lora_. of .* has width 8, but the base has 16'),
    ({'intermediate_size': 20}, 'width 12, but the base has 20'),
    ({'num_key_value_heads': 4}, 'lora_B of k_proj has width 4, .* 8: it was'),
    ({'num_hidden_layers': 1}, 'adapts layer 1, but the base has 1 layers'),
    ({'num_hidden_layers': 3}, r'lacks lora_A of .* in layer 2 \(14 of 42'),
  ],
)
def test_adapter_of_another_base(folder, changes, message):
  config = dataclasses.replace(CONFIG, **changes)
  with pytest.raises(ValueError, match=f'{message}.*another base'):
    peft.load_adapter(folder, config)


def test_a_base_known_by_its_name_alone_is_warned_of(folder):
  change_fields(folder, base_model_name_or_path='owner/Llama-2-7b')
  with pytest.warns(UserWarning, match="'owner/Llama-2-7b'; if 'other/base'"):
    peft.load_adapter(folder, CONFIG, 'fingerprint', 'other/base')
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    peft.load_adapter(folder, CONFIG, 'fingerprint', 'models/llama-2-7b')


def test_rank_that_differs_from_the_config(folder):
  change_fields(folder, r=4)
  with pytest.raises(ValueError, match='has rank 3, but .* says 4'):
    peft.load_adapter(folder, CONFIG)


def test_tensor_too_many(folder):
  extra = {'base_model.model.lm_head.weight': np.zeros((17, 8), np.float32)}
  change_tensors(folder, lambda tensors: tensors | extra)
  with pytest.raises(ValueError, match='holds base_model.model.lm_head.weight'):
    peft.load_adapter(folder, CONFIG)


def test_a_matrix_under_two_names_is_refused(folder):
  def double(tensors):
    name = KEY.format(1, 'B')
    other = name.replace('model.model.layers', 'model.layers')
    assert other != name
    return tensors | {other: 2 * tensors[name]}

  change_tensors(folder, double)
  with pytest.raises(ValueError, match='lora_B of q_proj in layer 1 a second'):
    peft.load_adapter(folder, CONFIG)


def test_how_a_began_does_not_matter(folder):
  change_fields(folder, init_lora_weights='eva', eva_config={'rho': 2.0})
  assert peft.load_adapter(folder, CONFIG).rank == 3


def test_numbers_that_are_not_finite(folder):
  def spoil(tensors):
    tensors[KEY.format(1, 'B')][0, 0] = np.nan
    return tensors

  change_tensors(folder, spoil)
  with pytest.raises(ValueError, match='not finite in lora_B of q_proj'):
    peft.load_adapter(folder, CONFIG)


def test_tensor_too_few(folder):
  def drop(tensors):
    del tensors[KEY.format(1, 'B')]
    return tensors

  change_tensors(folder, drop)
  with pytest.raises(
    ValueError, match=r'lacks lora_B of q_proj in layer 1 \(1 of 28'
  ):
    peft.load_adapter(folder, CONFIG)


def test_truncated_weights(folder):
  path = folder / 'adapter_model.safetensors'
  path.write_bytes(path.read_bytes()[:-7])
  with pytest.raises(
    ValueError, match='adapter_model.safetensors is truncated'
  ):
    peft.load_adapter(folder, CONFIG)


@pytest.mark.parametrize(
  'name', ['adapter_config.json', 'adapter_model.safetensors']
)
def test_missing_file(folder, name):
  (folder / name).unlink()
  with pytest.raises(FileNotFoundError, match=f'{name} is missing'):
    peft.load_adapter(folder, CONFIG)


def test_missing_folder(folder):
  shutil.rmtree(folder)
  match = f"no adapter '{folder}': that is neither a folder, as train.py leaves"
  with pytest.raises(FileNotFoundError, match=match):
    peft.load_adapter(folder, CONFIG)


@pytest.mark.parametrize('text', ['{', '{"peft_type": "LORA"}'])
def test_damaged_config(folder, text):
  (folder / 'adapter_config.json').write_text(text)
  with pytest.raises(ValueError, match='not valid JSON|lacks the field r'):
    peft.load_adapter(folder, CONFIG)


def test_bank_is_not_saved(tmp_path):
  with pytest.raises(ValueError, match='A bank of 2 adapters'):
    peft.save_adapter(tmp_path, stack_adapters([random_adapter()] * 2), 'base')
