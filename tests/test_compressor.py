"""Training of the compressor: values, and where gradients go."""

import dataclasses
import functools

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
from lloco_jax.finetuning.naming import naming_loss
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
  assert hidden.shape == (2, 3, 6 + K, config.hidden_size)
  count = 3 if config.accumulate_summary else 1
  assert summaries.shape == (2, count * K, config.hidden_size)
  for row in range(2):
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
  # Behind the tokens stand the summary tokens, which predict nothing.
  hidden = tiny.normal(1, 2, 3, 6 + K, CONFIG.hidden_size)
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


def asked():
  """Questions behind each of two contexts."""
  first, second = (tiny.ids(2, 4), tiny.ids(3, 3)), (tiny.ids(4, 3), [5, 6])
  return [[tuple(map(list, question))] for question in (first, second)]


def answer_loss(model, parts, question, adapter):
  """Of one question behind the summaries of some rows, step by step."""
  summaries = []
  for row in parts:
    lengths = [n for n in LENGTHS[row].tolist() if n]
    ids = [segments()[row, i, :n] for i, n in enumerate(lengths)]
    summaries.append(
      lloco.compress(
        model, np.concatenate(ids), segment_lengths=lengths, adapter=adapter
      )
    )
  prompt, answer = question
  mean = lloco.loss(
    model,
    np.array(prompt + answer),
    np.array([IGNORED] * len(prompt) + answer),
    jnp.concatenate(summaries),
    adapter,
  )
  return mean * len(answer)


@pytest.mark.parametrize('config', [CONFIG, LAST_ONLY])
def test_loss_is_that_of_the_answers_behind_the_vectors(config):
  """A row with fewer segments reads the vectors of those alone."""
  model = tiny.model(config)
  batch = {
    'segments': segments(),
    'lengths': LENGTHS,
    **pack(asked(), width_multiple=8, targets_multiple=4),
  }
  compressor = Compressor(tiny.adapter(1), tiny.normal(6, K, 16))
  total, count = jax.jit(
    lambda tree: compressor_loss(tree, model.params, config, batch)
  )(compressor)
  params = with_summary_tokens(model.params, compressor)
  own = dataclasses.replace(model, params=params)
  expected = sum(
    answer_loss(own, [row], question, compressor.adapter)
    for row, [question] in enumerate(asked())
  )
  # Answers have five tokens; what is read says what the mean counts for.
  assert count == np.sum(LENGTHS)
  assert relative_error(total / count, expected / 5) < 1e-4


def test_gradients_reach_the_adapter_and_the_summary_tokens():
  """Through the vectors: the gradient of the summary tokens shows it."""
  params = tiny.model().params
  batch = {
    'segments': segments()[:, :1],
    'lengths': LENGTHS[:, :1],
    **pack(asked(), width_multiple=8, targets_multiple=4),
  }
  gradient = jax.jit(
    jax.grad(lambda tree: compressor_loss(tree, params, CONFIG, batch)[0])
  )(Compressor(tiny.adapter(1), tiny.normal(6, K, 16)))
  for leaf in jax.tree.leaves(gradient):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


@pytest.mark.parametrize('config', [CONFIG, LAST_ONLY])
def test_one_question_behind_the_vectors_of_two_rows(config):
  """Of which the first has fewer segments, so that a gap would show."""
  model = tiny.model(config)
  turned = [1, 0]
  batch = {
    'segments': segments()[turned],
    'lengths': LENGTHS[turned],
    **pack(asked()[:1], width_multiple=8, targets_multiple=4),
  }
  compressor = Compressor(
    tiny.adapter(1), model.params['embed_summary']['embedding']
  )
  total, count = jax.jit(
    lambda tree: compressor_loss(tree, model.params, config, batch)
  )(compressor)
  [question] = asked()[0]
  expected = answer_loss(model, turned, question, compressor.adapter)
  expected /= len(question[1])
  assert relative_error(total / count, expected) < 1e-4


def test_naming_is_predicting_each_vectors_share_of_its_segment():
  """By loops; padding is not named, rare tokens weigh more."""
  params = tiny.model().params
  states = tiny.normal(1, 2, 3, K, CONFIG.hidden_size)
  log = jax.nn.log_softmax(states @ params['lm_head']['kernel'])
  weights = np.arange(1.0, CONFIG.vocab_size + 1)
  for width, rarity in ((6, None), (6, weights), (5, weights)):
    tokens, lengths = segments()[..., :width], np.minimum(LENGTHS, width)
    expected = []
    for row, index, share in np.ndindex(2, 3, K):
      length = lengths[row, index]
      there = [t for t in range(length) if t * K // length == share]
      if there:
        ids = [tokens[row, index, t] for t in there]
        weight = np.ones(len(ids)) if rarity is None else rarity[ids]
        found = np.array([log[row, index, share, token] for token in ids])
        expected.append(-(found * weight).sum() / weight.sum())
    total, count = naming_loss(params, CONFIG, states, tokens, lengths, rarity)
    assert count == len(expected)
    np.testing.assert_allclose(total, sum(expected), rtol=1e-4)


def test_vectors_may_name_the_last_tokens():
  """By loops; a segment shorter than its vectors has no tokens for some."""
  params, tokens = tiny.model().params, segments()
  lengths = np.array([[6, K - 1, 5], [5, 6, 0]])
  states = tiny.normal(1, 2, 3, K, CONFIG.hidden_size)
  log = jax.nn.log_softmax(states @ params['lm_head']['kernel'])
  expected = []
  for row, index, vector in np.ndindex(2, 3, K):
    place = lengths[row, index] - K + vector
    if place >= 0:
      token = tokens[row, index, place]
      expected.append(-log[row, index, vector, token])
  total, count = naming_loss(params, CONFIG, states, tokens, lengths, last=True)
  assert count == len(expected)
  np.testing.assert_allclose(total, sum(expected), rtol=1e-4)


def test_answers_text_and_naming_are_weighed_means():
  model = tiny.model()
  rest = {'segments': segments(), 'lengths': LENGTHS}
  batch = {**rest, **pack(asked(), width_multiple=8, targets_multiple=4)}
  compressor = Compressor(tiny.adapter(1), tiny.normal(6, K, 16))

  @functools.partial(jax.jit, static_argnames=('language', 'naming'))
  def loss(batch, language=0.0, naming=0.0):
    return compressor_loss(
      compressor,
      model.params,
      CONFIG,
      batch,
      language=language,
      naming=naming,
    )

  answers, count = loss(batch)
  named, vectors = loss(rest, naming=1.0)
  spoken, tokens = loss(rest, language=1.0)
  # Substeps of two segments: each predicts all but its first token.
  # Of what is read, whatever is asked about it.
  assert count == vectors == tokens == np.sum(LENGTHS)
  for language, naming in ((0.0, 0.5), (2.0, 0.0), (2.0, 0.5)):
    total, weight = loss(batch, language, naming)
    expected = answers / count + language * spoken / tokens
    expected += naming * named / vectors
    np.testing.assert_allclose(total / weight, expected, rtol=1e-5)
  total, weight = loss(rest, language=2.0, naming=0.5)
  expected = 2 * spoken / tokens + 0.5 * named / vectors
  np.testing.assert_allclose(total / weight, expected, rtol=1e-5)
  with pytest.raises(ValueError, match='nothing to learn'):
    loss(rest)
