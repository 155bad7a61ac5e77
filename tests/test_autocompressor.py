"""Compression against running everything again, and reading packed rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import CONFIG, relative_error

import lloco_jax as lloco
from lloco_jax.finetuning.compressor import compress_rows
from lloco_jax.nn import autocompressor, llama
from lloco_jax.nn.autocompressor import (
  compress_segment,
  grow_prefix,
  init_state,
  read,
)
from lloco_jax.nn.visibility import UNSEEN

K = CONFIG.summary_length
LAST_ONLY = dataclasses.replace(CONFIG, accumulate_summary=False)
step = jax.jit(compress_segment, static_argnums=1)
jitted_read = jax.jit(read, static_argnums=1)


def rerun(params, config, ids, lengths, adapter=None):
  """The definition: every segment behind all vectors before it, from none
  of which anything is kept."""
  batch = ids.shape[0]
  dtype = params['norm']['scale'].dtype
  vectors, start = jnp.zeros((batch, 0, config.hidden_size), dtype), 0
  for length in lengths:
    token_embeddings = llama.embed(params, ids[:, start : start + length])
    summary_tokens = params['embed_summary']['embedding']
    x = jnp.concatenate(
      [
        vectors,
        token_embeddings,
        jnp.tile(summary_tokens, (batch, 1, 1)),
      ],
      axis=1,
    )
    where = jnp.tile(jnp.arange(x.shape[1]), (batch, 1))
    hidden, _ = llama.hidden_states(
      params, config, x, llama.Positions(where, where), adapter
    )
    new = hidden[:, -config.summary_length :]
    vectors = (
      jnp.concatenate([vectors, new], axis=1)
      if config.accumulate_summary
      else new
    )
    start += length
  return vectors


@pytest.mark.parametrize('config', [CONFIG, LAST_ONLY])
def test_kept_prefix_equals_the_full_rerun(config):
  ids, lengths = tiny.ids(0, 2, 29), [8, 8, 8, 5]
  model = tiny.model(config)
  expected = jax.jit(lambda: rerun(model.params, config, ids, lengths))()
  actual = lloco.compress(model, ids, segment_lengths=lengths)
  assert relative_error(actual, expected) < 1e-4
  with jax.enable_x64(True):
    params = jax.tree.map(lambda x: x.astype('float64'), model.params)
    wide = dataclasses.replace(model, params=params)
    expected = jax.jit(lambda: rerun(params, config, ids, lengths))()
    actual = lloco.compress(wide, ids, segment_length=8)
    assert actual.dtype == expected.dtype == np.float64
    assert relative_error(actual, expected) < 1e-9


def test_an_adapter_compresses_too():
  ids, lengths = tiny.ids(0, 2, 13), [8, 5]
  model, adapter = tiny.model(), tiny.adapter(1)
  expected = jax.jit(
    lambda: rerun(model.params, CONFIG, ids, lengths, adapter)
  )()
  actual = lloco.compress(model, ids, segment_lengths=lengths, adapter=adapter)
  assert relative_error(actual, expected) < 1e-4
  plain = lloco.compress(model, ids, segment_lengths=lengths)
  assert relative_error(plain, expected) > 0.01


def ragged(padding_token):
  """Two segments of three rows; returns the vectors of both."""
  model = tiny.model()
  lengths = np.array([[8, 3], [5, 8], [8, 1]])
  segments = tiny.ids(1, 3, 2, 8)
  segments = np.where(
    np.arange(8) < lengths[..., None], segments, padding_token
  )
  state = init_state(CONFIG, jnp.zeros((3, 0, CONFIG.hidden_size)))
  vectors, hiddens = [], []
  for index in range(2):
    state = grow_prefix(state, 2 * K)
    hidden, state = step(
      model.params, CONFIG, segments[:, index], lengths[:, index], state
    )
    vectors.append(state.vectors)
    hiddens.append(hidden)
  return segments, lengths, jnp.concatenate(vectors, axis=1), hiddens


def test_ragged_rows_equal_each_row_alone():
  segments, lengths, vectors, _ = ragged(padding_token=7)
  for row in range(3):
    parts = [segments[row, i, : lengths[row, i]] for i in range(2)]
    alone = lloco.compress(
      tiny.model(), np.concatenate(parts), segment_lengths=lengths[row]
    )
    assert relative_error(vectors[row], alone) < 1e-4


def test_padding_tokens_have_no_influence():
  _, lengths, one, hidden = ragged(padding_token=7)
  _, _, other, hidden_too = ragged(padding_token=31)
  np.testing.assert_array_equal(one, other)
  for index in range(2):
    for row in range(3):
      there = slice(0, lengths[row, index])
      np.testing.assert_array_equal(
        hidden[index][row, there], hidden_too[index][row, there]
      )


@pytest.mark.parametrize('interleaved', [False, True])
def test_rows_of_lanes_are_those_of_odd_lengths(interleaved, monkeypatch):
  """What a TPU's compiler wants behind a segment changes and shows nothing."""
  config = dataclasses.replace(CONFIG, summary_interleaved=interleaved)
  model, lengths = tiny.model(), np.array([[8, 3], [5, 8]])
  segments = tiny.ids(1, 2, 2, 8)
  results = []
  for multiple in (1, 16):
    monkeypatch.setattr(
      autocompressor, 'row_padding', lambda size, m=multiple: -size % m
    )
    results.append(
      jax.jit(lambda params: compress_rows(params, config, segments, lengths))(
        model.params
      )
    )
  (hidden, vectors), (padded_hidden, padded_vectors) = results
  assert (
    padded_hidden.shape == hidden.shape == (2, 2, 8 + K, CONFIG.hidden_size)
  )
  assert relative_error(padded_vectors, vectors) < 1e-5
  there = np.concatenate(
    [np.arange(8) < lengths[..., None], np.ones((2, 2, K), bool)], axis=-1
  )
  assert relative_error(padded_hidden[there], hidden[there]) < 1e-5


def test_empty_slots_have_no_influence():
  """A prefix with more room gives the same vectors."""
  model, ids = tiny.model(), tiny.ids(2, 1, 16)
  results = []
  for slots in (K, 4 * K):
    state = init_state(CONFIG, jnp.zeros((1, 0, CONFIG.hidden_size)))
    for index in range(2):
      state = grow_prefix(state, slots)
      _, state = step(
        model.params,
        CONFIG,
        ids[:, 8 * index : 8 * index + 8],
        jnp.full(1, 8),
        state,
      )
    assert state.prefix.key.shape[2] == slots
    assert int(state.prefix_length) == K
    results.append(state.vectors)
  assert relative_error(*results) < 1e-5
  assert grow_prefix(state, 1) is state


@pytest.mark.parametrize('config', [CONFIG, LAST_ONLY])
def test_a_continued_document_equals_one_in_one_go(config):
  model, ids = tiny.model(config), tiny.ids(3, 2, 29)
  whole = lloco.compress(model, ids, segment_length=8)
  earlier = lloco.compress(model, ids[:, :16], segment_length=8)
  later = lloco.compress(model, ids[:, 16:], segment_length=8, earlier=earlier)
  if config.accumulate_summary:
    later = jnp.concatenate([earlier, later], axis=1)
  assert relative_error(later, whole) < 1e-4
  alone = lloco.compress(model, ids[:, 16:], segment_length=8)
  assert relative_error(alone, later[:, -alone.shape[1] :]) > 0.01
  single = lloco.compress(
    model, ids[1, 16:], segment_length=8, earlier=earlier[1]
  )
  assert relative_error(single, later[1, -single.shape[0] :]) < 1e-4


def test_vectors_depend_on_what_is_before_them_alone():
  """Exact zeros in the gradient by the tokens of a later segment."""
  model, ids = tiny.model(), tiny.ids(4, 1, 16)
  table = model.params['embed_tokens']['embedding']
  ids = np.arange(16, dtype=np.int32)[None]  # each token once

  def vector(table, which):
    params = {**model.params, 'embed_tokens': {'embedding': table}}
    state = init_state(CONFIG, jnp.zeros((1, 0, CONFIG.hidden_size)))
    vectors = []
    for index in range(2):
      state = grow_prefix(state, K)
      part = ids[:, 8 * index : 8 * index + 8]
      _, state = compress_segment(params, CONFIG, part, jnp.full(1, 8), state)
      vectors.append(state.vectors)
    return jnp.sum(vectors[which] ** 3)

  slope = jax.jit(jax.grad(vector), static_argnums=1)
  first = np.abs(slope(table, 0)).max(-1)
  assert (first[:8] > 0).all() and (first[8:] == 0).all()
  second = np.abs(slope(table, 1)).max(-1)
  assert (second[:16] > 0).all() and (second[16:] == 0).all()


def test_a_prefix_without_room_is_refused():
  state = init_state(CONFIG, jnp.zeros((1, K, CONFIG.hidden_size)))
  with pytest.raises(ValueError, match='0 slots for 3 vectors'):
    compress_segment(
      tiny.model().params,
      CONFIG,
      jnp.zeros((1, 4), jnp.int32),
      jnp.full(1, 4),
      state,
    )


def test_padded_contexts_equal_exact_ones():
  model, tokens = tiny.model(), tiny.ids(5, 3, 7)
  context = 5 * tiny.normal(6, 3, 6, CONFIG.hidden_size)
  lengths = [6, 2, 0]
  hidden, _, positions = jitted_read(
    model.params, CONFIG, tokens, context, jnp.asarray(lengths)
  )
  actual = llama.logits(model.params, CONFIG, hidden[:, 6:])
  for row, length in enumerate(lengths):
    exact = lloco.forward(model, tokens[row], context[row, :length])
    assert relative_error(actual[row], exact) < 1e-4
    seen = positions.key[row] != UNSEEN
    assert (
      seen.tolist() == [True] * length + [False] * (6 - length) + [True] * 7
    )


def test_packed_questions_equal_one_row_a_question():
  """A question sees the context and itself; so does a shorter one."""
  model = tiny.model()
  context = tiny.normal(7, 1, 5, CONFIG.hidden_size)
  questions = [tiny.ids(8, 4), tiny.ids(9, 6)]
  tokens = np.concatenate([*questions, [0, 0]]).astype(np.int32)[None]
  offsets = np.array([[*range(4), *range(6), UNSEEN, UNSEEN]], np.int32)
  groups = np.array([[1] * 4 + [2] * 6 + [0] * 2], np.int32)
  hidden, _, _ = jitted_read(
    model.params, CONFIG, tokens, context, jnp.full(1, 4), offsets, groups
  )
  actual = llama.logits(model.params, CONFIG, hidden[:, 5:])[0]
  for question, place in zip(questions, (slice(0, 4), slice(4, 10))):
    alone = lloco.forward(model, question, context[0, :4])
    assert relative_error(actual[place], alone) < 1e-4
