"""Choice of the next token, against probabilities written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import normal

from lloco_jax.generation.sampling import (
  Sampling,
  keys_of_step,
  likeliest,
  sample,
  sample_rows,
)

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


@pytest.mark.parametrize('vocabulary', [512, 96, 61])
def test_the_likeliest_is_the_first_of_the_largest(vocabulary):
  logits = np.random.default_rng(0).integers(0, 9, (40, 2, vocabulary))
  logits = logits.astype(np.float32)
  logits[0] = -np.inf
  actual = likeliest(jnp.asarray(logits))
  assert actual.dtype == jnp.int32
  np.testing.assert_array_equal(actual, np.argmax(logits, axis=-1))


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


def test_a_key_each_makes_a_choice_its_own():
  """What is drawn for a row does not depend on the rows beside it."""
  logits = normal(1, 2, 30, 7)
  keys = jax.random.split(jax.random.key(3), (2, 30))
  tokens = sample(logits, keys, 1.3, 0.9)
  assert tokens.shape == (2, 30) and tokens.dtype == jnp.int32
  for row, place in ((0, 0), (1, 29), (1, 4)):
    alone = sample(logits[row, place], keys[row, place], 1.3, 0.9)
    assert tokens[row, place] == alone
  same = sample(jnp.broadcast_to(logits[0, 0], (2, 30, 7)), keys, 1.3)
  assert len(set(same.ravel().tolist())) > 2


def test_keys_of_a_step():
  keys = jax.random.split(jax.random.key(0), (2, 3))
  folded = keys_of_step(keys, 5)
  for place in np.ndindex(2, 3):
    assert folded[place] == keys_of_step(keys[place], 5)
    assert folded[place] == jax.random.fold_in(keys[place], 5)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'temperature': -0.1}, 'temperature is -0.1; it must be 0, '),
    ({'temperature': float('nan')}, 'temperature is nan'),
    ({'top_p': 0.0}, 'top_p is 0.0; it must be above 0'),
    ({'top_p': 1.1}, 'top_p is 1.1'),
    ({'seed': 2**70}, 'seed is 1180591620717411303424; it must be an integer'),
    ({'seed': 0.5}, 'seed is 0.5'),
  ],
)
def test_bad_settings(fields, message):
  with pytest.raises(ValueError, match=message):
    Sampling(**fields)


def test_rows_with_settings_of_their_own_draw_what_they_draw_alone():
  settings = [(0.0, 1.0), (1.0, 1.0), (2.0, 0.6), (0.0, 0.5), (0.5, 0.9)]
  keys = jax.random.split(jax.random.key(3), len(settings))
  choose = jax.jit(sample_rows)
  seen = set()
  for seed in range(5):
    logits = 2 * normal(seed, len(settings), 50)
    temperature, top_p = map(jnp.asarray, zip(*settings))
    actual = choose(logits, keys, temperature, top_p)
    assert actual.dtype == jnp.int32
    for row, (heat, share) in enumerate(settings):
      # One row of one question, as `lloco.generate` has it.
      alone = sample(logits[None, row : row + 1], keys[row], heat, share)
      assert actual[row] == alone[0, 0]
    seen.add(int(actual[2] != jnp.argmax(logits[2])))
    greedy = choose(logits, keys, 0 * temperature, top_p)
    np.testing.assert_array_equal(greedy, np.argmax(logits, axis=-1))
  assert 1 in seen
