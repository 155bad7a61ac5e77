"""The int8 base: its arithmetic, and every stage on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import CONFIG, relative_error

from configs import common
import lloco_jax as lloco
from lloco_jax.compression.corpus import store_settings
from lloco_jax.compression.schedule import CompressionConfig
from lloco_jax.data.contexts import Context
from lloco_jax.evaluation.answer_cache import AnswerCache
from lloco_jax.inputs import load_model, load_models
from lloco_jax.nn import llama
from lloco_jax.nn.joining import decoding_params
from lloco_jax.nn.lora import block_of, merge_adapter, projection_shapes
from lloco_jax.nn.quantize import (
  FEW_ROWS,
  is_quantized,
  quantize_kernel,
  quantize_params,
  scaled_matmul,
  turn,
  turned_matmul,
)
from lloco_jax.weights import huggingface
from lloco_jax.weights.compressor import apply_compressor, save_compressor

IDS = tiny.ids(0, 2, 8)
CONTEXT = tiny.normal(1, 2, 6, CONFIG.hidden_size)
ADAPTER = tiny.adapter(1)
PROJECTIONS = {
  ('layers', block_of(name), name) for name in projection_shapes(CONFIG)
}


def twin(kernel):
  """A column at a time, in float64, from the definition."""
  codes, scales = np.zeros(kernel.shape), np.zeros(kernel.shape[1])
  for column, values in enumerate(np.asarray(kernel, np.float64).T):
    scales[column] = np.abs(values).max() / 127
    for row, value in enumerate(values):
      codes[row, column] = np.rint(value / scales[column])
  return codes, scales


def distance(actual, expected) -> float:
  """The norm of the difference, relative to that of what is expected."""
  actual, expected = (np.asarray(x, np.float32) for x in (actual, expected))
  return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def quantized(model=None):
  return lloco.quantize(model or tiny.model())


def representable(model):
  """A base that int8 holds exactly: sixteenths, the largest of them 127."""

  def change(path, leaf):
    if path[-1].key != 'kernel' or path[0].key != 'layers':
      return leaf
    codes = np.clip(np.rint(np.asarray(leaf) * 50), -127, 127)
    codes[:, 0] = 127
    return jnp.asarray(codes / 512, leaf.dtype)

  params = jax.tree_util.tree_map_with_path(change, model.params)
  return dataclasses.replace(model, params=params)


@pytest.mark.parametrize('library', [np.asarray, jnp.asarray])
def test_kernels_are_those_of_the_twin(library):
  kernel = np.array(tiny.normal(0, 7, 5)) * [1, 1e-3, 40, 1, 1]
  codes, scales = quantize_kernel(library(kernel.astype(np.float32)))
  wanted, wanted_scales = twin(kernel.astype(np.float32))
  assert codes.dtype == np.int8 and scales.dtype == np.float32
  np.testing.assert_array_equal(codes, wanted)
  np.testing.assert_allclose(scales, wanted_scales, rtol=1e-6)
  assert np.abs(codes).max(axis=0).tolist() == [127] * 5
  error = np.abs(np.asarray(codes) * np.asarray(scales) - kernel)
  assert (error <= np.asarray(scales) * 0.5001).all()


@pytest.mark.parametrize('value', [0, 1e-45, 1e-38])
def test_columns_of_next_to_nothing_become_zeros(value):
  kernel = np.full((4, 2), value, np.float32)
  kernel[:, 1] = 1
  with np.errstate(divide='raise', invalid='raise', over='raise'):
    codes, scales = quantize_kernel(kernel)
  assert not codes[:, 0].any() and np.isfinite(scales).all()
  assert (codes[:, 1] == 127).all()


def test_only_projections_of_layers_change():
  config = dataclasses.replace(CONFIG, attention_bias=True, mlp_bias=True)
  base = tiny.model(config).params
  params = quantize_params(base)
  assert is_quantized(params) and not is_quantized(base)
  assert is_quantized(jax.eval_shape(lambda: params))
  flat = dict(jax.tree_util.tree_leaves_with_path(params))
  flat = {tuple(key.key for key in path): leaf for path, leaf in flat.items()}
  found = {path[:-1] for path, leaf in flat.items() if leaf.dtype == jnp.int8}
  assert found == PROJECTIONS
  for path, leaf in jax.tree_util.tree_leaves_with_path(base):
    path = tuple(key.key for key in path)
    if path[:-1] in PROJECTIONS and path[-1] == 'kernel':
      assert flat[path].shape == leaf.shape
      scale = flat[(*path[:-1], 'scale')]
      assert scale.shape == leaf.shape[::2] and scale.dtype == jnp.float32
    else:
      assert flat[path] is leaf


def dequantized(params):
  """Float kernels again, in the dtype of the norms."""
  layers = dict(params['layers'])
  for _, block, name in PROJECTIONS:
    projection = dict(layers[block][name])
    wide = projection['kernel'] * projection.pop('scale')[..., None, :]
    projection['kernel'] = wide.astype(params['norm']['scale'].dtype)
    layers[block] = {**layers[block], name: projection}
  return {**params, 'layers': layers}


def test_every_stage_computes_what_the_integers_say():
  """Compression, an adapter, prefill and decoding, scanned and unrolled.

  On a base that int8 holds exactly there is nothing to be lost.
  """
  base = representable(tiny.model())
  model = quantized(base)
  jax.tree.map(
    np.testing.assert_array_equal, dequantized(model.params), base.params
  )
  summaries, wanted = (
    lloco.compress(each, IDS, segment_length=4) for each in (model, base)
  )
  assert relative_error(summaries, wanted) < 1e-5
  logits, wanted = (
    lloco.forward(each, IDS, CONTEXT, ADAPTER) for each in (model, base)
  )
  assert relative_error(logits, wanted) < 1e-5
  tokens, same = (
    lloco.generate(each, IDS, CONTEXT, ADAPTER, stop_tokens=())
    for each in (model, base)
  )
  np.testing.assert_array_equal(tokens, same)
  rounded, wanted = (
    lloco.forward(each, IDS, CONTEXT, ADAPTER)
    for each in (quantized(), tiny.model())
  )
  assert 1e-4 < distance(rounded, wanted) < 0.15


def test_the_decoder_reads_integers():
  layer = quantized().unstacked_params['layers_1']['mlp']['gate_up_proj']
  assert layer['kernel'].dtype == jnp.int8
  assert layer['scale'].shape == (2 * CONFIG.intermediate_size,)


@pytest.mark.parametrize('rows', [1, FEW_ROWS + 1])
def test_turned_kernels_give_the_same(rows):
  """As a GPU reads them, for few rows and for many."""
  kernel, scale = quantize_kernel(tiny.normal(0, 24, 40))
  x = tiny.normal(1, rows, 1, 24)
  turned = turn({'kernel': kernel, 'scale': scale})
  assert turned['turned'].shape == (40, 24)
  assert turned['turned'].dtype == jnp.int8
  actual = turned_matmul(x, **{'kernel': turned['turned'], 'scale': scale})
  assert relative_error(actual, scaled_matmul(x, kernel, scale)) < 1e-6


def test_a_turned_base_decodes_alike():
  model = quantized()
  expected = lloco.generate(model, IDS, CONTEXT, ADAPTER, stop_tokens=())
  other = dataclasses.replace(model)
  other.__dict__['unstacked_params'] = decoding_params(model.params, True)
  layer = other.unstacked_params['layers_1']['mlp']
  assert layer['down_proj'].keys() == {'turned', 'scale'}
  tokens = lloco.generate(other, IDS, CONTEXT, ADAPTER, stop_tokens=())
  np.testing.assert_array_equal(tokens, expected)


def test_gradient_of_an_adapter_is_that_on_the_dequantised_base():
  """In float64, where nothing but a wrong formula makes a difference."""
  with jax.enable_x64(True):
    model = tiny.model()
    params, adapter, weights = jax.tree.map(
      lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64),
      (model.params, tiny.adapter(3), tiny.normal(7, 2, 8, CONFIG.hidden_size)),
    )
    params = quantize_params(params)

    def loss(adapter, params):
      positions = jnp.broadcast_to(jnp.arange(8), (2, 8))
      hidden, _ = llama.hidden_states(
        params,
        CONFIG,
        llama.embed(params, IDS),
        llama.Positions(positions, positions),
        adapter,
        remat='projections',
      )
      return jnp.sum(hidden * weights)

    value, gradient = jax.jit(jax.value_and_grad(loss))(adapter, params)
    same, wanted = jax.jit(jax.value_and_grad(loss))(
      adapter, dequantized(params)
    )
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, same, rtol=1e-12)
    for found, expected in zip(
      jax.tree.leaves(gradient), jax.tree.leaves(wanted)
    ):
      assert np.abs(expected).max() > 0
      assert relative_error(found, expected) < 1e-9


def test_bfloat16():
  params = jax.tree.map(lambda x: x.astype('bfloat16'), tiny.model().params)
  low = dataclasses.replace(tiny.model(), params=params)
  found = lloco.forward(quantized(low), IDS, CONTEXT, ADAPTER)
  assert found.dtype == jnp.bfloat16
  expected = lloco.forward(tiny.model(), IDS, CONTEXT, ADAPTER)
  assert distance(found, expected) < 0.15


def test_float16_holds_sums_of_unscaled_products():
  """Of 24 inputs of 256 times 127, beyond its 65,504; scaled it is 6,144."""
  ones = jax.tree.map(lambda x: jnp.ones(x.shape), tiny.model().params)
  low = jax.tree.map(lambda x: x.astype('float16'), ones)
  found, expected = (
    lloco.forward(
      dataclasses.replace(tiny.model(), params=params), IDS, CONTEXT, ADAPTER
    )
    for params in (quantize_params(low), ones)
  )
  assert distance(found, expected) < 1e-2


def test_logits_of_the_golden_model_stay_near(golden):
  model = lloco.load(golden / 'accumulate', quantize='int8')
  expected = dict(np.load(golden / 'accumulate/expected.npz'))
  found = lloco.forward(model, expected['input_ids'][:, :40])
  assert 1e-3 < distance(found, expected['plain_logits']) < 0.12


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_loading_quantises_as_quantising_does(golden, dtype):
  folder = golden / 'no_accumulate'
  model = lloco.load(folder, dtype, quantize='int8')
  after = lloco.quantize(lloco.load(folder, dtype))
  jax.tree.map(np.testing.assert_array_equal, model.params, after.params)
  assert model.params['norm']['scale'].dtype == dtype
  assert model.fingerprint == after.fingerprint


def test_a_config_merges_the_compressor_before_it_quantises(tmp_path):
  config = dataclasses.replace(CONFIG, summary_length=0)
  huggingface.save_params(tmp_path / 'base', tiny.model(config).params, config)
  base = lloco.load(tmp_path / 'base')
  save_compressor(
    tmp_path / 'compressor',
    dataclasses.replace(base, config=CONFIG),
    tiny.adapter(1),
    tiny.normal(7, CONFIG.summary_length, CONFIG.hidden_size),
    {},
  )
  merged = apply_compressor(base, tmp_path / 'compressor')
  with pytest.raises(ValueError, match='merge it into the unquantised base'):
    apply_compressor(quantized(base), tmp_path / 'compressor')
  chosen = common.model()
  chosen.name = str(tmp_path / 'base')
  chosen.quantize = 'int8'
  same, alone = load_models(chosen)
  assert same is alone
  chosen.compressor = str(tmp_path / 'compressor')
  for found, wanted in zip(load_models(chosen), (base, merged)):
    assert found.fingerprint == wanted.fingerprint
    jax.tree.map(
      np.testing.assert_array_equal, found.params, quantized(wanted).params
    )
  alone = load_model(chosen)
  jax.tree.map(
    np.testing.assert_array_equal, alone.params, quantized(merged).params
  )
  chosen.quantize = 'int4'
  with pytest.raises(ValueError, match="quantize is 'int4'"):
    load_models(chosen)


def test_store_and_cached_answers_tell_it():
  class Tokenizer:
    fingerprint = 'letters'

  model = dataclasses.replace(tiny.model(), tokenizer=Tokenizer())
  settings = CompressionConfig(segment_length=8)
  keys = {
    store_settings(each, settings).key('A mill.')
    for each in (model, quantized(model))
  }
  context = Context(np.ones((1, 16), np.float32))
  answers = {
    AnswerCache().key(each, None, context, [[1]])
    for each in (model, quantized(model))
  }
  assert len(keys) == len(answers) == 2


def test_what_cannot_be_done_is_said(golden, tmp_path):
  model = quantized()
  with pytest.raises(ValueError, match='is quantised already'):
    lloco.quantize(model)
  with pytest.raises(ValueError, match="quantize is 'int4'; choose from int8"):
    lloco.quantize(tiny.model(), 'int4')
  with pytest.raises(ValueError, match="quantize is 'int4'"):
    lloco.load('owner/name', quantize='int4')
  with pytest.raises(ValueError, match='merge it into the unquantised base'):
    merge_adapter(model.params, tiny.adapter())
  with pytest.raises(ValueError, match='no checkpoint that others load'):
    huggingface.save_params(tmp_path, model.params, CONFIG)
  assert not list(tmp_path.iterdir())
