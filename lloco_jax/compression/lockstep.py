"""The documents of one batch, compressed segment by segment together."""

from collections.abc import Iterator
import functools

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.compression.schedule import CompressionConfig, segment_program
from lloco_jax.compression.segments import (
  compress_step,
  prefix_slots,
  split_length,
)
from lloco_jax.nn.autocompressor import (
  CompressionState,
  extend_prefix,
  grow_prefix,
  init_state,
)
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import Positions, hidden_states
from lloco_jax.nn.visibility import UNSEEN
from lloco_jax.sharding import place_rows, to_host


@functools.partial(jax.jit, static_argnames=('config',), donate_argnums=2)
def _keep(params, config, prefix, start, vectors):
  batch, count, _ = vectors.shape
  slots = jnp.arange(prefix.key.shape[2])
  rows = (batch, count)
  query = jnp.broadcast_to(start + jnp.arange(count), rows)
  seen = jnp.where(slots < start, slots, UNSEEN)
  seen = jnp.broadcast_to(seen, (batch, slots.size))
  key = jnp.concatenate([seen, query], axis=1).astype(jnp.int32)
  positions = Positions(query.astype(jnp.int32), key)
  _, new = hidden_states(params, config, vectors, positions, cache=prefix)
  return extend_prefix(prefix, new, start)


def keep_vectors(
  params: dict, config: LlamaConfig, state: CompressionState
) -> CompressionState:
  """Runs a state's vectors into its prefix, whose old buffers are given up.

  `compress_segment` does this together with a segment. On its own it is one
  program for vectors that were just made and for stored ones, so that a
  document which is continued gets the bits of one compressed in one go.
  """
  start, count = state.prefix_length, state.vectors.shape[1]
  prefix = _keep(params, config, state.prefix, start, state.vectors)
  return CompressionState(prefix, start + count, state.vectors[:, :0])


def compress_batch(
  params: dict,
  network: LlamaConfig,
  config: CompressionConfig,
  documents: list[np.ndarray],
  known: list[tuple[int, np.ndarray | None]],
) -> Iterator[tuple[int, list[tuple[int, np.ndarray]]]]:
  """Compresses documents in lockstep, each in a row of its own.

  Args:
    params, network: the compressor.
    config: its `rows` is at least the number of documents.
    documents: token ids [T] of each.
    known: of each, how many segments have their vectors already, and the
      vectors as `Store.longest_prefix` gives them.

  Yields:
    After every segment index: how many tokens were read there, and the row
    and the vectors [n, D] of each document that is done with it.
  """
  lengths = [split_length(len(ids), config.segment_length) for ids in documents]
  dtype = params['norm']['scale'].dtype
  state = init_state(
    network, jnp.zeros((config.rows, 0, network.hidden_size), dtype)
  )
  made = []
  for index in range(max(map(len, lengths))):
    if index and network.accumulate_summary:
      state = grow_prefix(state, prefix_slots(network, index))
      state = keep_vectors(params, network, state)
    waiting = state.vectors
    vectors = place_rows(
      jnp.asarray(_known_vectors(network, config.rows, known, index), dtype)
    )
    calls = _calls(network, config, documents, lengths, known, index)
    for tokens, filled in calls:
      state = compress_step(
        params,
        network,
        place_rows(tokens),
        place_rows(filled),
        state.replace(vectors=waiting),
      )
      mine = place_rows((filled > 0)[:, None, None])
      vectors = jnp.where(mine, state.vectors, vectors)
    state = state.replace(vectors=vectors)
    # One step behind, so that the next is on its way meanwhile.
    jax.block_until_ready(made[-1:])
    made.append(vectors)
    read = sum(int(filled.sum()) for _, filled in calls)
    yield (
      read,
      [
        (row, _gather(network, made, row))
        for row, mine in enumerate(lengths)
        if len(mine) == index + 1
      ],
    )


def _known_vectors(network, rows, known, index) -> np.ndarray:
  """Vectors [rows, K, D] of segment `index` as far as they are known."""
  count = network.summary_length
  found = np.zeros((rows, count, network.hidden_size), np.float64)
  for row, (segments, vectors) in enumerate(known):
    if network.accumulate_summary and index < segments:
      found[row] = vectors[index * count : (index + 1) * count]
    elif index == segments - 1:
      found[row] = vectors
  return found


def _calls(network, config, documents, lengths, known, index):
  """Padded tokens [rows, T] and lengths [rows], once for each padded length.

  Rows that another call reads, or that read nothing here, have length 0.
  """
  calls = {}
  for row, mine in enumerate(lengths):
    if not known[row][0] <= index < len(mine):
      continue
    width = segment_program(network, config, index, mine[index]).width
    if width not in calls:
      calls[width] = (
        np.zeros((config.rows, width), np.int32),
        np.zeros((config.rows,), np.int32),
      )
    tokens, filled = calls[width]
    start = index * config.segment_length
    tokens[row, : mine[index]] = documents[row][start : start + mine[index]]
    filled[row] = mine[index]
  return list(calls.values())


def _gather(network, made, row) -> np.ndarray:
  """The vectors of a row of all segments so far, or of the last one."""
  if not network.accumulate_summary:
    return to_host(made[-1])[row]
  made[:] = [to_host(vectors) for vectors in made]
  return np.concatenate([vectors[row] for vectors in made])
