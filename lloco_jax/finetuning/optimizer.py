"""AdamW with clipping and warm-up, step for step as torch and transformers."""

from collections.abc import Callable, Mapping
import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

SCHEDULES = ('cosine', 'linear', 'constant')


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """AdamW, its clipping and its learning rate over the steps of a run.

  `warmup_ratio`, a share of all steps, holds where `warmup_steps` is None.
  `clip_norm` 0 does not clip. `rates` multiplies the learning rate of the
  leaves whose path ('layers/self_attn/q_proj/a') a regular expression finds.
  """

  learning_rate: float = 2e-4
  schedule: str = 'cosine'
  warmup_steps: int | None = None
  warmup_ratio: float = 0.0
  weight_decay: float = 0.0
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  clip_norm: float = 1.0
  rates: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    object.__setattr__(self, 'rates', dict(self.rates))
    if self.schedule not in SCHEDULES:
      raise ValueError(
        f'The schedule {self.schedule!r} is unknown; '
        f'choose from {", ".join(SCHEDULES)}.'
      )
    if not 0 <= self.warmup_ratio <= 1:
      raise ValueError(
        f'warmup_ratio is {self.warmup_ratio}; it must be from 0 to 1.'
      )
    for name in ('learning_rate', 'weight_decay', 'clip_norm', 'warmup_steps'):
      if not 0 <= (getattr(self, name) or 0) < math.inf:
        raise ValueError(
          f'{name} is {getattr(self, name)}; it must be a number and not < 0.'
        )
    for name in ('b1', 'b2'):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(
          f'{name} is {getattr(self, name)}; it must be 0 or more, and below 1.'
        )
    if not 0 < self.eps < math.inf:
      raise ValueError(f'eps is {self.eps}; it must be above 0.')


def warmup_steps(config: OptimizerConfig, total_steps: int) -> int:
  """Steps before the full learning rate."""
  if config.warmup_steps is not None:
    return config.warmup_steps
  return math.ceil(config.warmup_ratio * total_steps)


def make_schedule(
  config: OptimizerConfig, total_steps: int
) -> Callable[[jax.Array], jax.Array]:
  """The learning rate by the number of updates already made.

  Linear from 0, so that the first update has rate 0 whenever there is a
  warm-up; then constant, or a line or half cosine that reaches 0 after the last
  step.
  """
  warmup = warmup_steps(config, total_steps)

  def schedule(step):
    step = jnp.asarray(step, jnp.float32)
    rising = step / max(1, warmup)
    full = jnp.ones_like(step)
    progress = (step - warmup) / max(1, total_steps - warmup)
    progress = jnp.minimum(progress, 1)
    if config.schedule == 'cosine':
      full = 0.5 * (1 + jnp.cos(jnp.pi * progress))
    if config.schedule == 'linear':
      full = 1 - progress
    return config.learning_rate * jnp.where(step < warmup, rising, full)

  return schedule


def clip_by_global_norm(clip_norm: float) -> optax.GradientTransformation:
  """Scales the gradient to `clip_norm` where it is longer, as torch does."""

  def update(gradient, state, params=None):
    del params
    norm = optax.tree.norm(gradient)
    scale = jnp.minimum(1.0, clip_norm / (norm + 1e-6))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def path_names(path) -> str:
  """A leaf's place in a tree, as 'layers/self_attn/q_proj/a'."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def decayed(params: Any) -> Any:
  """True for every leaf but biases and norm scales, which never decay."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: not re.search(r'(^|/)(bias|scale)$', path_names(path)),
    params,
  )


def scale_by_path(rates: Mapping[str, float]) -> optax.GradientTransformation:
  """Multiplies the updates of the leaves that each expression finds.

  Raises:
    ValueError: an expression finds no leaf.
  """

  def init(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = [path_names(path) for path, _ in leaves]
    for pattern in rates:
      if not any(re.search(pattern, name) for name in names):
        raise ValueError(
          f'rates names {pattern!r}, which finds nothing among the trained '
          f'leaves; they are {", ".join(names)}.'
        )
    return optax.EmptyState()

  def update(updates, state, params=None):
    del params

    def scale(path, leaf):
      name = path_names(path)
      found = [
        rate for pattern, rate in rates.items() if re.search(pattern, name)
      ]
      return leaf * math.prod(found) if found else leaf

    return jax.tree_util.tree_map_with_path(scale, updates), state

  return optax.GradientTransformation(init, update)


def make_optimizer(
  config: OptimizerConfig, total_steps: int
) -> optax.GradientTransformation:
  """Clipping by the global norm, then AdamW under the schedule."""
  clipping = [clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
  rates = [scale_by_path(config.rates)] if config.rates else []
  return optax.chain(
    *clipping,
    optax.adamw(
      make_schedule(config, total_steps),
      b1=config.b1,
      b2=config.b2,
      eps=config.eps,
      weight_decay=config.weight_decay,
      mask=decayed,
    ),
    *rates,
  )
