"""The network against what the torch reference computed (tests/golden)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import relative_error

import lloco_jax as lloco
from lloco_jax.finetuning.compressor import (
  Compressor,
  compress_rows,
  compressor_loss,
  next_token_losses,
)
from lloco_jax.finetuning.optimizer import OptimizerConfig, make_optimizer
from lloco_jax.nn.autocompressor import (
  compress_segment,
  grow_prefix,
  init_state,
)
from lloco_jax.nn.llama import logits
from lloco_jax.nn.lora import LoraConfig, init_adapter


@pytest.fixture(params=['accumulate', 'no_accumulate'], scope='module')
def case(request, golden):
  folder = golden / request.param
  model = lloco.load(str(folder))
  expected = dict(np.load(folder / 'expected.npz'))
  segments = json.loads((folder / 'segments.json').read_text())
  adapter = lloco.load_adapter(str(folder / 'adapter'), model)
  return model, expected, segments, adapter


@pytest.fixture(scope='module')
def training(case, golden):
  folder = golden / (
    'accumulate' if case[0].config.accumulate_summary else 'no_accumulate'
  )
  expected = dict(np.load(folder / 'expected_training.npz'))
  lengths = json.loads((folder / 'training_segments.json').read_text())
  segments, lengths = cut(expected['input_ids'], sum(lengths, []))
  return case[0], expected, segments, lengths


def cut(ids, lengths):
  """Rows [B, T] -> segments [B, S, W], padded with a token that counts."""
  stops = np.cumsum(lengths)
  segments = np.full((len(ids), len(lengths), 35), 7, np.int32)
  for index, (stop, length) in enumerate(zip(stops, lengths)):
    segments[:, index, :length] = ids[:, stop - length : stop]
  return jnp.asarray(segments), jnp.tile(jnp.asarray(lengths), (len(ids), 1))


def spans(lengths, total):
  if isinstance(lengths, int):
    full, rest = divmod(total, lengths)
    lengths = [lengths] * full + [rest] * bool(rest)
  return lengths


def test_logits_without_context(case):
  model, expected, _, _ = case
  actual = lloco.forward(model, expected['input_ids'][:, :40])
  assert relative_error(actual, expected['plain_logits']) < 1e-4


def test_summaries_of_equal_and_ragged_segments(case):
  model, expected, segments, _ = case
  ids = expected['input_ids']
  for name, lengths in segments.items():
    chosen = {'segment_lengths': lengths}
    if isinstance(lengths, int):
      chosen = {'segment_length': lengths}
    actual = lloco.compress(model, ids, **chosen)
    assert relative_error(actual, expected[f'{name}.summary']) < 5e-4, name


def test_logits_of_segments_behind_summaries(case):
  model, expected, segments, _ = case
  ids = expected['input_ids']
  step = jax.jit(compress_segment, static_argnums=1)
  for name, lengths in segments.items():
    parts, counts = cut(ids, spans(lengths, ids.shape[1]))
    state = init_state(model.config, jnp.zeros((2, 0, 64)))
    actual = []
    for index in range(parts.shape[1]):
      state = grow_prefix(state, 3 * model.config.summary_length)
      count = counts[:, index]
      hidden, state = step(
        model.params, model.config, parts[:, index], count, state
      )
      rows = logits(model.params, model.config, hidden)
      actual.append(rows[:, : count[0]])
    actual = jnp.concatenate(actual, axis=1)
    assert relative_error(actual, expected[f'{name}.logits']) < 5e-4, name


def test_finetuning_loss_and_adapter_logits(case):
  model, expected, _, adapter = case
  ids, labels = expected['finetune.input_ids'], expected['finetune.labels']
  context = expected['finetune.context']
  base = lloco.loss(model, ids, labels, context=context)
  assert relative_error(base, expected['finetune.base_loss']) < 1e-4
  adapted = lloco.loss(model, ids, labels, context=context, adapter=adapter)
  assert relative_error(adapted, expected['adapter.loss']) < 1e-4
  actual = lloco.forward(model, ids, context=context, adapter=adapter)
  size = context.shape[1]
  wanted = expected['adapter.logits'][:, size:]
  assert relative_error(actual, wanted) < 1e-4


def test_adapter_gradients(case):
  model, expected, _, adapter = case
  gradient = jax.grad(
    lambda tree: lloco.loss(
      model,
      expected['finetune.input_ids'],
      expected['finetune.labels'],
      context=expected['finetune.context'],
      adapter=tree,
    )
  )(adapter)
  layers = gradient.weights['layers']['self_attn']
  names = [name for name in expected if name.startswith('adapter.grad.')]
  assert len(names) == len(jax.tree.leaves(gradient)) * len(
    layers['q_proj']['a']
  )
  for name in names:
    layer, _, projection, side, _ = name.split('.')[4:]
    actual = layers[projection][side[-1].lower()][int(layer)].T
    assert relative_error(actual, expected[name]) < 1e-3, name


def test_generated_tokens(case):
  model, expected, _, adapter = case
  prompt = expected['finetune.input_ids'][:, :9]
  context = expected['finetune.context']
  for name, chosen in (('base', None), ('adapter', adapter)):
    tokens = lloco.generate(
      model, prompt, context=context, adapter=chosen, stop_tokens=()
    )
    wanted = expected[f'generate.{name}']
    np.testing.assert_array_equal(wanted[:, :9], prompt)
    np.testing.assert_array_equal(tokens, wanted[:, 9:])


def test_twenty_step_curve(case):
  model, expected, _, adapter = case
  ids, labels = expected['finetune.input_ids'], expected['finetune.labels']
  context = expected['finetune.context']
  optimizer = make_optimizer(
    OptimizerConfig(learning_rate=2e-3, warmup_steps=1), total_steps=20
  )

  @jax.jit
  def step(adapter, state):
    loss, gradient = jax.value_and_grad(
      lambda tree: lloco.loss(model, ids, labels, context=context, adapter=tree)
    )(adapter)
    update, state = optimizer.update(gradient, state, adapter)
    squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)]
    norm = jnp.sqrt(sum(squares))
    return optax.apply_updates(adapter, update), state, loss, norm

  state, losses, norms = optimizer.init(adapter), [], []
  for _ in range(20):
    adapter, state, loss, norm = step(adapter, state)
    losses.append(loss)
    norms.append(norm)
  np.testing.assert_allclose(losses, expected['train.losses'], rtol=1e-3)
  np.testing.assert_allclose(norms, expected['train.grad_norms'], rtol=1e-3)


def test_losses_and_gradients_of_compressor_training(training):
  model, expected, segments, lengths = training

  @jax.jit
  def losses(params):
    hidden, _ = compress_rows(params, model.config, segments, lengths)
    sums, counts = next_token_losses(
      params, model.config, hidden, segments, lengths
    )
    return jnp.sum(sums / counts), sums / counts

  gradient, actual = jax.jit(jax.grad(losses, has_aux=True))(model.params)
  assert relative_error(actual, expected['substep_losses']) < 1e-4
  names = [name for name in expected if name.startswith('grad.')]
  assert 'grad.embed_summary.weight' in names
  for name in names:
    actual = by_huggingface_name(gradient, name.removeprefix('grad.'))
    assert relative_error(actual, expected[name]) < 1e-3, name


@pytest.mark.parametrize('everything', [False, True])
def test_a_compressor_is_trained_on_these_losses(training, everything):
  """With LoRA, which changes nothing yet, and with all parameters."""
  model, expected, segments, lengths = training
  params = dict(model.params)
  table = params.pop('embed_summary')['embedding']
  adapter = init_adapter(model.config, LoraConfig(), jax.random.key(0))
  compressor = Compressor(adapter, table)
  if everything:
    compressor = Compressor(None, table, params)

  def loss(compressor):
    batch = {'segments': segments, 'lengths': lengths}
    total, number = compressor_loss(
      compressor, params, model.config, batch, language=1.0
    )
    return total / number

  value, gradient = jax.jit(jax.value_and_grad(loss))(compressor)
  assert relative_error(value, expected['substep_losses'].sum()) < 1e-4
  found = {'embed_summary': {'embedding': gradient.embed_summary}}
  names = ['grad.embed_summary.weight']
  if everything:
    found |= gradient.base
    names = [name for name in expected if name.startswith('grad.')]
    assert len(names) == 8
  for name in names:
    actual = by_huggingface_name(found, name.removeprefix('grad.'))
    assert relative_error(actual, expected[name]) < 1e-3, name


def by_huggingface_name(params, name):
  """One array of the tree, in Hugging Face layout."""
  parts = name.removeprefix('model.').removesuffix('.weight').split('.')
  if parts[0] != 'layers':
    return next(iter(params[parts[0]].values()))
  _, layer, block, projection = parts
  return params['layers'][block][projection]['kernel'][int(layer)].T
