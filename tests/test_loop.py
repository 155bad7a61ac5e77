"""The training loop on a toy task: what it computes, and that it resumes."""

import contextlib
import dataclasses
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from lloco_jax.finetuning import loop
from lloco_jax.finetuning.loop import Task, TrainingConfig, train
from lloco_jax.finetuning.optimizer import OptimizerConfig

ADAM = OptimizerConfig(learning_rate=0.05, warmup_steps=2)
TOY_STEPS = 24
FOUR_DEVICES = '--xla_force_host_platform_device_count=4'


def regression_batches(rows=4, lengths=(3,), seed=0):
  """Endless microbatches of a fixed linear map, of several lengths."""
  rng = np.random.default_rng(seed)
  target = rng.normal(size=(5, 2)).astype(np.float32)

  def batch(index):
    rng = np.random.default_rng((seed, index))
    length = lengths[index % len(lengths)]
    x = rng.normal(size=(rows, length, 5)).astype(np.float32)
    return {
      'x': x,
      'y': x @ target,
      'tokens': np.zeros((rows, length), np.int32),
      'counted': (rng.random((rows, length)) < 0.7).astype(np.float32),
    }

  dataset = grain.MapDataset.range(12).map(batch)
  return dataset.repeat().to_iter_dataset(
    grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
  )


def regression_loss(trainable, frozen, batch, key):
  x = batch['x'] * frozen['scale']
  x = jnp.where(jax.random.bernoulli(key, frozen['keep'], x.shape), x, 0)
  hidden = jnp.tanh(x @ trainable['a'])
  error = jnp.square(hidden @ trainable['b'] - batch['y']).sum(-1)
  return (error * batch['counted']).sum(), batch['counted'].sum()


def regression(keep=1.0, loss=regression_loss, **kwargs):
  rng = np.random.default_rng(1)
  return Task(
    trainable={
      'a': jnp.asarray(rng.normal(size=(5, 8)), jnp.float32),
      'b': jnp.asarray(rng.normal(size=(8, 2)), jnp.float32),
    },
    frozen={'scale': jnp.float32(0.5), 'keep': jnp.float32(keep)},
    loss=loss,
    batches=regression_batches(**kwargs),
  )


def settings(steps=12, **kwargs):
  kwargs.setdefault('tensorboard', False)
  kwargs.setdefault('log_every', 0)
  kwargs.setdefault('optimizer', ADAM)
  return TrainingConfig(steps=steps, **kwargs)


class Stopped(Exception):
  pass


def stopping(task, microbatches):
  """The task, stopped when it has read so many microbatches and one more."""
  read = []

  def positions(batch):
    if len(read) == microbatches:
      raise Stopped
    read.append(loop.integer_positions(batch))
    return read[-1]

  return dataclasses.replace(task, positions=positions)


def record_steps(monkeypatch):
  """The jitted halves of every run, which then refuse implicit transfers."""
  made = []
  make_steps = loop.make_steps

  def guarded(step):
    def call(*args):
      with jax.transfer_guard('disallow'):
        return step(*args)

    return call

  def recorded(*args):
    made.append(make_steps(*args))
    return tuple(guarded(step) for step in made[-1])

  monkeypatch.setattr(loop, 'make_steps', recorded)
  return made


def toy_run(workdir):
  config = settings(TOY_STEPS, checkpoint_every=2, log_every=10, accumulation=2)
  return train(regression(keep=0.8, lengths=(3, 5)), config, workdir)


def start_script(name, workdir, **environment):
  """One of the scripts at this file's end, in a process of its own."""
  python_path = os.pathsep.join(path for path in sys.path if path)
  return subprocess.Popen(
    [sys.executable, __file__, name, str(workdir)],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': python_path, **environment},
  )


def metrics_of(workdir):
  text = (Path(workdir) / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def assert_same_bits(left, right):
  for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_loss_falls(tmp_path):
  task = regression()
  train(task, settings(60), tmp_path)
  losses = [line['loss'] for line in metrics_of(tmp_path)]
  assert [line['step'] for line in metrics_of(tmp_path)] == list(range(1, 61))
  assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
  assert not task.trainable['a'].is_deleted()
  assert not task.frozen['scale'].is_deleted()


def test_accumulated_microbatches_equal_one_batch(tmp_path):
  small = regression(rows=4)
  stream = iter(small.batches)
  groups = [[next(stream) for _ in range(4)] for _ in range(3)]
  large = [
    {
      name: np.concatenate([batch[name] for batch in group])
      for name in group[0]
    }
    for group in groups
  ]
  whole = Task(
    small.trainable,
    small.frozen,
    small.loss,
    grain.MapDataset.source(large).repeat(),
  )
  accumulated = train(small, settings(20, accumulation=4), tmp_path / 'a')
  at_once = train(whole, settings(20), tmp_path / 'b')
  for name in accumulated:
    np.testing.assert_allclose(
      accumulated[name], at_once[name], rtol=1e-6, atol=1e-6
    )
  for left, right in zip(
    metrics_of(tmp_path / 'a'), metrics_of(tmp_path / 'b')
  ):
    for name in ('loss', 'grad_norm'):
      assert left[name] == pytest.approx(right[name], rel=1e-5)
    assert left['tokens'] == right['tokens']
    assert left['positions'] == right['positions'] == 4 * 4 * 3


def test_metrics_are_those_before_the_update(tmp_path):
  task = regression()
  batch = jax.tree.map(jnp.asarray, next(iter(task.batches)))

  def mean(trainable):
    total, count = task.loss(trainable, task.frozen, batch, jax.random.key(0))
    return total / count

  loss, gradient = jax.value_and_grad(mean)(task.trainable)
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradient.values()))
  train(task, settings(1), tmp_path)
  (line,) = metrics_of(tmp_path)
  assert norm > ADAM.clip_norm
  assert line['loss'] == pytest.approx(float(loss), rel=1e-5)
  assert line['grad_norm'] == pytest.approx(float(norm), rel=1e-5)
  assert line['learning_rate'] == 0
  assert line['tokens'] == batch['counted'].sum()
  assert line['seconds'] > 0
  assert line['tokens_per_second'] == line['tokens'] / line['seconds']


def test_dropout_differs_by_step_and_microbatch(tmp_path):
  def key_bits(trainable, frozen, batch, key):
    bits = jax.random.bits(key, (), jnp.uint16).astype(jnp.float32)
    return bits + 0 * trainable['a'].sum(), 1.0

  config = settings(6)
  train(regression(loss=key_bits), config, tmp_path / 'one')
  drawn = [line['loss'] for line in metrics_of(tmp_path / 'one')]
  assert len(set(drawn)) == 6
  two = settings(3, accumulation=2)
  train(regression(loss=key_bits), two, tmp_path / 'two')
  means = [line['loss'] for line in metrics_of(tmp_path / 'two')]
  assert means[0] != drawn[0]  # Equal, if both microbatches drew the same.
  other = settings(6, seed=1)
  train(regression(loss=key_bits), other, tmp_path / 'other')
  assert drawn[0] != metrics_of(tmp_path / 'other')[0]['loss']


@pytest.mark.parametrize('accumulation', [1, 3])
def test_resumed_run_equals_uninterrupted(tmp_path, accumulation):
  """Dropout, data order and Adam's moments all go on where they were."""
  config = settings(14, accumulation=accumulation, checkpoint_every=4)
  task = regression(keep=0.8, lengths=(3, 5))
  whole = train(task, config, tmp_path / 'whole')
  with pytest.raises(Stopped):
    train(stopping(task, 10 * accumulation), config, tmp_path / 'parts')
  # The tenth step is not told before the eleventh runs.
  assert [line['step'] for line in metrics_of(tmp_path / 'parts')][-1] == 9
  # Steps 9 to 14, which one microbatch fewer would stop.
  resumed = train(stopping(task, 6 * accumulation), config, tmp_path / 'parts')
  assert_same_bits(whole, resumed)
  for left, right in zip(
    metrics_of(tmp_path / 'whole'), metrics_of(tmp_path / 'parts'), strict=True
  ):
    for name in ('step', 'loss', 'grad_norm', 'learning_rate', 'tokens'):
      assert left[name] == right[name]


def test_finished_run_is_not_repeated(tmp_path, capsys):
  task, config = regression(), settings(3, log_every=1, checkpoint_every=0)
  first = train(task, config, tmp_path)
  assert 'step 3/3' in capsys.readouterr().out
  before = metrics_of(tmp_path)
  assert_same_bits(first, train(task, config, tmp_path))
  assert metrics_of(tmp_path) == before
  assert capsys.readouterr().out == 'Going on from step 3 of 3.\n'


@pytest.mark.parametrize(
  'kills', [(8,), pytest.param((1, 4, 7, 10, 13), marks=pytest.mark.slow)]
)
def test_killed_run_equals_uninterrupted(tmp_path, kills):
  """SIGKILL at chance moments, most of them while something is saved."""
  whole = toy_run(tmp_path / 'whole')
  workdir = tmp_path / 'killed'
  metrics = workdir / 'metrics.jsonl'
  chance = np.random.default_rng()
  for lines in kills:
    process = start_script('killed', workdir)
    try:
      while process.poll() is None:
        if metrics.exists() and metrics.read_bytes().count(b'\n') >= lines:
          break
        time.sleep(0.001)
      time.sleep(chance.uniform(0, 0.05))
    finally:
      process.kill()
      process.communicate()
    assert process.returncode == -signal.SIGKILL, 'it ended before the kill'
  process = start_script('killed', workdir)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 0
  assert 'Going on from step' in output
  assert_same_bits(whole, dict(np.load(workdir / 'final.npz')))
  lines, expected = metrics_of(workdir), metrics_of(tmp_path / 'whole')
  assert [line['step'] for line in lines] == list(range(1, TOY_STEPS + 1))
  assert [line['loss'] for line in lines] == [line['loss'] for line in expected]


def poisoned(at):
  """A loss that is not a number from the microbatch numbered `at` on."""

  def batch(index):
    x = np.full((2, 3, 5), 1.0 if index < at else np.nan, np.float32)
    return {'x': x, 'y': x[..., :2], 'counted': np.ones((2, 3), np.float32)}

  task = regression()
  return Task(
    task.trainable,
    task.frozen,
    task.loss,
    grain.MapDataset.range(100).map(batch),
  )


def test_nan_stops_and_keeps_the_good_checkpoint(tmp_path):
  config = settings(20, checkpoint_every=2)
  with pytest.raises(
    FloatingPointError, match='loss is nan at step 7'
  ) as caught:
    train(poisoned(at=6), config, tmp_path)
  assert 'last good checkpoint is that of step 6' in str(caught.value)
  assert [line['step'] for line in metrics_of(tmp_path)] == [1, 2, 3, 4, 5, 6]
  good = train(poisoned(at=6), settings(6), tmp_path / 'good')
  assert np.isfinite(good['a']).all()
  folders = sorted(path.name for path in (tmp_path / 'checkpoints').iterdir())
  assert folders == ['4', '6']


def test_nan_is_never_saved_at_its_own_step(tmp_path):
  with pytest.raises(FloatingPointError, match='at step 4.* no checkpoint'):
    train(poisoned(at=3), settings(20, checkpoint_every=4), tmp_path)
  assert not list((tmp_path / 'checkpoints').iterdir())


def test_infinite_gradient_of_a_finite_loss_stops(tmp_path):
  def loss(trainable, frozen, batch, key):
    return jnp.sqrt(jnp.sum(trainable['a'] * 0)), 1.0

  with pytest.raises(
    FloatingPointError, match='gradient norm is nan at step 1'
  ):
    train(regression(loss=loss), settings(3), tmp_path)


def test_an_update_that_is_not_finite_is_not_saved(tmp_path):
  """Loss and gradient of its step are; the first step's rate is 0."""
  config = settings(3, checkpoint_every=1)
  optimizer = dataclasses.replace(config.optimizer, learning_rate=1e30)
  config = dataclasses.replace(config, optimizer=optimizer)
  with pytest.raises(
    FloatingPointError, match='norm of the update is inf at step 2, .* step 1 '
  ):
    train(regression(), config, tmp_path)
  folders = [path.name for path in (tmp_path / 'checkpoints').iterdir()]
  assert folders == ['1']


def test_step_without_a_counted_token_is_named(tmp_path):
  def loss(trainable, frozen, batch, key):
    return 0 * trainable['a'].sum(), 0.0

  with pytest.raises(ValueError, match='No token of step 1 is counted'):
    train(regression(loss=loss), settings(3), tmp_path)


def test_batches_that_end_early_are_named(tmp_path):
  task = regression()
  batches = grain.MapDataset.source([next(iter(task.batches))] * 5)
  task = Task(task.trainable, task.frozen, task.loss, batches)
  with pytest.raises(ValueError, match='batches ended at step 3 of 4'):
    train(task, settings(4, accumulation=2), tmp_path)


def test_workdir_of_another_config_is_refused(tmp_path):
  train(regression(), settings(2), tmp_path)
  with pytest.raises(ValueError, match='optimizer.learning_rate was 0.05, now'):
    optimizer = OptimizerConfig(learning_rate=0.1, warmup_steps=2)
    train(regression(), settings(2, optimizer=optimizer), tmp_path)
  train(regression(), settings(2, keep=5), tmp_path)


def test_one_program_a_shape_and_one_update(tmp_path, monkeypatch):
  made = record_steps(monkeypatch)
  task = regression(lengths=(3, 5, 7))
  config = settings(9, accumulation=2, checkpoint_every=3)
  train(task, config, tmp_path / 'run')
  ((accumulate, update),) = made
  assert accumulate._cache_size() == 3
  assert update._cache_size() == 1


def test_run_goes_on_sharded_over_other_devices(tmp_path):
  """Saved on one device, resumed on a mesh of four: same result and shapes."""
  process = start_script('mesh', tmp_path, XLA_FLAGS=FOUR_DEVICES)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 0
  assert json.loads(output) == {'accumulate': 2, 'update': 1, 'devices': 4}
  config = settings(6, checkpoint_every=3)
  whole = train(regression(lengths=(3, 5)), config, tmp_path / 'whole')
  sharded = np.load(tmp_path / 'final.npz')
  for name in whole:
    np.testing.assert_allclose(sharded[name], whole[name], rtol=1e-5, atol=1e-6)


def test_each_step_donates_what_it_replaces(tmp_path):
  task = regression()
  optimizer = optax.sgd(0.1)
  state = loop.initial_state(task.trainable, optimizer)
  sums = loop.empty_sums(state)
  accumulate, update = loop.make_steps(
    task.loss, optimizer, lambda step: 0.1, state, sums
  )
  batch, key = next(iter(task.batches)), jax.random.key(0)
  added = accumulate(sums, state.trainable, state.step, task.frozen, batch, key)
  assert sums.gradient['a'].is_deleted()
  assert not state.trainable['a'].is_deleted()
  update(state, added)
  assert added.gradient['a'].is_deleted()
  assert state.trainable['a'].is_deleted()
  assert not task.trainable['a'].is_deleted()
  assert not task.frozen['scale'].is_deleted()


def test_loop_holds_one_copy_of_the_state(tmp_path, monkeypatch):
  held, make_steps = [], loop.make_steps

  def watched(*args):
    accumulate, update = make_steps(*args)

    def holding(*args):
      state, *others = update(*args)
      held.append(state.trainable)
      return state, *others

    return accumulate, holding

  monkeypatch.setattr(loop, 'make_steps', watched)
  train(regression(), settings(3), tmp_path)
  assert [tree['a'].is_deleted() for tree in held] == [True, True, False]


def test_settings_come_from_a_config_dict(tmp_path):
  config = ml_collections.ConfigDict(
    {'steps': 2, 'log_every': 0, 'tensorboard': False}
  )
  config.optimizer = {'learning_rate': 1.0, 'rates': {'a': 2.0}}
  settings = TrainingConfig(**config)
  assert settings.optimizer == OptimizerConfig(1.0, rates={'a': 2.0})
  train(regression(), settings, tmp_path)
  with pytest.raises(ValueError, match='accumulation is 0'):
    TrainingConfig(steps=5, accumulation=0)


def killed_script(workdir):
  np.savez(workdir / 'final.npz', **jax.device_get(toy_run(workdir)))


def mesh_script(workdir):
  plain = regression(lengths=(3, 5))
  config = settings(6, checkpoint_every=3)
  with contextlib.suppress(Stopped):
    train(stopping(plain, 4), config, workdir)
  made = []
  make_steps = loop.make_steps
  loop.make_steps = lambda *args: made.append(make_steps(*args)) or made[-1]
  axes = (jax.sharding.AxisType.Auto,)
  mesh = jax.make_mesh((4,), ('fsdp',), axis_types=axes)

  def over(*names):
    spec = jax.sharding.PartitionSpec(*names)
    return jax.sharding.NamedSharding(mesh, spec)

  places = {'a': over(None, 'fsdp'), 'b': over('fsdp', None)}
  task = Task(
    jax.device_put(plain.trainable, places),
    jax.device_put(plain.frozen, over()),
    plain.loss,
    plain.batches,
    batch_sharding=over('fsdp'),
  )
  trained = train(task, config, workdir)
  assert {name: x.sharding for name, x in trained.items()} == places
  np.savez(workdir / 'final.npz', **jax.device_get(trained))
  ((accumulate, update),) = made
  counts = {
    'accumulate': accumulate._cache_size(),
    'update': update._cache_size(),
    'devices': jax.device_count(),
  }
  print(json.dumps(counts))


if __name__ == '__main__':
  {'killed': killed_script, 'mesh': mesh_script}[sys.argv[1]](Path(sys.argv[2]))
