"""The slots of a running batch, and the programs that fill and advance them.

A slot is a row that holds one request: its context, its prompt and what has
been generated. All slots write their next token at one place of the cache,
which goes round: attention goes by positions, so it does not matter where a
key lies, and nothing is scattered. A slot writes fewer tokens than there are
places to write, so its own are never overwritten.

Requests are read in a lobby, a few slots more that do not advance: so they can
be read together though slots become free one after the other.
"""

import dataclasses
import functools

from flax import struct
import jax
import jax.numpy as jnp

from lloco_jax.generation.decoding import join_heads, part_heads
from lloco_jax.generation.sampling import sample_rows
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import (
  KeyValues,
  Positions,
  embed,
  hidden_states,
  logits,
)
from lloco_jax.nn.lora import Adapter
from lloco_jax.nn.visibility import UNSEEN

# In place of a token where a slot generated none.
NOTHING = -1


@dataclasses.dataclass(frozen=True)
class Room:
  """The most that a request may have.

  `context` in summary vectors, `prompt` and `new_tokens` in tokens. In this
  order they are the places of a slot.
  """

  context: int = 512
  prompt: int = 128
  new_tokens: int = 64

  @property
  def writing(self) -> int:
    """The first place that generated tokens are written to."""
    return self.context + self.prompt

  @property
  def places(self) -> int:
    # The last token of an answer is never read.
    return self.writing + max(self.new_tokens - 1, 1)


def check_sizes(window: int, room: Room, slots: int, steps: int) -> None:
  """Raises ValueError for a size below its least, or beyond the window."""
  least = {
    'slots': (slots, 1),
    'steps': (steps, 1),
    'room.context': (room.context, 0),
    'room.prompt': (room.prompt, 1),
    'room.new_tokens': (room.new_tokens, 1),
  }
  for name, (value, smallest) in least.items():
    if value < smallest:
      raise ValueError(f'{name} is {value}; it must be {smallest} or more.')
  needed = room.context + room.prompt + room.new_tokens
  if needed > window:
    raise ValueError(
      f'A slot with a context of {room.context}, a prompt of {room.prompt} '
      f'and {room.new_tokens} new tokens takes {needed} positions; the model '
      f'has {window}. Give the engine a smaller Room.'
    )


@struct.dataclass
class Entry:
  """What a request brings to a slot, scalars.

  Lengths are of context and prompt; `key` is of its random choices.
  """

  slot: jax.Array
  context_length: jax.Array
  prompt_length: jax.Array
  new_tokens: jax.Array
  adapter_id: jax.Array
  key: jax.Array
  temperature: jax.Array
  top_p: jax.Array


@struct.dataclass
class Slots:
  """The state of B slots.

  `layers` is a list of KeyValues [B, K, S, H]; `positions` [B, S] says what
  stands in a place (UNSEEN: nothing). The others are [B]: the last `tokens`,
  which have not been read, and their positions `next`; how many tokens are
  `made` and `left` (0: the slot is free); and the settings of each request.
  `turn` counts the places that tokens were written to, modulo their number.
  """

  layers: list
  positions: jax.Array
  tokens: jax.Array
  next: jax.Array
  made: jax.Array
  left: jax.Array
  adapter_ids: jax.Array
  keys: jax.Array
  temperature: jax.Array
  top_p: jax.Array
  turn: jax.Array


def empty_slots(config: LlamaConfig, room: Room, count: int, dtype) -> Slots:
  """So many free slots."""
  shape = (count, config.num_key_value_heads, room.places, config.head_dim)

  def integers():
    return jnp.zeros(count, jnp.int32)

  return Slots(
    layers=[
      KeyValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
      for _ in range(config.num_hidden_layers)
    ],
    positions=jnp.full((count, room.places), UNSEEN, jnp.int32),
    tokens=integers(),
    next=integers(),
    made=integers(),
    left=integers(),
    adapter_ids=integers(),
    keys=jax.random.split(jax.random.key(0), count),
    temperature=jnp.zeros(count),
    top_p=jnp.ones(count),
    turn=jnp.int32(0),
  )


@functools.partial(jax.jit, static_argnames='config')
def read_context(
  params, config: LlamaConfig, vectors, length, adapter: Adapter | None, ids
) -> list[KeyValues]:
  """Keys and values [1, K, C, H] a layer of vectors [1, C, D].

  The first `length` vectors count. `params` and the bank `adapter` are
  unstacked; `ids` is [1].
  """
  places = jnp.arange(vectors.shape[1], dtype=jnp.int32)[None]
  seen = jnp.where(places < length, places, UNSEEN)
  _, layers = hidden_states(
    params, config, vectors, Positions(places, seen), adapter, ids
  )
  return [layer.turned for layer in layers]


def _read(buffers, slots, count):
  """Keys and values [N, K, count, H] of the first places of some slots."""

  def read(buffer):
    size = (1, buffer.shape[1], count, buffer.shape[3])
    rows = [jax.lax.dynamic_slice(buffer, (s, 0, 0, 0), size) for s in slots]
    return jnp.concatenate(rows)

  return jax.tree.map(read, buffers)


def _write(buffers, new, slot):
  """Keys and values [1, K, S, H] in the first places of a slot."""
  return jax.tree.map(
    lambda buffer, one: jax.lax.dynamic_update_slice_in_dim(
      buffer, one, slot, axis=0
    ),
    buffers,
    new,
  )


@functools.partial(jax.jit, donate_argnums=0)
def insert_context(slots: Slots, slot, layers: list[KeyValues]) -> Slots:
  """Puts what `read_context` gave into a slot."""
  return slots.replace(layers=_write(slots.layers, layers, slot))


@functools.partial(jax.jit, donate_argnums=0)
def seat(slots: Slots, lobby: Slots, row, slot) -> Slots:
  """Puts what is in a row of the lobby into a slot."""

  def put(values, others):
    one = jax.lax.dynamic_slice_in_dim(others, row, 1)
    return jax.lax.dynamic_update_slice_in_dim(values, one, slot, axis=0)

  moved = jax.tree.map(put, slots.replace(turn=None), lobby.replace(turn=None))
  return moved.replace(turn=slots.turn)


@functools.partial(
  jax.jit,
  static_argnames=('config', 'room', 'stop_tokens'),
  donate_argnums=2,
)
def read_prompts(
  params,
  config: LlamaConfig,
  slots: Slots,
  entries: tuple[Entry, ...],
  ids,
  adapter: Adapter | None,
  room: Room,
  stop_tokens: tuple[int, ...],
):
  """Reads N prompts [N, T], each behind the context in its slot.

  Returns:
    The slots, and the first token of each answer [N], NOTHING for a stop token.
  """
  entry = jax.tree.map(lambda *leaves: jnp.stack(leaves), *entries)
  size, length = entry.context_length[:, None], entry.prompt_length[:, None]
  places = jnp.arange(room.context, dtype=jnp.int32)
  context = jnp.where(places < size, places, UNSEEN)
  column = jnp.arange(ids.shape[1], dtype=jnp.int32)
  query = size + column
  prompt = jnp.where(column < length, query, UNSEEN)
  positions = Positions(query, jnp.concatenate([context, prompt], axis=1))
  cache = _read(slots.layers, entry.slot, room.context + ids.shape[1])
  # What an earlier request left there may not be finite, and 0 times it is not
  # 0.
  known = (positions.key != UNSEEN)[:, None, :, None]
  cache = jax.tree.map(lambda leaf: jnp.where(known, leaf, 0), cache)
  hidden, layers = hidden_states(
    params,
    config,
    embed(params, ids).astype(slots.layers[0].key.dtype),
    positions,
    adapter,
    entry.adapter_id,
    cache,
    room.context,
  )
  last = jnp.take_along_axis(hidden, length[..., None] - 1, axis=1)
  tokens = sample_rows(
    logits(params, config, last[:, 0]),
    jax.vmap(jax.random.fold_in, (0, None))(entry.key, 0),
    entry.temperature,
    entry.top_p,
  )
  stopped = _is_stop(tokens, stop_tokens)
  free = room.places - room.context - ids.shape[1]
  row = jnp.pad(positions.key, ((0, 0), (0, free)), constant_values=UNSEEN)
  behind = ((0, 0), (0, 0), (0, free), (0, 0))
  layers = jax.tree.map(lambda leaf: jnp.pad(leaf, behind), layers)

  def put(values, value):
    return values.at[entry.slot].set(value)

  buffers = slots.layers
  for index, slot in enumerate(entry.slot):
    own = jax.tree.map(lambda leaf, i=index: leaf[i : i + 1], layers)
    buffers = _write(buffers, own, slot)
  slots = slots.replace(
    layers=buffers,
    positions=put(slots.positions, row),
    tokens=put(slots.tokens, tokens),
    next=put(slots.next, entry.context_length + entry.prompt_length),
    made=put(slots.made, 1),
    left=put(slots.left, jnp.where(stopped, 0, entry.new_tokens - 1)),
    adapter_ids=put(slots.adapter_ids, entry.adapter_id),
    keys=put(slots.keys, entry.key),
    temperature=put(slots.temperature, entry.temperature),
    top_p=put(slots.top_p, entry.top_p),
  )
  return slots, jnp.where(stopped, NOTHING, tokens)


@functools.partial(
  jax.jit,
  static_argnames=('config', 'room', 'steps', 'stop_tokens'),
  donate_argnums=2,
)
def advance(
  params,
  config: LlamaConfig,
  slots: Slots,
  adapter: Adapter | None,
  kept,
  waiting,
  room: Room,
  steps: int,
  stop_tokens: tuple[int, ...],
):
  """Generates up to `steps` tokens in every slot that is not free.

  Slots outside `kept` [B] are made free before. It ends early when all are
  free, and as soon as one becomes so if requests are `waiting`.

  Returns:
    The slots, and tokens [steps, B], NOTHING where there is none.
  """
  slots = slots.replace(left=jnp.where(kept, slots.left, 0))
  busy = slots.left > 0

  def unfinished(carry):
    step, slots, _ = carry
    going = slots.left > 0
    freed = jnp.any(busy & ~going)
    return (step < steps) & jnp.any(going) & ~(waiting & freed)

  def generate(carry):
    step, slots, output = carry
    going = slots.left > 0
    place = room.writing + slots.turn
    positions = jax.lax.dynamic_update_slice(
      slots.positions,
      jnp.where(going, slots.next, UNSEEN)[:, None],
      (0, place),
    )
    hidden, layers = hidden_states(
      params,
      config,
      embed(params, slots.tokens[:, None]).astype(slots.layers[0].key.dtype),
      Positions(slots.next[:, None], positions),
      adapter,
      slots.adapter_ids,
      slots.layers,
      place,
    )
    tokens = sample_rows(
      logits(params, config, hidden[:, 0]),
      jax.vmap(jax.random.fold_in)(slots.keys, slots.made),
      jnp.where(going, slots.temperature, 0),
      slots.top_p,
    )
    stopped = _is_stop(tokens, stop_tokens)
    fresh = jnp.where(going & ~stopped, tokens, NOTHING)
    slots = slots.replace(
      layers=layers,
      positions=positions,
      tokens=tokens,
      next=slots.next + going,
      made=slots.made + going,
      left=jnp.where(stopped, 0, slots.left - going),
      turn=(slots.turn + 1) % (room.places - room.writing),
    )
    return step + 1, slots, output.at[step].set(fresh)

  output = jnp.full((steps, busy.size), NOTHING, jnp.int32)
  joined = slots.replace(layers=join_heads(slots.layers))
  _, used, output = jax.lax.while_loop(
    unfinished, generate, (jnp.int32(0), joined, output)
  )
  used = used.replace(layers=part_heads(used.layers, slots.layers))
  return used, output


def _is_stop(tokens, stop_tokens):
  found = jnp.zeros(tokens.shape, bool)
  for stop in stop_tokens:
    found |= tokens == stop
  return found
