"""AdamW, clipping and schedules against torch and transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from references import need_torch

from lloco_jax.finetuning.optimizer import (
  OptimizerConfig,
  make_optimizer,
  make_schedule,
)


def quadratic_data(seed=0):
  rng = np.random.default_rng(seed)
  params = {
    'kernel': rng.normal(size=(6, 4)).astype(np.float32),
    'scale': rng.normal(size=(4,)).astype(np.float32),
  }
  inputs = rng.normal(size=(20, 8, 6)).astype(np.float32)
  targets = 3 * rng.normal(size=(20, 8, 4)).astype(np.float32)
  return params, inputs, targets


def run(config, params, inputs, targets):
  """Losses and norms before each update, and the values after the last."""
  optimizer = make_optimizer(config, len(inputs))
  params = jax.tree.map(jnp.asarray, params)
  state = optimizer.init(params)

  def loss(params, x, y):
    return jnp.square(x @ params['kernel'] * params['scale'] - y).mean()

  losses, norms = [], []
  for x, y in zip(inputs, targets):
    value, gradient = jax.value_and_grad(loss)(params, x, y)
    losses.append(float(value))
    norms.append(float(optax.tree.norm(gradient)))
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  return losses, norms, params


@pytest.mark.parametrize('schedule', ['cosine', 'linear', 'constant'])
@pytest.mark.parametrize('warmup', [0, 1, 7])
def test_schedule_equals_transformers(schedule, warmup):
  torch = need_torch()
  import transformers

  config = OptimizerConfig(
    learning_rate=3e-3, schedule=schedule, warmup_steps=warmup
  )
  ours = make_schedule(config, 25)
  optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-3)
  if schedule == 'cosine':
    theirs = transformers.get_cosine_schedule_with_warmup(optimizer, warmup, 25)
  elif schedule == 'linear':
    theirs = transformers.get_linear_schedule_with_warmup(optimizer, warmup, 25)
  else:
    theirs = transformers.get_constant_schedule_with_warmup(optimizer, warmup)
  for step in range(26):
    rate = theirs.get_last_lr()[0]
    assert float(ours(step)) == pytest.approx(rate, rel=1e-5, abs=1e-9), step
    optimizer.step()
    theirs.step()


def test_warmup_ratio_is_a_share_of_all_steps():
  config = OptimizerConfig(learning_rate=1.0, warmup_ratio=0.11)
  schedule = make_schedule(config, 30)  # ceil(3.3) = 4 steps
  rates = [float(schedule(step)) for step in range(6)]
  assert rates[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
  assert rates[5] < 1


def test_training_equals_torch():
  """Adam, decay of the kernel alone, and clipping that bites on most steps."""
  torch = need_torch()
  import transformers

  params, inputs, targets = quadratic_data()
  config = OptimizerConfig(
    learning_rate=5e-2,
    warmup_steps=1,
    weight_decay=0.1,
    b1=0.8,
    b2=0.95,
    eps=1e-4,
    clip_norm=1.5,
  )
  losses, norms, trained = run(config, params, inputs, targets)

  kernel, scale = (
    torch.nn.Parameter(torch.from_numpy(params[name].copy()))
    for name in ('kernel', 'scale')
  )
  groups = [
    {'params': [kernel], 'weight_decay': 0.1},
    {'params': [scale], 'weight_decay': 0.0},
  ]
  optimizer = torch.optim.AdamW(groups, lr=5e-2, betas=(0.8, 0.95), eps=1e-4)
  schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 1, 20)
  clipped = 0
  for step, (x, y) in enumerate(zip(inputs, targets)):
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    loss = torch.square(x @ kernel * scale - y).mean()
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([kernel, scale], 1.5)
    clipped += norm.item() > 1.5
    assert losses[step] == pytest.approx(loss.item(), rel=1e-5)
    assert norms[step] == pytest.approx(norm.item(), rel=1e-5)
    optimizer.step()
    schedule.step()
  assert 0 < clipped < 20
  np.testing.assert_allclose(trained['kernel'], kernel.detach(), atol=1e-5)
  np.testing.assert_allclose(trained['scale'], scale.detach(), atol=1e-5)


def test_clipping_can_be_left_out():
  params, inputs, targets = quadratic_data()
  one = slice(0, 3)
  results = [
    run(OptimizerConfig(clip_norm=norm, eps=1.0), params, inputs[one], targets)
    for norm in (0.0, 1e6, 0.1)
  ]
  kernels = [np.asarray(trained['kernel']) for _, _, trained in results]
  np.testing.assert_allclose(kernels[0], kernels[1], rtol=1e-6)
  assert np.abs(kernels[0] - kernels[2]).max() > 1e-5


def test_rates_multiply_the_learning_rate_of_what_they_find():
  params = {'embed_summary': {'embedding': jnp.ones(3)}, 'a': jnp.ones(3)}
  gradient = jax.tree.map(jnp.ones_like, params)
  config = OptimizerConfig(schedule='constant', rates={'^embed_summary/': 10.0})
  optimizer = make_optimizer(config, 5)
  updates, _ = optimizer.update(gradient, optimizer.init(params), params)
  np.testing.assert_allclose(
    updates['embed_summary']['embedding'], 10 * updates['a'], rtol=1e-6
  )


def test_rates_that_find_nothing_are_refused():
  config = OptimizerConfig(rates={'embed_sumary': 10.0})
  with pytest.raises(ValueError, match="'embed_sumary', which finds nothing"):
    make_optimizer(config, 5).init({'embed_summary': jnp.ones(3)})


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'schedule': 'step'}, "'step' is unknown; choose from cosine"),
    ({'learning_rate': -1.0}, 'learning_rate is -1.0'),
    ({'learning_rate': float('nan')}, 'learning_rate is nan'),
    ({'warmup_ratio': 3.0}, 'warmup_ratio is 3.0'),
    ({'b2': 1.0}, 'b2 is 1.0'),
    ({'eps': 0.0}, 'eps is 0.0'),
  ],
)
def test_impossible_settings_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    OptimizerConfig(**fields)
