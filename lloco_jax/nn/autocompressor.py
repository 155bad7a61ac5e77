"""The AutoCompressor: text in, summary vectors out, segment by segment.

A segment is read behind the summary vectors of the segments before it, and
its own come from the final hidden states at the summary tokens appended to it
(Chevalier et al. 2023, section 3; Tan et al. 2024, section 3.1), or spread over
it (`summary_interleaved`). Earlier vectors stand at the same positions every
time and see only what is before them, so their keys and values never change:
they are kept, and only [new vectors | segment | summary tokens] runs.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp

from lloco_jax.nn.attention import row_padding
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import (
  KeyValues,
  Positions,
  embed,
  hidden_states,
  logits,
)
from lloco_jax.nn.lora import Adapter
from lloco_jax.nn.placement import constrain
from lloco_jax.nn.visibility import SHARED, UNSEEN

# Of [L, B, S, K, H].
_PREFIX_AXES = (None, 'batch', None, 'kv_heads', None)


@struct.dataclass
class CompressionState:
  """What the next segment needs to know of those before it.

  `prefix` holds keys and values of the vectors that have run, of which the
  first `prefix_length` slots are filled; `vectors` [B, n, D] have not run.
  """

  prefix: KeyValues
  prefix_length: jax.Array
  vectors: jax.Array


def init_state(
  config: LlamaConfig, vectors, prefix_slots: int = 0
) -> CompressionState:
  """The state behind summary vectors [B, n, D] that have not run yet.

  With n = 0 it is the start of a document; with the vectors of a stored
  document it is where that document goes on.
  """
  batch, _, _ = vectors.shape
  shape = (
    config.num_hidden_layers,
    batch,
    prefix_slots,
    config.num_key_value_heads,
    config.head_dim,
  )
  prefix = KeyValues(
    jnp.zeros(shape, vectors.dtype), jnp.zeros(shape, vectors.dtype)
  )
  return CompressionState(prefix, jnp.int32(0), vectors)


def grow_prefix(state: CompressionState, slots: int) -> CompressionState:
  """The same state with room for at least `slots` kept vectors."""
  missing = slots - state.prefix.key.shape[2]
  if missing <= 0:
    return state
  return state.replace(prefix=_pad_prefix(state.prefix, missing))


# Jitted, or on a mesh the first prefix would be made on one device alone.
@functools.partial(jax.jit, static_argnames='slots')
def _pad_prefix(prefix: KeyValues, slots: int) -> KeyValues:
  pad = ((0, 0), (0, 0), (0, slots), (0, 0), (0, 0))
  return jax.tree.map(
    lambda leaf: constrain(jnp.pad(leaf, pad), *_PREFIX_AXES), prefix
  )


def extend_prefix(prefix: KeyValues, new: KeyValues, start) -> KeyValues:
  """Writes the keys and values of new vectors from slot `start` on."""

  def write(kept, now):
    kept = jax.lax.dynamic_update_slice_in_dim(kept, now, start, axis=2)
    return constrain(kept, *_PREFIX_AXES)

  return jax.tree.map(write, prefix, new)


def compress_segment(
  params: dict,
  config: LlamaConfig,
  tokens,
  lengths,
  state: CompressionState,
  adapter: Adapter | None = None,
  dropout_key=None,
  remat: str = 'none',
):
  """Reads one segment of every row and writes its summary vectors.

  Args:
    params: the compressor's parameters, layers stacked.
    config: its config; `summary_length` is the number of vectors, K.
    tokens: [B, T] ids, padded on the right.
    lengths: [B] tokens that count in each row.
    state: of the segments before; its prefix needs room for its vectors.
    adapter: compresses with an adapter (training of a compressor).
    dropout_key: turns the adapter's dropout on.
    remat: see nn/remat.py.

  Returns:
    Hidden states [B, T + K, D] of the segment's and the summary tokens; and
    the next state, whose `vectors` [B, K, D] are the segment's summary
    vectors.
  """
  given = tokens.shape[1]
  pending = state.vectors.shape[1]
  count = config.summary_length
  extra = row_padding(pending + given + count)
  tokens = jnp.pad(tokens, ((0, 0), (0, extra)))
  batch, width = tokens.shape
  slots = jnp.arange(state.prefix.key.shape[2])
  if config.accumulate_summary and slots.size < pending:
    raise ValueError(
      f'The prefix has {slots.size} slots for {pending} vectors; '
      'call grow_prefix first.'
    )
  dtype = state.vectors.dtype
  summary_tokens = jnp.broadcast_to(
    params['embed_summary']['embedding'].astype(dtype),
    (batch, count, config.hidden_size),
  )
  embeddings = jnp.concatenate(
    [state.vectors, embed(params, tokens).astype(dtype), summary_tokens],
    axis=1,
  )

  start = state.prefix_length
  column = jnp.arange(width)
  rows = (batch, pending)
  vector_positions = jnp.broadcast_to(start + jnp.arange(pending), rows)
  segment_positions = jnp.broadcast_to(start + pending + column, (batch, width))
  ends = lengths[:, None]
  if config.summary_interleaved:
    ends = run_ends(lengths, count)
    segment_positions += owners(lengths, count, width)
  summary_positions = start + pending + ends + jnp.arange(count)
  query = jnp.concatenate(
    [vector_positions, segment_positions, summary_positions], axis=1
  )
  padding = column >= lengths[:, None]
  prefix_positions = jnp.where(slots < start, slots, UNSEEN)
  key = jnp.concatenate(
    [
      jnp.broadcast_to(prefix_positions, (batch, slots.size)),
      vector_positions,
      jnp.where(padding, UNSEEN, segment_positions),
      summary_positions,
    ],
    axis=1,
  ).astype(jnp.int32)
  query = query.astype(jnp.int32)
  if config.summary_interleaved:
    # As they are read, or slots would not tell attention the mask.
    order = jnp.argsort(key[:, slots.size :], axis=1, stable=True)
    query = jnp.take_along_axis(query, order, axis=1)
    own = jnp.take_along_axis(key[:, slots.size :], order, axis=1)
    key = jnp.concatenate([key[:, : slots.size], own], axis=1)
    embeddings = jnp.take_along_axis(embeddings, order[..., None], axis=1)

  hidden, new = hidden_states(
    params,
    config,
    embeddings,
    Positions(query, key),
    adapter,
    cache=state.prefix if slots.size else None,
    dropout_key=dropout_key,
    remat=remat,
    kept=pending,
  )
  if config.summary_interleaved:
    back = jnp.argsort(order, axis=1)
    hidden = jnp.take_along_axis(hidden, back[..., None], axis=1)
  segment, summary = jnp.split(hidden[:, pending:], [width], axis=1)
  hidden = jnp.concatenate([segment[:, :given], summary], axis=1)
  summaries = summary_vectors(params, config, summary)
  summaries = constrain(summaries, 'batch', None, None)
  if config.accumulate_summary and slots.size:
    keep = extend_prefix(state.prefix, new, start)
    state = CompressionState(keep, start + pending, summaries)
  else:
    state = state.replace(vectors=summaries)
  return hidden, state


def run_ends(lengths, count: int) -> jax.Array:
  """Where the runs of a segment end that its vectors stand for.

  Args:
    lengths: [...] tokens of the segments.
    count: vectors of each, K.

  Returns:
    [..., K] tokens up to the end of each of K runs, as equal as can be; some
    are empty where there are fewer tokens than vectors.
  """
  return -(-jnp.arange(1, count + 1) * lengths[..., None] // count)


def owners(lengths, count: int, width: int) -> jax.Array:
  """The vector [..., T], from 0 up, in whose run each token is; K behind."""
  ends = run_ends(lengths, count)
  column = jnp.arange(width)[:, None]
  return jnp.sum(ends[..., None, :] <= column, axis=-1)


def summary_vectors(params: dict, config: LlamaConfig, states) -> jax.Array:
  """Final hidden states [..., D] at summary tokens -> vectors [..., D].

  The states themselves, or mean embeddings: see `summary_sharpness` in
  nn/config.py.
  """
  if not config.summary_sharpness:
    return states
  wide = jnp.promote_types(states.dtype, jnp.float32)
  scores = logits(params, config, states).astype(wide)
  shares = jax.nn.softmax(config.summary_sharpness * scores)
  table = params['embed_tokens']['embedding'].astype(states.dtype)
  return jnp.einsum('...v,vd->...d', shares.astype(states.dtype), table)


def read(
  params: dict,
  config: LlamaConfig,
  tokens,
  context,
  context_lengths=None,
  offsets=None,
  groups=None,
  adapter: Adapter | None = None,
  adapter_ids=None,
  dropout_key=None,
  remat: str = 'none',
  free: int | None = None,
):
  """Reads tokens behind a context of summary vectors or embeddings.

  Several questions can be packed into a row: `offsets` counts each from its
  own first token, and `groups` keeps them from seeing one another.

  Args:
    params: base parameters, layers stacked.
    config: the base's config.
    tokens: [B, T] ids.
    context: [B, C, D], padded on the right; C may be 0.
    context_lengths: [B] vectors that count; None for all of them.
    offsets: [B, T] position behind the context, UNSEEN for padding; None
      for 0, 1, 2, ...
    groups: [B, T] from 1 up, SHARED for all to see; None without packing.
    adapter, adapter_ids, dropout_key, remat, free: see `hidden_states`.

  Returns:
    Hidden states [B, C + T, D] of context and tokens, their keys and
    values, and their `Positions`.
  """
  batch, width = tokens.shape
  size = context.shape[1]
  if context_lengths is None:
    context_lengths = jnp.full((batch,), size, jnp.int32)
  if offsets is None:
    offsets = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), tokens.shape)
  slots = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (batch, size))
  padding = offsets == UNSEEN
  behind = context_lengths[:, None] + jnp.where(padding, 0, offsets)
  query = jnp.concatenate([slots, behind], axis=1)
  key = jnp.concatenate(
    [
      jnp.where(slots < context_lengths[:, None], slots, UNSEEN),
      jnp.where(padding, UNSEEN, behind),
    ],
    axis=1,
  )
  if groups is not None:
    shared = jnp.full((batch, size), SHARED, groups.dtype)
    groups = jnp.concatenate([shared, groups], axis=1)
  positions = Positions(query, key, groups, groups, shared=size)
  embeddings = jnp.concatenate(
    [context, embed(params, tokens).astype(context.dtype)], axis=1
  )
  hidden, new = hidden_states(
    params,
    config,
    embeddings,
    positions,
    adapter,
    adapter_ids,
    dropout_key=dropout_key,
    remat=remat,
    free=free,
  )
  return hidden, new, positions
