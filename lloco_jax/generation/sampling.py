"""Choice of the next token from logits."""

import dataclasses
import math
import numbers
import operator

import jax
import jax.numpy as jnp
import numpy as np

# Tokens among which the likeliest is looked for one at a time.
RUN = 128
LEAST_TEMPERATURE = 1e-30


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How tokens are chosen: `sample`'s settings, and the seed of its choices.

  A temperature above 0 is at least 1e-30, below which logits would overflow;
  the seed is an integer of 64 bits with a sign.

  Raises:
    ValueError: a value is out of its range.
  """

  temperature: float = 0.0
  top_p: float = 1.0
  seed: int = 0

  def __post_init__(self):
    for name in ('temperature', 'top_p'):
      value = getattr(self, name)
      if not isinstance(value, numbers.Real):
        raise ValueError(f'{name} is {value!r}; it must be a number.')
    if self.temperature != 0 and not self.temperature >= LEAST_TEMPERATURE:
      raise ValueError(
        f'temperature is {self.temperature}; it must be 0, which is greedy, or '
        f'at least {LEAST_TEMPERATURE:g}.'
      )
    if not 0 < self.top_p <= 1:
      raise ValueError(
        f'top_p is {self.top_p}; it must be above 0 and at most 1.'
      )
    whole = isinstance(self.seed, numbers.Integral)
    if not whole or not -(2**63) <= self.seed < 2**63:
      raise ValueError(
        f'seed is {self.seed!r}; it must be an integer of 64 bits.'
      )

  @property
  def key(self) -> jax.Array:
    """The key of the seed; of one below 2**32 that of `jax.random.key`."""
    low, high = (np.uint32(self.seed >> bits & 0xFFFFFFFF) for bits in (0, 32))
    key = jax.random.key(low)
    return jax.random.fold_in(key, high) if high else key


GREEDY = Sampling()


def stop_ids(tokens) -> tuple[int, ...]:
  """Token ids that end an answer, sorted, each once.

  Raises:
    ValueError: they are no token ids.
  """
  try:
    return tuple(sorted({operator.index(token) for token in tokens}))
  except TypeError as error:
    raise ValueError(
      f'stop_tokens is {tokens!r}; it must be a list of token ids.'
    ) from error


def likeliest(logits):
  """int32 ids [...] of the largest of logits [..., V], the first if equal.

  A CPU looks for the index one number at a time, for the largest at many. So
  the largest of each run of tokens tell the run to look at.
  """
  run = math.gcd(logits.shape[-1], RUN)
  parts = logits.reshape(*logits.shape[:-1], -1, run)
  best = jnp.argmax(jnp.max(parts, axis=-1), axis=-1)
  own = jnp.take_along_axis(parts, best[..., None, None], axis=-2)[..., 0, :]
  return (best * run + jnp.argmax(own, axis=-1)).astype(jnp.int32)


def sample(logits, key, temperature: float = 0.0, top_p: float = 1.0):
  """Token ids [...] from logits [..., V].

  Temperature 0 is greedy. `top_p` keeps the smallest set of tokens whose
  probability reaches it, the likeliest one always. `key` is one for all
  tokens, or one [...] for each: then what is chosen for one does not depend
  on how many there are.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  if temperature == 0:
    return likeliest(logits)
  logits = logits / temperature
  if top_p < 1:
    logits = _keep_likeliest(logits, top_p)
  choose = jax.random.categorical
  for _ in range(key.ndim):
    choose = jax.vmap(choose)
  return choose(key, logits).astype(jnp.int32)


def sample_rows(logits, keys, temperature, top_p):
  """Token ids [B] from logits [B, V]: `sample` with settings by the row.

  `keys`, `temperature` and `top_p` are [B]. What is drawn for a row is what
  `sample` draws for it; where all rows are greedy nothing is drawn.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  greedy = likeliest(logits)

  def cut(scores):
    part = _keep_likeliest(scores, top_p[:, None])
    return jnp.where(top_p[:, None] < 1, part, scores)

  def draw():
    scores = logits / jnp.where(temperature > 0, temperature, 1)[:, None]
    scores = jax.lax.cond(jnp.any(top_p < 1), cut, lambda x: x, scores)
    drawn = jax.vmap(jax.random.categorical)(keys, scores)
    return jnp.where(temperature > 0, drawn.astype(jnp.int32), greedy)

  return jax.lax.cond(jnp.any(temperature > 0), draw, lambda: greedy)


def _keep_likeliest(logits, top_p):
  """The logits, -inf for tokens outside the set that `top_p` keeps."""
  ordered = jnp.sort(logits, axis=-1, descending=True)
  probability = jax.nn.softmax(ordered, axis=-1)
  before = jnp.cumsum(probability, axis=-1) - probability
  kept = jnp.sum(before < top_p, axis=-1, keepdims=True)
  least = jnp.take_along_axis(ordered, jnp.maximum(kept, 1) - 1, axis=-1)
  return jnp.where(logits < least, -jnp.inf, logits)


def keys_of_step(key, step):
  """The key, or each key of an array, for a step of decoding."""

  def fold(key):
    return jax.random.fold_in(key, step)

  for _ in range(key.ndim):
    fold = jax.vmap(fold)
  return fold(key)
