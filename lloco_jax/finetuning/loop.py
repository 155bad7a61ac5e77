"""The one training loop, of adapters and of the compressor alike."""

from collections.abc import Callable, Iterable, Mapping
import contextlib
import dataclasses
import math
import time
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from lloco_jax.files import named_path
from lloco_jax.finetuning.checkpoints import Checkpoints
from lloco_jax.finetuning.optimizer import (
  OptimizerConfig,
  make_optimizer,
  make_schedule,
)
from lloco_jax.finetuning.tracking import Tracker
from lloco_jax.sharding import place_batch, put

CHECKPOINTS_FOLDER = 'checkpoints'


def integer_positions(batch: dict[str, jax.Array]) -> int:
  """Positions of a microbatch: the size of its largest array of integers."""
  sizes = [x.size for x in batch.values() if np.issubdtype(x.dtype, np.integer)]
  return max(sizes, default=0)


@dataclasses.dataclass(frozen=True)
class Task:
  """What is trained, on what.

  `trainable` holds the initial values, which are copied where they are: on a
  mesh, put them there first. `frozen` goes to the loss as it is and is never
  donated. `loss(trainable, frozen, batch, key)` gives the loss summed over
  the counted tokens of a microbatch, and their number. `batches` is a grain
  dataset of microbatches, mappings of numpy arrays, that repeats as often as
  the steps need and prefetches as much as it likes; of several processes each
  makes its own rows. `batch_sharding` says where a microbatch goes; None is
  the default device.
  """

  trainable: Any
  frozen: Any
  loss: Callable[[Any, Any, dict, jax.Array], tuple[jax.Array, jax.Array]]
  batches: Iterable[dict[str, np.ndarray]]
  batch_sharding: jax.sharding.Sharding | None = None
  positions: Callable[[dict[str, jax.Array]], int] = integer_positions


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """How long and how a task is trained; `TrainingConfig(**config_dict)`.

  A step is one update, from `accumulation` microbatches. `checkpoint_every`
  and `log_every` count steps; with 0 only the last step is saved, and none is
  told. `keep` is the number of checkpoints kept.
  """

  steps: int
  accumulation: int = 1
  seed: int = 0
  checkpoint_every: int = 100
  keep: int = 2
  log_every: int = 10
  tensorboard: bool = True
  optimizer: OptimizerConfig = OptimizerConfig()

  def __post_init__(self):
    if not isinstance(self.optimizer, OptimizerConfig):
      object.__setattr__(self, 'optimizer', OptimizerConfig(**self.optimizer))
    for name in ('steps', 'accumulation', 'keep'):
      if getattr(self, name) < 1:
        raise ValueError(
          f'{name} is {getattr(self, name)}; it must be 1 or more.'
        )
    if not 0 <= self.seed < 2**32:
      raise ValueError(
        f'The seed of training is {self.seed}; it must be from 0 to 2**32 - 1.'
      )


@struct.dataclass
class State:
  """What an update changes; `step` counts the updates made."""

  step: jax.Array
  trainable: Any
  optimizer: Any


@struct.dataclass
class Sums:
  """Sums over the microbatches of one step, and how many there were."""

  gradient: Any
  loss: jax.Array
  weight: jax.Array
  microbatches: jax.Array


def replicated_like(tree) -> jax.sharding.Sharding:
  """A sharding for scalars: every device that the tree's arrays are on."""
  sharding = jax.tree.leaves(tree)[0].sharding
  if isinstance(sharding, jax.sharding.NamedSharding):
    return jax.sharding.NamedSharding(
      sharding.mesh, jax.sharding.PartitionSpec()
    )
  return sharding


def initial_state(trainable, optimizer: optax.GradientTransformation) -> State:
  """A state of its own arrays, each committed to the trainable's devices."""
  trainable = jax.tree.map(jnp.array, trainable)
  everywhere = replicated_like(trainable)

  def place(x):
    named = isinstance(x.sharding, jax.sharding.NamedSharding)
    return put(x, x.sharding if named else everywhere)

  state = State(
    step=jnp.zeros((), jnp.int32),
    trainable=trainable,
    optimizer=optimizer.init(trainable),
  )
  return jax.tree.map(place, state)


def empty_sums(state: State) -> Sums:
  """Zeros, placed as the state is."""

  def zero(dtype):
    return put(jnp.zeros((), dtype), state.step.sharding)

  return Sums(
    gradient=jax.tree.map(
      lambda x: put(jnp.zeros_like(x), x.sharding), state.trainable
    ),
    loss=zero(jnp.float32),
    weight=zero(jnp.float32),
    microbatches=zero(jnp.int32),
  )


def make_steps(
  loss: Callable,
  optimizer: optax.GradientTransformation,
  schedule: Callable,
  state: State,
  sums: Sums,
):
  """The two jitted halves of a step, for arrays placed as those given.

  `accumulate(sums, trainable, step, frozen, batch, key)` adds a microbatch's
  gradient and is compiled once a shape of microbatch; `update(state, sums)`
  is compiled once. Both donate the sums, `update` the state as well.
  """

  def accumulate(sums, trainable, step, frozen, batch, key):
    key = jax.random.fold_in(key, step)
    key = jax.random.fold_in(key, sums.microbatches)
    (loss_sum, weight), gradient = jax.value_and_grad(loss, has_aux=True)(
      trainable, frozen, batch, key
    )
    return Sums(
      gradient=jax.tree.map(jnp.add, sums.gradient, gradient),
      loss=sums.loss + jnp.asarray(loss_sum, jnp.float32),
      weight=sums.weight + jnp.asarray(weight, jnp.float32),
      microbatches=sums.microbatches + 1,
    )

  def update(state, sums):
    gradient = jax.tree.map(lambda g: g / sums.weight, sums.gradient)
    updates, optimizer_state = optimizer.update(
      gradient, state.optimizer, state.trainable
    )
    metrics = {
      'loss': sums.loss / sums.weight,
      'grad_norm': optax.tree.norm(gradient),
      'update_norm': optax.tree.norm(updates),
      'learning_rate': schedule(state.step),
      'tokens': sums.weight,
    }
    state = State(
      step=state.step + 1,
      trainable=optax.apply_updates(state.trainable, updates),
      optimizer=optimizer_state,
    )
    return state, jax.tree.map(jnp.zeros_like, sums), metrics

  # Pinned, or the zeroed sums could come back placed otherwise on a mesh and
  # the next step would compile again.
  state_at, sums_at = jax.tree.map(lambda x: x.sharding, (state, sums))
  return (
    jax.jit(accumulate, donate_argnums=0, out_shardings=sums_at),
    jax.jit(
      update, donate_argnums=(0, 1), out_shardings=(state_at, sums_at, None)
    ),
  )


class Watch:
  """Turns the numbers of a step on the device into a line of metrics.

  Raises:
    FloatingPointError: the loss, the gradient or the update is not finite.
    ValueError: no token of the step is counted.
  """

  def __init__(self, checkpoints: Checkpoints):
    self.checkpoints = checkpoints
    self.start()

  def start(self):
    self.since = time.perf_counter()

  def read(self, step: int, metrics: Mapping, positions: int) -> dict:
    """Waits for the step and checks it."""
    metrics = {k: float(v) for k, v in jax.device_get(metrics).items()}
    now = time.perf_counter()
    seconds, self.since = now - self.since, now
    if metrics['tokens'] == 0:
      raise ValueError(
        f'No token of step {step} is counted in the loss; leave out examples '
        'without an answer, or raise the length that cuts answers off.'
      )
    for name, words in (
      ('loss', 'loss'),
      ('grad_norm', 'gradient norm'),
      ('update_norm', 'norm of the update'),
    ):
      if not math.isfinite(metrics[name]):
        raise FloatingPointError(
          f'The {words} is {metrics[name]} at step {step}, so training '
          f'stopped; {self.last_good()}. Try a lower learning rate.'
        )
    return {
      'step': step,
      **metrics,
      'positions': positions,
      'seconds': seconds,
      'tokens_per_second': metrics['tokens'] / seconds,
      'positions_per_second': positions / seconds,
    }

  def last_good(self) -> str:
    latest = self.checkpoints.latest
    if latest is None:
      return 'no checkpoint had been saved'
    return (
      f'the last good checkpoint is that of step {latest} '
      f'in {self.checkpoints.folder}'
    )


def next_batch(batches, step: int, config: TrainingConfig):
  """The next microbatch; raises ValueError where there is none."""
  try:
    return next(batches)
  except StopIteration:
    raise ValueError(
      f'The batches ended at step {step} of {config.steps}; '
      'repeat the dataset, or train for fewer steps.'
    ) from None


def is_due(step: int, every: int, last: int) -> bool:
  """Whether something happens at a step: every so many, and at the last."""
  return step == last or bool(every) and step % every == 0


def train(task: Task, config: TrainingConfig, workdir) -> Any:
  """Trains a task, from its newest checkpoint in `workdir` if there is one.

  A step's gradient is that of the token mean over all its microbatches. A run
  that was killed and is started again ends with the same bits as one that was
  not.

  Returns:
    The trained values.

  Raises:
    FloatingPointError: loss, gradient or update is not finite; nothing is
      saved then.
    ValueError: the workdir holds another config's run, the batches end early,
      or a step counts no token.
  """
  workdir = named_path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  optimizer = make_optimizer(config.optimizer, config.steps)
  schedule = make_schedule(config.optimizer, config.steps)
  state = initial_state(task.trainable, optimizer)
  sums = empty_sums(state)
  everywhere = state.step.sharding
  key = jax.jit(lambda: jax.random.key(config.seed), out_shardings=everywhere)()
  batches = iter(task.batches)
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(
      contextlib.closing(
        Checkpoints(
          workdir / CHECKPOINTS_FOLDER, config.keep, dataclasses.asdict(config)
        )
      )
    )
    done, trainable, optimizer_state = checkpoints.restore(
      state.trainable, state.optimizer, batches
    ) or (0, state.trainable, state.optimizer)
    step = put(np.int32(done), everywhere)
    state = State(step, trainable, optimizer_state)
    tracker = stack.enter_context(
      contextlib.closing(
        Tracker(
          workdir, done, config.steps, config.log_every, config.tensorboard
        )
      )
    )
    accumulate, update = make_steps(task.loss, optimizer, schedule, state, sums)
    watch = Watch(checkpoints)
    unread = None
    for step in range(done + 1, config.steps + 1):
      positions = 0
      for _ in range(config.accumulation):
        batch = next_batch(batches, step, config)
        batch = place_batch(batch, task.batch_sharding)
        positions += task.positions(batch)
        sums = accumulate(
          sums, state.trainable, state.step, task.frozen, batch, key
        )
      state, sums, metrics = update(state, sums)
      # The step before is read only now, while this one runs.
      if unread:
        tracker.write(watch.read(*unread))
      unread = (step, metrics, positions)
      if is_due(step, config.checkpoint_every, config.steps):
        tracker.write(watch.read(*unread))
        unread = None
        checkpoints.save(step, state.trainable, state.optimizer, batches)
        watch.start()
  return state.trainable
