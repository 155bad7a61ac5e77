"""Prefill and the decode loop.

A row holds one context and Q questions behind it, packed side by side: each
sees the context and itself. So a document is read once for all its
questions, and a batch of rows with one question each is the case Q = 1.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp

from lloco_jax.generation.sampling import keys_of_step, sample
from lloco_jax.nn.attention import cache_padding
from lloco_jax.nn.autocompressor import read
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.joining import decoding_adapter
from lloco_jax.nn.llama import (
  KeyValues,
  Positions,
  embed,
  hidden_states,
  logits,
)
from lloco_jax.nn.lora import Adapter
from lloco_jax.nn.placement import constrain, placement_in_use
from lloco_jax.nn.visibility import SHARED, UNSEEN


@struct.dataclass
class Cache:
  """Keys and values of everything read so far.

  `layers` is a list of KeyValues [B, K, S, H], or one [L, B, K, S, H] for
  stacked layers; `positions` and `groups` [B, S] say what stands in a slot
  (UNSEEN: nothing).
  """

  layers: list | KeyValues
  positions: jax.Array
  groups: jax.Array


def join_heads(layers):
  """A cache's layers as a loop should carry them: [B K, S, H].

  Products have one axis of batch. With two, a CPU copied all of the cache at
  every step (docs/LOG.md). On a mesh, which shares out rows and heads apart,
  and where layers are stacked, they stay as they are.
  """
  if isinstance(layers, KeyValues) or placement_in_use() is not None:
    return layers
  return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), layers)


def part_heads(layers, like):
  """The opposite of `join_heads`, in the shapes of other layers."""
  return jax.tree.map(lambda leaf, old: leaf.reshape(old.shape), layers, like)


@functools.partial(jax.jit, static_argnames=('config', 'new_slots', 'stacked'))
def prefill(
  params,
  config: LlamaConfig,
  context,
  context_lengths,
  prompts,
  prompt_lengths,
  adapter: Adapter | None = None,
  adapter_ids=None,
  new_slots: int = 0,
  stacked: bool = False,
):
  """Reads contexts and prompts.

  Args:
    params: base parameters, layers stacked. Unstacked ones, with an unstacked
      adapter, take longer to compile, but keys and values of a text too long
      to be held twice are made once, where decoding wants them.
    config: the base's config.
    context: [B, C, D]; context_lengths: [B].
    prompts: [B, Q, T] ids, padded on the right; prompt_lengths: [B, Q],
      0 for a question that is not there.
    adapter, adapter_ids: see nn/llama.py.
    new_slots: cache slots kept free for tokens to come.
    stacked: the cache is for decoding with stacked layers.

  Returns:
    Logits [B, Q, V] of each prompt's last token, and the Cache.
  """
  batch, questions, width = prompts.shape
  column = jnp.arange(width, dtype=jnp.int32)
  there = column < prompt_lengths[..., None]
  offsets = jnp.where(there, column, UNSEEN).reshape(batch, -1)
  groups = jnp.repeat(jnp.arange(1, questions + 1, dtype=jnp.int32), width)
  groups = jnp.broadcast_to(groups, (batch, questions * width))
  # The free slots of layers that are sliced out of a stack come behind that, or
  # they would be held twice.
  sliced = 'layers' in params and not stacked
  places = context.shape[1] + questions * width + new_slots
  new_slots += cache_padding(places)
  hidden, kept, positions = read(
    params,
    config,
    prompts.reshape(batch, -1),
    context,
    context_lengths,
    offsets,
    # A single question has nobody to be kept apart from, and attention that
    # is causal alone needs no mask as large as its scores.
    groups if questions > 1 else None,
    adapter,
    adapter_ids,
    free=0 if sliced else new_slots,
  )
  shared = jnp.full(context.shape[:2], SHARED, groups.dtype)
  groups = jnp.concatenate([shared, groups], axis=1)
  last = jnp.arange(questions) * width + jnp.maximum(prompt_lengths, 1) - 1
  last = last + context.shape[1]
  hidden = jnp.take_along_axis(hidden, last[..., None], axis=1)

  def slice_layer(index):
    free = ((0, 0), (0, 0), (0, new_slots), (0, 0))
    axes = ('batch', 'kv_heads', None, None)
    return jax.tree.map(
      lambda leaf: constrain(jnp.pad(leaf[index], free), *axes), kept
    )

  layers = kept
  if sliced:
    layers = [slice_layer(i) for i in range(config.num_hidden_layers)]
  free = ((0, 0), (0, new_slots))
  return logits(params, config, hidden), Cache(
    layers,
    jnp.pad(positions.key, free, constant_values=UNSEEN),
    jnp.pad(groups, free, constant_values=SHARED),
  )


def decode(
  params,
  config: LlamaConfig,
  first_logits,
  cache: Cache,
  lengths,
  adapter: Adapter | None,
  adapter_ids,
  key,
  steps: int,
  temperature: float = 0.0,
  top_p: float = 1.0,
  stop_tokens: tuple[int, ...] = (),
):
  """Generates up to `steps` tokens a question, in one program.

  Args:
    params: base parameters, layers stacked or not, as those of
      `adapter.weights` and the cache.
    config: the base's config.
    first_logits: [B, Q, V], from `prefill`.
    cache: from `prefill`, with Q (steps - 1) slots free at its end; it is
      written in place and lost.
    lengths: [B, Q] positions before the first new token.
    adapter, adapter_ids: see nn/llama.py.
    key: of the random choices, or keys [B, Q], one a question.
    steps: tokens to generate.
    temperature, top_p: see sampling.py.
    stop_tokens: a question that produced one is done.

  Returns:
    int32 [B, Q, steps]; a question's tokens after a stop token repeat it.
  """
  tokens, _ = decode_in_place(
    params, config, first_logits, cache, lengths, adapter, adapter_ids, key,
    steps, temperature, top_p, stop_tokens,
  )  # fmt: skip
  return tokens


# The cache is a result only so that it can be written in place: a buffer that
# is given up without a result to become is copied.
@functools.partial(
  jax.jit,
  static_argnames=('config', 'steps', 'temperature', 'top_p', 'stop_tokens'),
  donate_argnums=(3,),
)
def decode_in_place(
  params, config, first_logits, cache, lengths, adapter, adapter_ids, key,
  steps, temperature, top_p, stop_tokens,
):  # fmt: skip
  """The program of `decode`; gives the tokens and the used cache."""
  batch, questions, _ = first_logits.shape
  start = cache.positions.shape[1] - questions * (steps - 1)
  own = jnp.arange(1, questions + 1, dtype=jnp.int32)
  own = jnp.broadcast_to(own, (batch, questions))

  # Before the loop, not at every step.
  dtype = jax.tree.leaves(cache.layers)[0].dtype
  adapter = decoding_adapter(adapter, params, config, dtype)

  def stopped(tokens):
    done = jnp.zeros(tokens.shape, bool)
    for stop in stop_tokens:
      done |= tokens == stop
    return done

  def choose(step, scores):
    return sample(scores, keys_of_step(key, step), temperature, top_p)

  def unfinished(carry):
    step, _, _, done, _ = carry
    return (step < steps) & ~jnp.all(done)

  def advance(carry):
    step, tokens, output, done, cache = carry
    slot = start + (step - 1) * questions
    position = lengths + step - 1
    write = functools.partial(
      jax.lax.dynamic_update_slice_in_dim, start_index=slot, axis=1
    )
    positions = write(cache.positions, position)
    groups = write(cache.groups, own)
    hidden, layers = hidden_states(
      params,
      config,
      embed(params, tokens).astype(dtype),
      Positions(position, positions, own, groups),
      adapter,
      adapter_ids,
      cache.layers,
      slot,
    )
    fresh = choose(step, logits(params, config, hidden))
    tokens = jnp.where(done, tokens, fresh)
    output = jax.lax.dynamic_update_slice_in_dim(
      output, tokens[..., None], step, axis=2
    )
    cache = Cache(layers, positions, groups)
    return step + 1, tokens, output, done | stopped(tokens), cache

  tokens = choose(0, first_logits)
  # A loop that stops early leaves the stop token in the rest.
  output = jnp.broadcast_to(tokens[..., None], (batch, questions, steps))
  joined = cache.replace(layers=join_heads(cache.layers))
  carry = (jnp.int32(1), tokens, output, stopped(tokens), joined)
  step, tokens, output, _, used = jax.lax.while_loop(unfinished, advance, carry)
  used = used.replace(layers=part_heads(used.layers, cache.layers))
  unwritten = jnp.arange(steps) >= step
  return jnp.where(unwritten, tokens[..., None], output), used
