"""The network against transformers, and against itself run another way."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import need_torch
import tiny
from tiny import CONFIG, relative_error
from torch_twin import KINDS, to_torch, twins

import lloco_jax as lloco
from lloco_jax.generation.decoding import prefill
from lloco_jax.nn import llama
from lloco_jax.nn.config import LlamaConfig, RopeScaling
from lloco_jax.nn.joining import unstack_layers
from lloco_jax.nn.remat import REMAT_POLICIES


def plain_positions(tokens):
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  return llama.Positions(positions, positions)


@pytest.mark.parametrize('kind', KINDS)
def test_logits_equal_those_of_transformers(kind):
  reference, model = twins(kind)
  ids = tiny.ids(0, 2, 40)
  expected = reference(to_torch(ids).long()).logits.detach()
  assert relative_error(lloco.forward(model, ids), expected) < 1e-4


@pytest.mark.parametrize('kind', KINDS)
def test_padded_rows_equal_those_of_transformers(kind):
  """Rows of several lengths: we pad on the right, it is given the left."""
  torch = need_torch()
  reference, model = twins(kind)
  lengths = [5, 17, 30]
  ids = tiny.ids(1, 3, 30)
  left, mask = np.zeros((3, 30), int), np.zeros((3, 30), int)
  for row, length in enumerate(lengths):
    left[row, 30 - length :] = ids[row, :length]
    mask[row, 30 - length :] = 1
  where = np.maximum(mask.cumsum(1) - 1, 0)
  expected = reference(
    torch.from_numpy(left),
    attention_mask=torch.from_numpy(mask),
    position_ids=torch.from_numpy(where),
  ).logits[:, -1]
  empty = jnp.zeros((3, 0, model.config.hidden_size))
  actual, _ = prefill(
    model.params,
    model.config,
    empty,
    jnp.zeros(3, jnp.int32),
    ids[:, None],
    jnp.asarray(lengths)[:, None],
  )
  assert relative_error(actual[:, 0], expected.detach()) < 1e-4


def test_settings_of_older_config_files():
  """Before transformers 5 `rope_theta` and `rope_scaling` stood alone."""
  for kind, fields in KINDS.items():
    _, model = twins(kind)
    rope = dict(fields['rope_parameters'])
    old = model.config.to_huggingface()
    del old['rope_scaling'], old['rope_theta']
    theta = rope.pop('rope_theta')
    scaling = None if rope['rope_type'] == 'default' else rope
    older = {**old, 'rope_theta': theta, 'rope_scaling': scaling}
    newer = {**old, 'rope_parameters': fields['rope_parameters']}
    for form in (older, newer):
      assert LlamaConfig.from_huggingface(form) == model.config, kind


def test_config_written_and_read_back():
  config = dataclasses.replace(
    CONFIG,
    eos_token_ids=(3, 4),
    tie_word_embeddings=True,
    attention_bias=True,
    mlp_bias=True,
    bos_token_id=1,
    pad_token_id=0,
    accumulate_summary=False,
    summary_sharpness=0.5,
    summary_interleaved=True,
    rope_scaling=RopeScaling('llama3', 2.0, 1.5, 3.0, 32),
  )
  same = dataclasses.asdict(config)
  for name, default in dataclasses.asdict(LlamaConfig(*[1] * 8)).items():
    assert same[name] != default, f'{name} is at its default'
  fields = json.loads(json.dumps(config.to_huggingface()))
  assert LlamaConfig.from_huggingface(fields) == config
  one = dataclasses.replace(config, eos_token_ids=(3,), rope_scaling=None)
  assert LlamaConfig.from_huggingface(one.to_huggingface()) == one


@pytest.mark.parametrize(
  'fields, said',
  [
    ({'model_type': 'qwen2'}, "model_type is 'qwen2'"),
    ({'hidden_act': 'gelu'}, "hidden_act is 'gelu'"),
    ({'rope_scaling': {'rope_type': 'yarn', 'factor': 2}}, "scaling 'yarn'"),
    ({'rope_scaling': {'type': 'dynamic', 'factor': 2}}, "scaling 'dynamic'"),
    ({'quantization_config': {'bits': 4}}, 'quantization_config'),
    ({'partial_rotary_factor': 0.5}, 'partial_rotary_factor is 0.5'),
    ({'attention_dropout': 0.1}, 'attention_dropout is 0.1'),
    ({'rope_scaling': {'type': 'linear'}}, 'lacks its factor'),
    ({'rope_scaling': 'linear'}, "rope_scaling is 'linear'"),
    ({'eos_token_id': '</s>'}, "eos_token_id is '</s>'"),
    ({'num_attention_heads': 5}, 'num_attention_heads is 5, which'),
    ({'head_dim': 5}, 'head_dim is 5'),
  ],
)
def test_networks_that_are_not_computed_are_refused(fields, said):
  with pytest.raises(ValueError, match=said) as error:
    LlamaConfig.from_huggingface({**CONFIG.to_huggingface(), **fields})
  assert '\n' not in str(error.value)


def test_no_token_sees_a_later_one():
  """The gradient of one position's output by the embeddings is exactly zero
  after it, and nowhere before it."""
  model = tiny.model()
  tokens = tiny.ids(0, 1, 9)
  embeddings = llama.embed(model.params, tokens)

  def output(x):
    hidden, _ = llama.hidden_states(
      model.params, CONFIG, x, plain_positions(tokens), tiny.adapter()
    )
    return jnp.sum(hidden[0, 4] ** 3)

  gradient = np.abs(jax.jit(jax.grad(output))(embeddings))[0].max(-1)
  assert (gradient[5:] == 0).all()
  assert (gradient[:5] > 0).all()


def test_stacked_layers_equal_unstacked_ones():
  model, adapter = tiny.model(), tiny.adapter()
  tokens = tiny.ids(1, 2, 9)
  run = jax.jit(llama.hidden_states, static_argnums=1)
  x = llama.embed(model.params, tokens)
  stacked, kept = run(model.params, CONFIG, x, plain_positions(tokens), adapter)
  unstacked, kept_each = run(
    model.unstacked_params,
    CONFIG,
    x,
    plain_positions(tokens),
    adapter.replace(weights=unstack_layers(adapter.weights)),
  )
  assert relative_error(unstacked, stacked) < 1e-5
  assert len(kept_each) == CONFIG.num_hidden_layers
  for layer, each in enumerate(kept_each):
    assert relative_error(each.key, kept.key[layer]) < 1e-5
    assert relative_error(each.value, kept.value[layer]) < 1e-5


def test_remat_changes_memory_and_nothing_else():
  """Values and gradients of every policy agree, dropout included, and each
  policy computes more again than the one before."""
  model = tiny.model()
  adapter = tiny.adapter(targets=('v_proj', 'down_proj'), dropout=0.3)
  tokens = tiny.ids(2, 2, 11)
  x = llama.embed(model.params, tokens)

  def loss(adapter, remat):
    hidden, _ = llama.hidden_states(
      model.params,
      CONFIG,
      x,
      plain_positions(tokens),
      adapter,
      dropout_key=jax.random.key(5),
      remat=remat,
    )
    return jnp.sum(hidden**3)

  flops, results = [], []
  for remat in REMAT_POLICIES:
    step = jax.jit(jax.value_and_grad(lambda tree, r=remat: loss(tree, r)))
    program = step.lower(adapter).compile()
    results.append(program(adapter))
    flops.append(program.cost_analysis()['flops'])
  assert list(REMAT_POLICIES) == [
    'none',
    'projections',
    'attention',
    'full',
  ]
  assert flops == sorted(set(flops)), flops
  for value, gradient in results[1:]:
    np.testing.assert_allclose(value, results[0][0], rtol=1e-5)
    jax.tree.map(
      lambda a, b: np.testing.assert_array_less(relative_error(a, b), 1e-4),
      gradient,
      results[0][1],
    )


def test_bfloat16_stays_bfloat16_and_near():
  """Statistics and angles are in float32: position 63 is told from 62."""
  model = tiny.model()
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), model.params)
  ids = tiny.ids(3, 2, 64)
  actual = lloco.forward(dataclasses.replace(model, params=low), ids)
  assert actual.dtype == jnp.bfloat16
  expected = lloco.forward(model, ids)
  error = np.abs(actual.astype(jnp.float32) - expected).mean()
  assert error < 0.03 * np.abs(expected).mean()
  cos, sin = llama.rotary_tables(CONFIG, jnp.full((1, 1), 257), jnp.bfloat16)
  assert cos.dtype == sin.dtype == jnp.float32
  np.testing.assert_allclose(sin[0, 0, 0, 0], np.sin(257), atol=1e-4)


def test_random_parameters_have_the_tree_of_a_checkpoint(golden):
  loaded = lloco.load(str(golden / 'accumulate'))
  shapes = jax.eval_shape(
    lambda key: llama.init_params(loaded.config, key, 'bfloat16'),
    jax.random.key(0),
  )
  described = jax.tree.map(lambda x: x.shape, shapes)
  assert described == jax.tree.map(lambda x: x.shape, loaded.params)
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('bfloat16')}
