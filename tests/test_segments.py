"""Compression against a rerun of everything at every segment."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import CONFIG, ids, model, normal, relative_error

from lloco_jax.compression.segments import (
  check_compressor,
  compress_ids,
  prefix_slots,
  split_length,
)
from lloco_jax.nn.autocompressor import compress_segment, init_state
from lloco_jax.nn.llama import Positions, embed, hidden_states, init_params

LENGTHS = (9, 9, 4, 9, 1, 9)


def laid_out(config, vectors, segment, summary):
  """What is read, in order, and where the summary tokens stand."""
  if not config.summary_interleaved:
    inputs = jnp.concatenate([vectors, segment, summary], axis=1)
    return inputs, np.arange(-summary.shape[1], 0)
  width, count = segment.shape[1], summary.shape[1]
  parts, places, there = [vectors], [], vectors.shape[1]
  for k in range(count):
    run = [i for i in range(width) if i * count // width == k]
    parts += [segment[:, run], summary[:, [k]]]
    there += len(run) + 1
    places.append(there - 1)
  return jnp.concatenate(parts, axis=1), np.array(places)


@functools.partial(jax.jit, static_argnums=(1, 3))
def rerun(params, config, tokens, lengths):
  """Summary vectors as the paper has them: all earlier ones run again."""
  rows = tokens.shape[0]
  summary = params['embed_summary']['embedding']
  summary = jnp.broadcast_to(summary[None], (rows, *summary.shape))
  vectors = summary[:, :0]
  start = 0
  for length in lengths:
    segment = embed(params, tokens[:, start : start + length])
    inputs, places = laid_out(config, vectors, segment, summary)
    positions = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape[:2])
    hidden, _ = hidden_states(
      params, config, inputs, Positions(positions, positions)
    )
    new = hidden[:, places]
    if config.summary_sharpness:
      powers = jnp.exp(
        config.summary_sharpness * new @ params['lm_head']['kernel']
      )
      table = params['embed_tokens']['embedding']
      new = powers @ table / powers.sum(-1, keepdims=True)
    if config.accumulate_summary:
      new = jnp.concatenate([vectors, new], axis=1)
    vectors = new
    start += length
  return vectors


def params_of(config, dtype):
  params = model(config).params
  return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, dtype)), params)


@pytest.mark.parametrize(
  'accumulate, sharpness, interleaved',
  [(1, 0, 0), (0, 0, 0), (1, 0.5, 0), (1, 0, 1), (0, 0, 1)],
)
@pytest.mark.parametrize('dtype, tolerance', [('f8', 1e-9), ('f4', 1e-4)])
def test_kept_prefix_equals_running_it_again(
  accumulate, sharpness, interleaved, dtype, tolerance
):
  config = dataclasses.replace(
    CONFIG,
    accumulate_summary=bool(accumulate),
    summary_sharpness=float(sharpness),
    summary_interleaved=bool(interleaved),
  )
  tokens = ids(0, 2, sum(LENGTHS))
  double = jax.enable_x64(True) if dtype == 'f8' else contextlib.nullcontext()
  with double:
    params = params_of(config, dtype)
    actual = compress_ids(params, config, tokens, LENGTHS)
    expected = rerun(params, config, tokens, LENGTHS)
    assert actual.dtype == expected.dtype == np.dtype(dtype)
    assert relative_error(actual, expected) < tolerance
    # Earlier segments matter, or the rerun would prove little.
    alone = compress_ids(params, config, tokens[:, -9:], [9])
    assert relative_error(alone, expected[:, -3:]) > 1e-2


@pytest.mark.parametrize('interleaved', [True, False])
def test_padding_changes_no_vector(interleaved):
  config = dataclasses.replace(CONFIG, summary_interleaved=interleaved)
  tokens, lengths = ids(2, 3, 11), (11, 7, 2)
  with jax.enable_x64(True):
    params = params_of(config, 'f8')
    earlier = jnp.asarray(normal(3, 3, 3, config.hidden_size), 'f8')

    def vectors(rows, tokens, lengths):
      _, state = jax.jit(compress_segment, static_argnums=1)(
        params,
        config,
        jnp.asarray(tokens),
        jnp.asarray(lengths),
        init_state(config, earlier[rows], 3),
      )
      return state.vectors

    together = vectors(slice(None), tokens, lengths)
    for row, length in enumerate(lengths):
      rows = slice(row, row + 1)
      alone = vectors(rows, tokens[rows, :length], [length])
      assert relative_error(together[rows], alone) < 1e-9


@pytest.mark.parametrize('accumulate', [True, False])
def test_continued_document_equals_one_go(accumulate):
  config = dataclasses.replace(CONFIG, accumulate_summary=accumulate)
  tokens = ids(1, 2, sum(LENGTHS))
  with jax.enable_x64(True):
    params = params_of(config, 'f8')
    whole = compress_ids(params, config, tokens, LENGTHS)
    for split in (1, 3, 5):
      length = sum(LENGTHS[:split])
      earlier = compress_ids(
        params, config, tokens[:, :length], LENGTHS[:split]
      )
      rest = compress_ids(
        params, config, tokens[:, length:], LENGTHS[split:], earlier=earlier
      )
      joined = rest
      if accumulate:
        joined = jnp.concatenate([earlier, rest], axis=1)
      assert relative_error(joined, whole) < 1e-9


def test_split_length():
  assert split_length(25, 10) == [10, 10, 5]
  assert split_length(20, 10) == [10, 10]
  assert split_length(3, 10) == [3]
  assert split_length(7, segment_lengths=[3, 4]) == [3, 4]
  for arguments in ((0, 10), (5, 0), (5, 10, [3, 3]), (5, 10, [5, 0])):
    with pytest.raises(ValueError):
      split_length(*arguments)


def test_prefix_slots_hold_the_vectors_in_few_sizes():
  slots = [prefix_slots(CONFIG, segments) for segments in range(81)]
  assert slots[0] == 0
  for segments in range(1, 81):
    assert slots[segments] >= segments * CONFIG.summary_length
    if segments > 4:
      assert slots[segments] < 1.5 * segments * CONFIG.summary_length
  assert len(set(slots)) == 11
  last_only = dataclasses.replace(CONFIG, accumulate_summary=False)
  assert prefix_slots(last_only, 7) == 0


def test_checkpoint_without_summary_tokens_is_refused():
  check_compressor(CONFIG)
  with pytest.raises(ValueError, match='no summary tokens'):
    check_compressor(dataclasses.replace(CONFIG, summary_length=0))


def test_of_a_layer_only_the_vectors_are_kept():
  """More layers need no more memory beside them, as the compiler says."""

  def temporary(layers, width=256):
    config = dataclasses.replace(CONFIG, num_hidden_layers=layers)
    count = config.summary_length
    params, state = jax.eval_shape(
      lambda: (
        init_params(config, jax.random.key(0)),
        init_state(config, jnp.zeros((1, count, config.hidden_size)), count),
      )
    )

    def step(params, prefix, rest, tokens):
      lengths = jnp.full((1,), width, jnp.int32)
      state = rest.replace(prefix=prefix)
      return compress_segment(params, config, tokens, lengths, state)[1]

    tokens = jax.ShapeDtypeStruct((1, width), jnp.int32)
    lowered = jax.jit(step, donate_argnums=1).lower(
      params, state.prefix, state.replace(prefix=None), tokens
    )
    return lowered.compile().memory_analysis().temp_size_in_bytes

  assert temporary(layers=64) < 1.1 * temporary(layers=2)
