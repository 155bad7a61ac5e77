"""`load`: each form of a checkpoint becomes a model."""

import json
import shutil

import gguf as library
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_gguf import CONFIG, FIELDS, assert_params, tensors_of, write
from test_tokenizer import byte_level, write_gguf

import lloco_jax as lloco
from lloco_jax.weights import huggingface, sources
from lloco_jax.weights.checkpoint import load


def test_folder(golden):
  model = load(str(golden / 'accumulate'))
  assert lloco.load is load
  assert model.config.summary_length == 5
  assert model.tokenizer is None
  assert model.name == str(golden / 'accumulate')
  assert model.fingerprint == sources.fingerprint(golden / 'accumulate')
  leaves = jax.tree.leaves(model.params)
  assert all(isinstance(leaf, jax.Array) for leaf in leaves)
  expected = huggingface.load_params(golden / 'accumulate', model.config)
  jax.tree.map(np.testing.assert_array_equal, model.params, expected)


def test_tokenizer_of_a_folder(golden, tmp_path):
  shutil.copytree(golden / 'accumulate', tmp_path / 'model')
  byte_level().save(str(tmp_path / 'model/tokenizer.json'))
  model = load(tmp_path / 'model')
  assert model.tokenizer.decode(model.tokenizer.encode('A mill')) == 'A mill'
  assert model.tokenizer.eos_id == model.config.eos_token_ids[0] == 2


def test_gguf_file(tmp_path):
  write_gguf(tmp_path / 'tokenizer.gguf', byte_level())
  fields = library.GGUFReader(tmp_path / 'tokenizer.gguf').fields
  wanted = {
    name: fields[f'tokenizer.ggml.{name}'].contents()
    for name in ('model', 'pre', 'tokens', 'token_type', 'merges')
  }
  tensors = tensors_of()
  everything = FIELDS | {
    f'tokenizer.ggml.{name}': value for name, value in wanted.items()
  }
  model = load(write(tmp_path / 'a.gguf', tensors, everything))
  assert model.config == CONFIG
  assert_params(model.params, tensors)
  ids = byte_level().encode('A mill', add_special_tokens=False).ids
  assert model.tokenizer.encode('A mill') == ids
  assert model.tokenizer.eos_id == 2
  assert model.fingerprint == sources.fingerprint(tmp_path / 'a.gguf')


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float32'])
def test_dtypes(golden, dtype):
  model = load(golden / 'no_accumulate', dtype)
  kinds = {leaf.dtype.name for leaf in jax.tree.leaves(model.params)}
  assert kinds == {dtype}


def test_float64(golden):
  with pytest.raises(ValueError, match='jax_enable_x64'):
    load(golden / 'no_accumulate', 'float64')
  with jax.enable_x64(True):
    model = load(golden / 'no_accumulate', 'float64')
  assert model.params['norm']['scale'].dtype == np.float64


def test_ends_of_both_configs_stop_an_answer(golden, tmp_path):
  folder = tmp_path / 'model'
  shutil.copytree(golden / 'accumulate', folder)
  before = load(folder).stop_tokens
  path = folder / 'generation_config.json'
  for found, more in (([7, before[0]], {7}), (9, {9}), (None, set())):
    path.write_text(json.dumps({'eos_token_id': found}))
    model = load(folder)
    assert set(model.stop_tokens) == set(before) | more
    # Training goes on with the config's own.
    assert model.config.eos_token_ids[0] == before[0]
  for text, said in (('{', 'damaged'), ('[]', 'damaged'), ('"x"', 'damaged')):
    path.write_text(text)
    with pytest.raises(ValueError, match=f'generation_config.json is {said}'):
      load(folder)
  path.write_text('{"eos_token_id": "</s>"}')
  with pytest.raises(ValueError, match="eos_token_id is '</s>'"):
    load(folder)


@pytest.mark.parametrize('quantize', [None, 'int8'])
def test_weights_beyond_float16_are_refused(golden, tmp_path, quantize):
  folder = tmp_path / 'model'
  shutil.copytree(golden / 'no_accumulate', folder)
  path = folder / 'model.safetensors'
  tensors = load_file(path)
  name = next(name for name in tensors if 'down_proj' in name)
  tensors[name] = tensors[name].copy()
  tensors[name][0, 0] = 1e6
  save_file(tensors, path)
  assert load(folder, 'bfloat16', quantize).params
  with pytest.raises(ValueError, match='exceed float16.*bfloat16'):
    load(folder, 'float16', quantize)


def test_bad_dtype_is_said_before_the_checkpoint_is_looked_for():
  with pytest.raises(ValueError, match="dtype is 'int8'"):
    load('owner/name', 'int8')


def test_missing_checkpoint():
  with pytest.raises(FileNotFoundError, match="'nothing' is neither"):
    load('nothing')


def test_folder_without_config(golden, tmp_path):
  shutil.copy(golden / 'accumulate/model.safetensors', tmp_path)
  with pytest.raises(FileNotFoundError, match='config.json is missing'):
    load(tmp_path)


def test_file_of_another_kind(golden):
  with pytest.raises(ValueError, match='is not a GGUF file; give a .gguf file'):
    load(golden / 'accumulate/model.safetensors')


def test_config_of_another_checkpoint(golden, tmp_path):
  shutil.copytree(golden / 'accumulate', tmp_path / 'model')
  path = tmp_path / 'model/config.json'
  fields = json.loads(path.read_text())
  path.write_text(json.dumps(fields | {'summary_length': 7}))
  with pytest.raises(ValueError, match=r'embed_summary.weight has shape \(5'):
    load(tmp_path / 'model')
  path.write_text(json.dumps(fields | {'summary_length': 0}))
  with pytest.raises(ValueError, match='holds embed_summary.*summary_length'):
    load(tmp_path / 'model')
