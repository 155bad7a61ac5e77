"""Training of the compressor: values, and where gradients go."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import CONFIG, relative_error

import lloco_jax as lloco
from lloco_jax.data.batches import IGNORED, pack
from lloco_jax.finetuning.compressor import (
  Compressor,
  compress_rows,
  compressor_loss,
  init_compressor,
  next_token_losses,
  with_summary_tokens,
)
from lloco_jax.nn.lora import LoraConfig

K = CONFIG.summary_length
LAST_ONLY = dataclasses.replace(CONFIG, accumulate_summary=False)
LENGTHS = np.array([[6, 4, 5], [5, 6, 0]])
rows = jax.jit(
  compress_rows, static_argnums=1, static_argnames=('substep', 'remat')
)


def segments():
  ids = tiny.ids(0, 2, 3, 6)
  return np.where(np.arange(6) < LENGTHS[..., None], ids, 0)


@pytest.mark.parametrize('config', [CONFIG, LAST_ONLY])
@pytest.mark.parametrize('substep', [1, 2])
def test_vectors_are_those_of_compress(config, substep):
  model, tokens = tiny.model(config), segments()
  hidden, summaries = rows(
    model.params, config, tokens, LENGTHS, substep=substep
  )
  assert hidden.shape == (2, 3, 6, config.hidden_size)
  count = 3 if config.accumulate_summary else 1
  assert summaries.shape == (2, count * K, config.hidden_size)
  for row in range(2 if config.accumulate_summary else 1):
    lengths = [n for n in LENGTHS[row].tolist() if n]
    parts = [tokens[row, i, :n] for i, n in enumerate(lengths)]
    expected = lloco.compress(
      model, np.concatenate(parts), segment_lengths=lengths
    )
    actual = summaries[row, : expected.shape[0]]
    assert relative_error(actual, expected) < 1e-4


def test_gradients_pass_through_a_substep_and_stop_behind_it():
  """Exact zeros: the third segment's loss by the first one's embeddings,
  when a substep is two segments long, and not when it is three."""
  model = tiny.model()
  tokens = np.arange(18, dtype=np.int32).reshape(1, 3, 6)
  lengths = np.full((1, 3), 6)
  table = model.params['embed_tokens']['embedding']

  def loss(table, substep):
    params = {**model.params, 'embed_tokens': {'embedding': table}}
    hidden, _ = compress_rows(params, CONFIG, tokens, lengths, substep=substep)
    return jnp.sum(hidden[:, 2] ** 3)

  slope = jax.jit(jax.grad(loss), static_argnums=1)
  cut = np.abs(slope(table, 2)).max(-1)
  assert (cut[:12] == 0).all() and (cut[12:18] > 0).all()
  whole = np.abs(slope(table, 3)).max(-1)
  assert (whole[:18] > 0).all() and (whole[18:] == 0).all()


@pytest.mark.parametrize('substep', [2, 3])
def test_language_model_losses_of_ragged_rows(substep):
  """Each token from the one before it in its substep, by loops."""
  tokens, params = segments(), tiny.model().params
  hidden = tiny.normal(1, 2, 3, 6, CONFIG.hidden_size)
  log = jax.nn.log_softmax(hidden @ params['lm_head']['kernel'])
  expected = []
  for start in range(0, 3, substep):
    losses = []
    for row in range(2):
      places = [
        (row, index, t)
        for index in range(start, min(start + substep, 3))
        for t in range(LENGTHS[row, index])
      ]
      losses += [
        -log[(*before, tokens[place])]
        for before, place in zip(places, places[1:])
      ]
    expected.append((sum(losses), len(losses)))
  sums, counts = next_token_losses(
    params, CONFIG, hidden, jnp.asarray(tokens), jnp.asarray(LENGTHS), substep
  )
  assert counts.tolist() == [count for _, count in expected]
  for actual, (total, _) in zip(sums, expected):
    np.testing.assert_allclose(actual, total, rtol=1e-4)


def test_a_fresh_compressor_starts_from_the_eos_token():
  model, lora = tiny.model(), LoraConfig(rank=2)
  fresh = init_compressor(model.params, CONFIG, lora, jax.random.key(0))
  row = model.params['embed_tokens']['embedding'][60]
  np.testing.assert_array_equal(fresh.embed_summary, np.tile(row, (K, 1)))
  assert fresh.adapter.rank == 2
  params = with_summary_tokens(model.params, fresh)
  np.testing.assert_array_equal(
    params['embed_summary']['embedding'], fresh.embed_summary
  )
  endless = dataclasses.replace(CONFIG, eos_token_ids=())
  with pytest.raises(ValueError, match='no EOS token'):
    init_compressor(model.params, endless, lora, jax.random.key(0))


def test_loss_is_that_of_the_answers_behind_the_vectors():
  """And the gradient reaches the adapter and the summary tokens; a row
  with fewer segments reads the vectors of those alone."""
  model = tiny.model()
  tokens = segments()
  asked = [
    [(list(tiny.ids(2, 4)), list(tiny.ids(3, 3)))],
    [(list(tiny.ids(4, 3)), list(tiny.ids(5, 2)))],
  ]
  batch = {
    'segments': tokens,
    'lengths': LENGTHS,
    **pack(asked, width_multiple=8, targets_multiple=4),
  }
  compressor = Compressor(tiny.adapter(1), tiny.normal(6, K, 16))

  (total, count), gradient = jax.jit(
    jax.value_and_grad(
      lambda tree: compressor_loss(tree, model.params, CONFIG, batch),
      has_aux=True,
    )
  )(compressor)
  params = with_summary_tokens(model.params, compressor)
  own = dataclasses.replace(model, params=params)
  expected = 0.0
  for row, [(prompt, answer)] in enumerate(asked):
    lengths = [n for n in LENGTHS[row].tolist() if n]
    parts = [tokens[row, i, :n] for i, n in enumerate(lengths)]
    summaries = lloco.compress(
      own,
      np.concatenate(parts),
      segment_lengths=lengths,
      adapter=compressor.adapter,
    )
    mean = lloco.loss(
      own,
      np.array(prompt + answer),
      np.array([IGNORED] * len(prompt) + answer),
      summaries,
      compressor.adapter,
    )
    expected += mean * len(answer)
  assert count == 5
  assert relative_error(total, expected) < 1e-4
  for leaf in jax.tree.leaves(gradient):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0
