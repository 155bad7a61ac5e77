"""An answer token by token, each as soon as it is chosen."""

from collections.abc import Iterator, Sequence
import functools

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.data.batches import round_up
from lloco_jax.data.contexts import Context
from lloco_jax.generation.answering import (
  WIDTH_MULTIPLE,
  check_room,
  check_tokens,
  embed_contexts,
)
from lloco_jax.generation.decoding import Cache, join_heads, prefill
from lloco_jax.generation.sampling import likeliest
from lloco_jax.model import Model
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.joining import decoding_adapter, unstack_layers
from lloco_jax.nn.llama import (
  Positions,
  embed,
  hidden_states,
  logits,
)
from lloco_jax.nn.lora import Adapter


@functools.partial(jax.jit, static_argnames=('config',), donate_argnums=(3,))
def _advance(
  params, config: LlamaConfig, token, cache, slot, position, adapter
):
  """The token [1, 1] after one that is written into a slot of the cache."""
  own = jnp.ones((1, 1), jnp.int32)
  place = (0, slot)
  positions = jax.lax.dynamic_update_slice(cache.positions, position, place)
  groups = jax.lax.dynamic_update_slice(cache.groups, own, place)
  hidden, layers = hidden_states(
    params,
    config,
    embed(params, token).astype(cache.layers[0].key.dtype),
    Positions(position, positions, own, groups),
    adapter,
    None,
    cache.layers,
    slot,
  )
  following = likeliest(logits(params, config, hidden))
  return following, Cache(layers, positions, groups)


@functools.partial(jax.jit, donate_argnums=1)
def _begin(scores, cache):
  """The first token [1, 1], and the cache as decoding wants it."""
  cache = cache.replace(layers=join_heads(cache.layers))
  return likeliest(scores), cache


def _shapes(tree):
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree
  )


class Stream:
  """New tokens of one prompt behind one context, greedily.

  Making it compiles what is needed; iterating over it yields token ids until a
  stop token, which is left out.

  Args:
    model: that answers.
    context: what stands before the prompt.
    prompt: token ids.
    adapter: of the documents' group.
    max_new_tokens: tokens at most.
    stop_tokens: ids that end it; the model's by default.
    name: what the context is of, for errors.

  Raises:
    ValueError: the prompt is empty, a token id is outside the vocabulary, or
      context, prompt and new tokens exceed the model's window.
  """

  def __init__(
    self,
    model: Model,
    context: Context,
    prompt: Sequence[int],
    adapter: Adapter | None = None,
    max_new_tokens: int = 16,
    stop_tokens: Sequence[int] | None = None,
    name: str = 'the document',
  ):
    config = model.config
    if not prompt:
      raise ValueError(f'The prompt about {name} is empty.')
    if max_new_tokens < 1:
      raise ValueError(f'max_new_tokens is {max_new_tokens}; it must be >= 1.')
    check_room(model.window, len(context), len(prompt), max_new_tokens, name)
    check_tokens(config, context, [prompt], name)
    width = round_up(len(prompt), WIDTH_MULTIPLE)
    ids = np.zeros((1, 1, width), np.int32)
    ids[0, 0, : len(prompt)] = prompt
    embedded = embed_contexts(model, [context])
    self._steps = max_new_tokens
    self._stop = model.stop_tokens if stop_tokens is None else stop_tokens
    self._position = len(context) + len(prompt)
    self._slot = embedded.shape[1] + width
    self._reading = (
      model.params, embedded, np.array([len(context)], np.int32), ids,
      np.array([[len(prompt)]], np.int32), adapter, None,
    )  # fmt: skip
    params, *rest = self._reading
    lowered = prefill.lower(params, config, *rest, new_slots=max_new_tokens - 1)
    self._prefill = lowered.compile()
    self._params = model.unstacked_params
    if adapter is not None:
      adapter = adapter.replace(weights=unstack_layers(adapter.weights))
      adapter = decoding_adapter(adapter, self._params, config)
    self._adapter = adapter
    lowered = _begin.lower(*_shapes(lowered.out_info))
    self._begin = lowered.compile()
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    one = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    token, cache = _shapes(lowered.out_info)
    self._advance = _advance.lower(
      self._params, config, token, cache, scalar, one, adapter
    ).compile()
    # Or the first token would wait for them.
    jax.block_until_ready((embedded, self._params, self._adapter))

  def __iter__(self) -> Iterator[int]:
    token, cache = self._begin(*self._prefill(*self._reading))
    for step in range(self._steps):
      # To take an element of it on the device would be one more program.
      chosen = np.asarray(token).item()
      if chosen in self._stop:
        return
      yield chosen
      if step + 1 < self._steps:
        token, cache = self._advance(
          self._params,
          token,
          cache,
          np.int32(self._slot + step),
          np.full((1, 1), self._position + step, np.int32),
          self._adapter,
        )


class FirstLine:
  """The first line of an answer that is not empty, piece by piece.

  Makes of tokens, one at a time, what `answer_text` makes of all, without a
  character at the end whose tokens are not all there.
  """

  def __init__(self, tokenizer):
    self._tokenizer = tokenizer
    self._tokens, self._text = [], ''
    self.done = False

  @property
  def text(self) -> str:
    """The line as far as it is known."""
    return self._text

  def add(self, token: int) -> str:
    """What a token adds to the line, maybe nothing."""
    self._tokens.append(token)
    said = self._tokenizer.decode(self._tokens)
    # A character of several bytes is not there before its last token.
    lines = said.rstrip('\ufffd').lstrip().splitlines(keepends=True)
    line = lines[0] if lines else ''
    self.done = len(lines) > 1 or line != line.rstrip('\r\n')
    line = line.rstrip()
    piece = line[len(self._text) :]
    self._text = line
    return piece
