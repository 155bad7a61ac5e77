"""The Llama network.

Axes: B batch, T positions, D model, N heads, K key-value heads, H head size,
F mlp, V vocabulary, L layers. Layers are stacked on a leading axis and
scanned (training, compression, prefill; decoding on TPUs) or are one tree
each (decoding elsewhere, see nn/joining.py).
"""

from flax import struct
import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from lloco_jax.nn.attention import attention, cached_attention
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.joining import decoding_adapter, each_of
from lloco_jax.nn.lora import Adapter, LoraLinear
from lloco_jax.nn.placement import constrain
from lloco_jax.nn.remat import REMAT_POLICIES
from lloco_jax.nn.rotary import rotary_tables, rotate


@struct.dataclass
class KeyValues:
  """Keys and values of positions: [B, S, K, H], or [L, B, S, K, H].

  In the buffers of a decode cache, heads come before positions (`turned`).
  """

  key: jax.Array
  value: jax.Array

  @property
  def turned(self) -> 'KeyValues':
    """[..., S, K, H] as [..., K, S, H], or the other way round."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, -3, -2), self)


@struct.dataclass
class Positions:
  """Where the queries and keys of one call stand; see nn/attention.py.

  `query` [B, T] and `key` [B, S] are positions; the groups may be None. With
  groups, `shared` tells that so many keys in front are SHARED and that behind
  them each group is one run; None if it is not so.
  """

  query: jax.Array
  key: jax.Array
  query_groups: jax.Array | None = None
  key_groups: jax.Array | None = None
  shared: int | None = struct.field(pytree_node=False, default=None)


class RMSNorm(nn.Module):
  """Division by the root mean square, taken in float32; a learnt scale."""

  epsilon: float

  @nn.compact
  def __call__(self, x):
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    variance = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    normed = wide * jax.lax.rsqrt(variance + self.epsilon)
    return normed.astype(x.dtype) * scale.astype(x.dtype)


class Attention(nn.Module):
  """Grouped-query attention over the cache and what is new.

  Gives keys and values of the first `kept` positions, None for all; or, where
  `free` is given, of all, turned, with so many free slots behind them.
  """

  config: LlamaConfig
  dropout: float
  kept: int | None = None
  free: int | None = None

  @nn.compact
  def __call__(self, x, cache, rotary, positions, adapter_ids, slot):
    c = self.config
    heads, kv_heads = c.num_attention_heads, c.num_key_value_heads

    def project(name, inputs, features):
      linear = LoraLinear(features, c.attention_bias, self.dropout, name=name)
      return linear(inputs, adapter_ids)

    counts = {'q_proj': heads, 'k_proj': kv_heads, 'v_proj': kv_heads}
    widths = {name: count * c.head_dim for name, count in counts.items()}
    query, key, value = (
      flat.reshape(*flat.shape[:2], count, c.head_dim)
      for count, flat in zip(
        counts.values(), each_of(self, 'qkv_proj', widths, project, x)
      )
    )
    query = constrain(query, 'batch', None, 'heads', None)
    key = constrain(key, 'batch', None, 'kv_heads', None)
    value = constrain(value, 'batch', None, 'kv_heads', None)
    query = checkpoint_name(rotate(query, *rotary), 'qkv')
    new = KeyValues(
      checkpoint_name(rotate(key, *rotary), 'qkv'),
      checkpoint_name(value, 'qkv'),
    )
    places = (
      positions.query,
      positions.key,
      positions.query_groups,
      positions.key_groups,
    )
    if slot is None:
      every = new
      if cache is not None:
        every = jax.tree.map(
          lambda old, now: jnp.concatenate([old, now], axis=1), cache, new
        )
      mixed = attention(
        query, every.key, every.value, *places, shared=positions.shared
      )
    else:
      new = jax.tree.map(
        lambda old, now: jax.lax.dynamic_update_slice_in_dim(
          old,
          now.reshape(*old.shape[:-2], *now.shape[-2:]),
          slot,
          axis=old.ndim - 2,
        ),
        cache,
        new.turned,
      )
      mixed = cached_attention(query, new.key, new.value, *places)
    mixed = constrain(mixed, 'batch', None, 'heads', None)
    mixed = mixed.reshape(*mixed.shape[:2], heads * c.head_dim)
    if self.kept is not None:
      new = jax.tree.map(lambda leaf: leaf[:, : self.kept], new)
    if self.free is not None:
      new = jax.tree.map(self._with_free_slots, new.turned)
    return project('o_proj', mixed, c.hidden_size), new

  def _with_free_slots(self, turned):
    pads = ((0, 0), (0, 0), (0, self.free), (0, 0))
    return constrain(jnp.pad(turned, pads), 'batch', 'kv_heads', None, None)


class Mlp(nn.Module):
  """SwiGLU: down(silu(gate(x)) up(x))."""

  config: LlamaConfig
  dropout: float

  @nn.compact
  def __call__(self, x, adapter_ids):
    c = self.config

    def project(name, inputs, features):
      linear = LoraLinear(features, c.mlp_bias, self.dropout, name=name)
      return linear(inputs, adapter_ids)

    widths = dict.fromkeys(('gate_proj', 'up_proj'), c.intermediate_size)
    gate, up = (
      checkpoint_name(constrain(wide, 'batch', None, 'mlp'), name)
      for name, wide in zip(
        ('gate', 'up'), each_of(self, 'gate_up_proj', widths, project, x)
      )
    )
    return project('down_proj', nn.silu(gate) * up, c.hidden_size)


class Block(nn.Module):
  """One layer: attention and MLP, each normed first and added."""

  config: LlamaConfig
  dropout: float
  kept: int | None = None
  free: int | None = None

  @nn.compact
  def __call__(self, x, cache, rotary, positions, adapter_ids, slot):
    c = self.config
    normed = RMSNorm(c.rms_norm_eps, name='input_layernorm')(x)
    attend = Attention(c, self.dropout, self.kept, self.free, name='self_attn')
    mixed, new = attend(normed, cache, rotary, positions, adapter_ids, slot)
    x = constrain(x + mixed, 'batch', None, None)
    normed = RMSNorm(c.rms_norm_eps, name='post_attention_layernorm')(x)
    x = x + Mlp(c, self.dropout, name='mlp')(normed, adapter_ids)
    return constrain(x, 'batch', None, None), new


class InPlaceBlock(Block):
  """A layer of a stack, which writes into its part of all layers' buffers.

  The buffers are carried from layer to layer: as what a scan reads and gives
  they would be there twice.
  """

  @nn.compact
  def __call__(self, carry, rotary, positions, adapter_ids, slot):
    x, buffers, layer = carry
    own = jax.tree.map(
      lambda every: jax.lax.dynamic_index_in_dim(every, layer, keepdims=False),
      buffers,
    )
    count = x.shape[1]
    x, written = super().__call__(x, own, rotary, positions, adapter_ids, slot)
    buffers = jax.tree.map(
      lambda every, now: jax.lax.dynamic_update_slice(
        every,
        jax.lax.dynamic_slice_in_dim(now, slot, count, axis=2)[None],
        (layer, 0, 0, slot, 0),
      ),
      buffers,
      written,
    )
    return (x, buffers, layer + 1), None


class Embedding(nn.Module):
  """A table of vectors, looked up by whoever holds it."""

  rows: int
  features: int

  def setup(self):
    self.embedding = self.param(
      'embedding',
      nn.initializers.normal(0.02),
      (self.rows, self.features),
    )


class Llama(nn.Module):
  """Holds the parameters; call it through the functions below."""

  config: LlamaConfig
  dropout: float = 0.0
  remat: str = 'none'
  stacked: bool = True
  kept: int | None = None
  free: int | None = None
  in_place: bool = False

  def setup(self):
    c = self.config
    self.embed_tokens = Embedding(c.vocab_size, c.hidden_size)
    if c.summary_length:
      self.embed_summary = Embedding(c.summary_length, c.hidden_size)
    block = InPlaceBlock if self.stacked and self.in_place else Block
    if self.remat != 'none':
      block = nn.remat(
        block, policy=REMAT_POLICIES[self.remat], prevent_cse=False
      )
    if self.stacked:
      self.layers = nn.scan(
        block,
        variable_axes={'params': 0, 'lora': 0},
        split_rngs={'params': True, 'dropout': True},
        in_axes=(*(() if self.in_place else (0,)), *[nn.broadcast] * 4),
        length=c.num_hidden_layers,
      )(c, self.dropout, self.kept, self.free)
    else:
      self.layers = [
        block(c, self.dropout, self.kept, self.free)
        for _ in range(c.num_hidden_layers)
      ]
    self.norm = RMSNorm(c.rms_norm_eps)
    if not c.tie_word_embeddings:
      self.lm_head = nn.Dense(c.vocab_size, use_bias=False)

  def hidden(self, x, positions, cache=None, adapter_ids=None, slot=None):
    rotary = rotary_tables(self.config, positions.query, x.dtype)
    rest = (rotary, positions, adapter_ids, slot)
    x = constrain(x, 'batch', None, None)
    if self.stacked and self.in_place:
      (x, new, _), _ = self.layers((x, cache, jnp.int32(0)), *rest)
    elif self.stacked:
      x, new = self.layers(x, cache, *rest)
    else:
      new = []
      for index, layer in enumerate(self.layers):
        x, own = layer(x, cache[index] if cache else None, *rest)
        if self.free is not None:
          # Or they might be turned at the end, all at once.
          x, own = jax.lax.optimization_barrier((x, own))
        new.append(own)
    return self.norm(x), new

  def logits(self, hidden):
    if self.config.tie_word_embeddings:
      table = self.embed_tokens.embedding.astype(hidden.dtype)
      return jnp.einsum('...d,vd->...v', hidden, table)
    return self.lm_head(hidden)

  def __call__(self, tokens):
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    if self.config.summary_length:
      _ = self.embed_summary.embedding
    x = self.embed_tokens.embedding[tokens]
    hidden, _ = self.hidden(x, Positions(positions, positions))
    return self.logits(hidden)


def init_params(config: LlamaConfig, key: jax.Array, dtype='float32') -> dict:
  """Random base parameters, layers stacked."""
  tokens = jnp.zeros((1, 1), jnp.int32)
  variables = Llama(config).init(key, tokens)
  return jax.tree.map(lambda leaf: leaf.astype(dtype), variables['params'])


def embed(params: dict, tokens) -> jax.Array:
  """Token ids [...] -> embeddings [..., D]."""
  # The table is gathered, as a layer's weights are, or the activations were.
  table = constrain(params['embed_tokens']['embedding'], 'vocab', None)
  rows = () if tokens.ndim < 2 else ('batch', *(None,) * tokens.ndim)
  return constrain(table[tokens], *rows)


def hidden_states(
  params: dict,
  config: LlamaConfig,
  embeddings,
  positions: Positions,
  adapter: Adapter | None = None,
  adapter_ids=None,
  cache=None,
  slot=None,
  dropout_key=None,
  remat: str = 'none',
  kept: int | None = None,
  free: int | None = None,
):
  """Runs the layers and the final norm.

  Args:
    params: base parameters, layers stacked or unstacked.
    config: the base's config.
    embeddings: [B, T, D], in the dtype to compute in.
    positions: of the T queries, and of all keys: the cache's, then the T.
    adapter: an Adapter, or a bank with `adapter_ids` [B] (-1: base alone).
      Unstacked params need an unstacked adapter (`unstack_layers`).
    cache: KeyValues put before the T positions ([L, B, S, K, H] stacked, or
      a list of one a layer), or the buffers to write into when `slot` is
      given, which are turned ([..., K, S, H]).
    slot: first index of the buffers that the T positions are written to.
    dropout_key: turns the adapter's dropout on.
    remat: key of REMAT_POLICIES.
    kept: of how many of the T positions, the first ones, keys and values are
      returned, since those of a long text are large; None for all.
    free: makes buffers of them, with so many free slots behind the T.

  Returns:
    Hidden states [B, T, D] after the final norm, and KeyValues: of the kept
    positions, or buffers when `slot` or `free` is given.
  """
  module = Llama(
    config,
    dropout=adapter.dropout if adapter and dropout_key is not None else 0.0,
    remat=remat,
    stacked='layers' in params,
    kept=kept,
    free=free,
    in_place=slot is not None,
  )
  variables = {'params': params}
  if adapter is not None:
    variables['lora'] = decoding_adapter(adapter, params, config).weights
    if adapter.bank_size is not None and adapter_ids is None:
      raise ValueError('A bank of adapters needs adapter_ids, one a row.')
  rngs = None if dropout_key is None else {'dropout': dropout_key}
  return module.apply(
    variables,
    embeddings,
    positions,
    cache,
    adapter_ids,
    slot,
    rngs=rngs,
    method=Llama.hidden,
  )


def logits(params: dict, config: LlamaConfig, hidden) -> jax.Array:
  """Hidden states [..., D] -> logits [..., V]."""
  tree = {
    name: params[name] for name in ('embed_tokens', 'lm_head') if name in params
  }
  scores = Llama(config).apply({'params': tree}, hidden, method=Llama.logits)
  return constrain(scores, 'batch', *(None,) * (scores.ndim - 2), 'vocab')
