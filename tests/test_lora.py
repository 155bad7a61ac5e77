"""Adapters: against PEFT, merged weights, and one another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import need_torch
import tiny
from tiny import CONFIG, relative_error
from torch_twin import KINDS, to_torch, twins

import lloco_jax as lloco
from lloco_jax.nn import llama
from lloco_jax.nn.lora import (
  Adapter,
  LoraConfig,
  LoraLinear,
  bank,
  gathered,
  init_adapter,
  masked,
  merge_adapter,
  projection_shapes,
  stack_adapters,
)

IDS = tiny.ids(0, 3, 10)
CONTEXT = tiny.normal(1, 3, 4, CONFIG.hidden_size)


def forward(adapter=None, adapter_ids=None, model=None):
  return lloco.forward(
    model or tiny.model(), IDS, CONTEXT, adapter, adapter_ids
  )


@pytest.mark.parametrize(
  'kind, rank, alpha, targets',
  [
    (list(KINDS)[0], 4, 32, tiny.ALL),
    (list(KINDS)[1], 3, 5, ('v_proj', 'down_proj')),
  ],
)
def test_loss_and_gradients_equal_those_of_peft(
  tmp_path, kind, rank, alpha, targets
):
  """The adapter goes there by its files, the gradients come back by ours."""
  torch = need_torch()
  import peft

  reference, model = twins(kind)
  adapter = tiny.adapter(2, rank, alpha, targets, config=model.config)
  lloco.save_adapter(tmp_path, adapter, model)
  adapted = peft.PeftModel.from_pretrained(
    reference, str(tmp_path), is_trainable=True
  )
  try:
    ids = tiny.ids(4, 2, 12)
    labels = np.where(np.arange(12) < 7, -100, ids)
    context = tiny.normal(5, 2, 3, model.config.hidden_size)
    embedded = reference.get_input_embeddings()(to_torch(ids).long())
    counted = np.concatenate([np.full((2, 3), -100), labels], axis=1)
    expected = adapted(
      inputs_embeds=torch.cat([to_torch(context), embedded], dim=1),
      labels=to_torch(counted).long(),
    ).loss
    expected.backward()
    wanted = {
      name: weight.grad.numpy()
      for name, weight in adapted.named_parameters()
      if weight.requires_grad
    }
  finally:
    adapted.unload()

  actual, gradient = jax.value_and_grad(
    lambda tree: lloco.loss(model, ids, labels, context, tree)
  )(adapter)
  assert relative_error(actual, expected.detach()) < 1e-4
  assert len(wanted) == 2 * len(targets) * model.config.num_hidden_layers
  for name, value in wanted.items():
    # base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight
    layer, block, projection, side = name.split('.')[4:8]
    pair = gradient.weights['layers'][block][projection]
    ours = pair[side[-1].lower()][int(layer)].T
    assert relative_error(ours, value) < 1e-3, name


def test_effective_weight_is_alpha_over_rank_times_a_b():
  adapter = tiny.adapter(3, rank=2, alpha=5.0)
  merged = merge_adapter(tiny.model().params, adapter)
  for block, projections in adapter.weights['layers'].items():
    for name, pair in projections.items():
      base = tiny.model().params['layers'][block][name]['kernel']
      for layer in range(CONFIG.num_hidden_layers):
        a, b = np.asarray(pair['a'][layer]), np.asarray(pair['b'][layer])
        wanted = np.asarray(base[layer]) + 5.0 / 2 * a @ b
        actual = merged['layers'][block][name]['kernel'][layer]
        assert relative_error(actual, wanted) < 1e-6, name


def test_merged_adapter_equals_the_adapter():
  adapter = tiny.adapter(1)
  merged = dataclasses.replace(
    tiny.model(), params=merge_adapter(tiny.model().params, adapter)
  )
  assert relative_error(forward(model=merged), forward(adapter)) < 1e-4


def test_merging_leaves_the_rest_and_the_dtype():
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny.model().params)
  merged = merge_adapter(params, tiny.adapter(1, targets=('q_proj',)))
  changed = {
    '/'.join(key.key for key in path)
    for (path, one), other in zip(
      jax.tree_util.tree_leaves_with_path(merged), jax.tree.leaves(params)
    )
    if not np.array_equal(one, other)
  }
  assert changed == {'layers/self_attn/q_proj/kernel'}
  assert jax.tree.map(lambda x: x.dtype, merged) == jax.tree.map(
    lambda x: x.dtype, params
  )


def test_an_adapter_changes_the_output_and_a_fresh_one_does_not():
  base = forward()
  fresh = init_adapter(
    CONFIG, LoraConfig(rank=2, targets=tiny.ALL), jax.random.key(0)
  )
  np.testing.assert_array_equal(forward(fresh), base)
  changing = tiny.adapter()
  for target in tiny.ALL:
    only = jax.tree_util.tree_map_with_path(
      lambda path, leaf, one=target: leaf * (path[-2].key == one),
      changing.weights,
    )
    changed = forward(changing.replace(weights=only))
    assert relative_error(changed, base) > 1e-3, target


def test_fresh_adapters_are_drawn_as_in_peft():
  """kaiming_uniform(a=sqrt(5)): bounds of 1 / sqrt(inputs); B is zero."""
  wide = dataclasses.replace(CONFIG, hidden_size=256, intermediate_size=64)
  adapter = init_adapter(
    wide, LoraConfig(rank=8, targets=tiny.ALL), jax.random.key(0)
  )
  assert sorted(adapter.targets) == sorted(tiny.ALL)
  for projections in adapter.weights['layers'].values():
    for name, pair in projections.items():
      inputs, outputs = projection_shapes(wide)[name]
      assert pair['a'].shape == (2, inputs, 8)
      assert pair['b'].shape == (2, 8, outputs)
      assert (pair['b'] == 0).all()
      bound = inputs**-0.5
      assert 0.95 * bound < np.abs(pair['a']).max() <= bound
      np.testing.assert_allclose(pair['a'].std(), bound / 3**0.5, rtol=0.1)
      assert not np.array_equal(pair['a'][0], pair['a'][1])
  layers = adapter.weights['layers']['self_attn']
  assert not np.array_equal(layers['q_proj']['a'], layers['k_proj']['a'])


def test_rows_of_a_bank_equal_each_adapter_alone():
  """Of different ranks, alphas and projections; -1 is the base alone."""
  adapters = [
    tiny.adapter(1, rank=1, alpha=3.0, targets=('q_proj', 'up_proj')),
    tiny.adapter(2, rank=3, alpha=2.0, targets=('up_proj', 'o_proj')),
  ]
  bank = stack_adapters(adapters)
  assert bank.bank_size == 2 and adapters[0].bank_size is None
  alone = [forward(adapter) for adapter in adapters] + [forward()]
  for chosen in ([0, 1, -1], [-1, 0, 0]):
    actual = forward(bank, jnp.asarray(chosen))
    for row, index in enumerate(chosen):
      assert relative_error(actual[row], alone[index][row]) < 1e-4
  for row in range(3):
    assert relative_error(alone[0][row], alone[1][row]) > 1e-2


@pytest.mark.parametrize('form', [masked, gathered])
def test_both_forms_of_a_bank_are_each_row_on_its_own(form):
  ids = np.array([2, -1, 0, 2, 1])
  x, a, b = (
    tiny.normal(seed, *shape)
    for seed, shape in enumerate([(5, 3, 7), (7, 3, 2), (3, 2, 4)])
  )
  actual = form(x, a, b, jnp.asarray(ids))
  x, a, b = np.asarray(x), np.asarray(a), np.asarray(b)
  expected = [
    x[row] @ a[:, index] @ b[index] if index >= 0 else np.zeros((3, 4))
    for row, index in enumerate(ids)
  ]
  assert relative_error(actual, np.stack(expected)) < 1e-5


@pytest.mark.parametrize(
  'rows, tokens, adapters, rank, wide',
  [(16, 1, 8, 8, True), (16, 1, 16, 8, True), (16, 1, 8, 32, False),
   (4, 1, 8, 8, False), (4, 24, 8, 8, True), (4, 24, 8, 32, False),
   (1, 1, 8, 8, False), (1, 96, 8, 8, False), (1, 1, 1, 8, True)],
)  # fmt: skip
def test_the_form_of_a_bank_goes_by_rank_and_count(
  rows, tokens, adapters, rank, wide
):
  program = jax.make_jaxpr(bank)(
    jnp.zeros((rows, tokens, 3)),
    jnp.zeros((3, adapters, rank)),
    jnp.zeros((adapters, rank, 5)),
    jnp.zeros(rows, jnp.int32),
  )
  assert ('gather[' in str(program)) != wide


def test_banks_that_cannot_be():
  with pytest.raises(ValueError, match='at least one adapter'):
    stack_adapters([])
  wide = dataclasses.replace(CONFIG, head_dim=8)
  other = tiny.adapter(targets=('q_proj',), config=wide)
  with pytest.raises(ValueError, match='q_proj.*different bases'):
    stack_adapters([tiny.adapter(), other])
  deep = dataclasses.replace(CONFIG, num_hidden_layers=3)
  with pytest.raises(ValueError, match='different bases'):
    stack_adapters([tiny.adapter(), tiny.adapter(config=deep)])
  with pytest.raises(ValueError, match='needs adapter_ids'):
    forward(stack_adapters([tiny.adapter()]))


@pytest.mark.parametrize(
  'fields, said',
  [
    ({'targets': ('q_proj', 'lm_head')}, "'lm_head'"),
    ({'targets': ()}, 'targets are empty'),
    ({'rank': 0}, 'rank is 0'),
    ({'alpha': 0.0}, 'alpha is 0'),
    ({'dropout': 1.0}, 'dropout is 1'),
    ({'dropout': -0.1}, 'dropout is -0.1'),
  ],
)
def test_lora_configs_that_cannot_be(fields, said):
  with pytest.raises(ValueError, match=said):
    LoraConfig(**fields)


def test_dropout_is_off_without_a_key():
  adapter = tiny.adapter(1)
  dropping = dataclasses.replace(adapter, dropout=0.5)
  np.testing.assert_array_equal(forward(dropping), forward(adapter))


def test_dropout_spares_the_base_and_keeps_the_mean():
  x, a, b = tiny.normal(0, 1, 2, 8), tiny.normal(1, 8, 2), tiny.normal(2, 2, 5)
  kernel = tiny.normal(3, 8, 5)
  variables = {'params': {'kernel': kernel}, 'lora': {'a': a, 'b': b}}

  def run(key):
    layer = LoraLinear(5, dropout=0.25)
    return layer.apply(variables, x, rngs={'dropout': key}) - x @ kernel

  outputs = jax.vmap(run)(jax.random.split(jax.random.key(0), 4000))
  expected = x @ a @ b
  error = np.abs(outputs.mean(0) - expected)
  assert (error < 5 * outputs.std(0) / 4000**0.5).all()
  assert (outputs.std(0) > 0.1 * np.abs(expected).max()).all()
  with_zero = {**variables, 'lora': {'a': a, 'b': 0 * b}}
  base = LoraLinear(5, dropout=0.25).apply(
    with_zero, x, rngs={'dropout': jax.random.key(1)}
  )
  np.testing.assert_allclose(base, x @ kernel, rtol=1e-5, atol=1e-5)


def test_dropout_differs_by_layer_projection_and_key():
  """With one token, the gradient of A is zero in the rows of dropped inputs,
  so it shows the mask."""
  targets = ('v_proj', 'gate_proj', 'up_proj')
  adapter = tiny.adapter(targets=targets, dropout=0.5)
  where = jnp.zeros((1, 1), jnp.int32)
  x = llama.embed(tiny.model().params, IDS[:1, :1])

  @jax.jit
  @jax.grad
  def slope(adapter, key):
    hidden, _ = llama.hidden_states(
      tiny.model().params,
      CONFIG,
      x,
      llama.Positions(where, where),
      adapter,
      dropout_key=key,
    )
    return jnp.sum(hidden**3)

  masks = set()
  for seed in range(2):
    gradient = slope(adapter, jax.random.key(seed))
    for projections in gradient.weights['layers'].values():
      for pair in projections.values():
        for layer in np.abs(pair['a']).max(-1) > 0:
          assert 1 <= layer.sum() <= CONFIG.hidden_size - 1
          masks.add(tuple(layer))
  assert len(masks) == 2 * 3 * CONFIG.num_hidden_layers


def test_the_base_has_no_gradient_path_in_the_adapter_tree():
  gradient = jax.grad(
    lambda tree: jnp.sum(lloco.loss(tiny.model(), IDS, IDS, CONTEXT, tree))
  )(tiny.adapter())
  assert isinstance(gradient, Adapter)
  assert jax.tree.structure(gradient) == jax.tree.structure(tiny.adapter())
  for leaf in jax.tree.leaves(gradient):
    assert np.abs(leaf).max() > 0
