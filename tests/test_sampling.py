"""Choice of the next token, against probabilities written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import normal

from lloco_jax.generation.sampling import sample

DRAWS = 20_000
draw = jax.jit(
  lambda logits, temperature, top_p: sample(
    jnp.broadcast_to(logits, (DRAWS, logits.shape[-1])),
    jax.random.key(0),
    temperature,
    top_p,
  ),
  static_argnums=(1, 2),
)
# Likeliest first they are tokens 2, 0, 4, 1, 3.
PROBABILITIES = np.array([0.25, 0.1, 0.4, 0.05, 0.2])


def expected(temperature, top_p):
  """Tempered first, then the fewest of the likeliest that reach top_p."""
  tempered = PROBABILITIES ** (1 / temperature)
  tempered /= tempered.sum()
  kept, total = [], 0.0
  for token in np.argsort(-tempered):
    kept.append(token)
    total += tempered[token]
    if total >= top_p:
      break
  chosen = np.zeros(5)
  chosen[kept] = tempered[kept] / total
  return chosen


@pytest.mark.parametrize(
  'temperature, top_p',
  [(1.0, 1.0), (2.0, 1.0), (0.5, 1.0), (1.0, 0.6), (1.0, 0.7), (2.0, 0.6),
   (0.7, 0.01)],
)  # fmt: skip
def test_distribution(temperature, top_p):
  logits = jnp.log(PROBABILITIES) + 3.0
  tokens = draw(logits, temperature, top_p)
  assert tokens.dtype == jnp.int32
  actual = np.bincount(tokens, minlength=5) / DRAWS
  wanted = expected(temperature, top_p)
  assert (actual[wanted == 0] == 0).all()
  error = np.abs(actual - wanted)
  assert (error <= 4.5 * np.sqrt(wanted * (1 - wanted) / DRAWS)).all()


def test_temperature_zero_is_greedy():
  logits = normal(0, 3, 2, 7)
  actual = sample(logits, jax.random.key(0), 0.0, 0.1)
  np.testing.assert_array_equal(actual, np.argmax(logits, axis=-1))


def test_each_row_is_cut_by_its_own_probabilities():
  """A certain row next to a flat one."""
  logits = jnp.stack([jnp.array([0.0, 9.0, 0.0, 0.0]), jnp.zeros(4)])
  keys = jax.random.split(jax.random.key(0), 200)
  tokens = jax.vmap(lambda key: sample(logits, key, 1.0, 0.9))(keys)
  assert set(tokens[:, 0].tolist()) == {1}
  assert set(tokens[:, 1].tolist()) == {0, 1, 2, 3}
