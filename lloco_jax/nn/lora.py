"""Low-rank adapters: a linear layer that adds them, and trees of them.

An adapter changes a frozen projection W into W + (alpha / rank) A B. It is a
tree beside the base's, so that the base is an argument nobody differentiates
and a bank of adapters is the same network given stacked matrices.
"""

from collections.abc import Mapping
import dataclasses
import math

from flax import struct
import flax.linen as nn
import jax
import jax.numpy as jnp

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.quantize import (
  is_quantized,
  scaled_matmul,
  turned_matmul,
)

ATTENTION_PROJECTIONS = ('q_proj', 'k_proj', 'v_proj', 'o_proj')
MLP_PROJECTIONS = ('gate_proj', 'up_proj', 'down_proj')
# Up to so many columns, ranks of a bank together, all adapters are one tile of
# a matrix unit; beyond, or with more adapters than tokens, most of it is waste.
MASKED_COLUMNS = 128


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """Which projections get an adapter, and of what size."""

  rank: int = 8
  alpha: float = 16.0
  dropout: float = 0.05
  targets: tuple[str, ...] = ATTENTION_PROJECTIONS

  def __post_init__(self):
    known = ATTENTION_PROJECTIONS + MLP_PROJECTIONS
    unknown = sorted(set(self.targets) - set(known))
    if unknown or not self.targets:
      raise ValueError(
        f'LoRA targets {unknown or "are empty and"} cannot be adapted; '
        f'choose from {", ".join(known)}.'
      )
    if self.rank < 1:
      raise ValueError(f'LoRA rank is {self.rank}; it must be 1 or more.')
    if not self.alpha > 0:
      raise ValueError(f'LoRA alpha is {self.alpha}; it must be above 0.')
    if not 0 <= self.dropout < 1:
      raise ValueError(
        f'LoRA dropout is {self.dropout}; it must be 0 or more, and below 1.'
      )


@struct.dataclass
class Adapter:
  """LoRA matrices of one group, or a bank of them.

  `weights` mirrors the base's tree: under each adapted projection
  'a' [L, D, R] and 'b' [L, R, F], in float32; in a bank [L, D, X, R] and
  [L, X, R, F], so that both are matrices of all adapters' ranks side by side.
  """

  weights: dict
  rank: int = struct.field(pytree_node=False)
  alpha: float = struct.field(pytree_node=False)
  dropout: float = struct.field(pytree_node=False, default=0.0)

  @property
  def scale(self) -> float:
    return self.alpha / self.rank

  @property
  def targets(self) -> tuple[str, ...]:
    layers = self.weights['layers']
    return tuple(name for block in layers.values() for name in block)

  @property
  def bank_size(self) -> int | None:
    """Number of adapters in a bank; None for a single adapter."""
    a = jax.tree.leaves(self.weights)[0]
    return a.shape[2] if a.ndim == 4 else None


def projection_shapes(config: LlamaConfig) -> dict[str, tuple[int, int]]:
  """(inputs, outputs) of every projection that LoRA can adapt."""
  d, f = config.hidden_size, config.intermediate_size
  q = config.num_attention_heads * config.head_dim
  kv = config.num_key_value_heads * config.head_dim
  return {
    'q_proj': (d, q),
    'k_proj': (d, kv),
    'v_proj': (d, kv),
    'o_proj': (q, d),
    'gate_proj': (d, f),
    'up_proj': (d, f),
    'down_proj': (f, d),
  }


def block_of(projection: str) -> str:
  """The part of a layer that holds a projection."""
  return 'self_attn' if projection in ATTENTION_PROJECTIONS else 'mlp'


def init_adapter(
  config: LlamaConfig, lora: LoraConfig, key: jax.Array
) -> Adapter:
  """A fresh adapter: A Kaiming-uniform as in PEFT, B zero."""
  shapes = projection_shapes(config)
  layers = {}
  for index, name in enumerate(sorted(lora.targets)):
    inputs, outputs = shapes[name]
    bound = 1 / math.sqrt(inputs)
    a = jax.random.uniform(
      jax.random.fold_in(key, index),
      (config.num_hidden_layers, inputs, lora.rank),
      jnp.float32,
      -bound,
      bound,
    )
    b = jnp.zeros((config.num_hidden_layers, lora.rank, outputs), jnp.float32)
    layers.setdefault(block_of(name), {})[name] = {'a': a, 'b': b}
  return Adapter({'layers': layers}, lora.rank, lora.alpha, lora.dropout)


def scaled_weights(adapter: Adapter | None) -> dict | None:
  """The tree the network reads: alpha / rank folded into every B."""
  if adapter is None:
    return None
  if adapter.scale == 1:
    return adapter.weights

  def fold(path, leaf):
    return leaf * adapter.scale if path[-1].key == 'b' else leaf

  return jax.tree_util.tree_map_with_path(fold, adapter.weights)


def stack_adapters(adapters: list[Adapter]) -> Adapter:
  """A bank of adapters, whose rows are chosen by `adapter_ids`.

  Smaller ranks are padded with zeros and missing projections are zero, so
  adapters of different shapes live in one bank; the scale is folded in.

  Raises:
    ValueError: no adapter is given, or they are of different bases.
  """
  if not adapters:
    raise ValueError('A bank needs at least one adapter.')
  rank = max(adapter.rank for adapter in adapters)
  shapes = {}
  for adapter in adapters:
    for block, projections in adapter.weights['layers'].items():
      for name, pair in projections.items():
        layers, inputs, _ = pair['a'].shape
        shape = (layers, inputs, pair['b'].shape[-1])
        if shapes.setdefault((block, name), shape) != shape:
          raise ValueError(
            f'The adapters of a bank have {name} of different shapes, '
            f'{shape} and {shapes[block, name]}; they are of different bases.'
          )
  stacked = {}
  for (block, name), (layers, inputs, outputs) in shapes.items():
    a = jnp.zeros((layers, inputs, len(adapters), rank), jnp.float32)
    b = jnp.zeros((layers, len(adapters), rank, outputs), jnp.float32)
    for index, adapter in enumerate(adapters):
      pair = adapter.weights['layers'].get(block, {}).get(name)
      if pair is None:
        continue
      r = adapter.rank
      a = a.at[:, :, index, :r].set(pair['a'])
      b = b.at[:, index, :r].set(pair['b'] * adapter.scale)
    stacked.setdefault(block, {})[name] = {'a': a, 'b': b}
  return Adapter({'layers': stacked}, rank=1, alpha=1.0)


def merge_adapter(params: dict, adapter: Adapter) -> dict:
  """The base with W + (alpha / rank) A B in place of every adapted W.

  Raises:
    ValueError: the base is quantised.
  """
  if is_quantized(params):
    raise ValueError(
      'An adapter cannot be merged into a quantised base, whose integers would '
      'round it away; merge it into the unquantised base and quantise that.'
    )
  layers = dict(params['layers'])
  for block, projections in adapter.weights['layers'].items():
    layers[block] = dict(layers[block])
    for name, pair in projections.items():
      kernel = layers[block][name]['kernel']
      # Summaries are stored by what merged weights compute: on every device
      # the same, where the default precision may be lower.
      delta = adapter.scale * jnp.einsum(
        'ldr,lrf->ldf', pair['a'], pair['b'], precision='highest'
      )
      merged = (kernel.astype(delta.dtype) + delta).astype(kernel.dtype)
      layers[block][name] = {**layers[block][name], 'kernel': merged}
  return {**params, 'layers': layers}


class LoraLinear(nn.Module):
  """A linear layer plus, where the collection 'lora' holds it, an adapter.

  The adapter's tree is read with its scale folded in (`scaled_weights`). The
  kernel is int8 where a 'scale' stands beside it (nn/quantize.py).
  """

  features: int
  use_bias: bool = False
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, adapter_ids=None):  # [B, T, D] -> [B, T, F]
    y = self._product(x)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.features,))
      y = y + bias.astype(x.dtype)
    if self.has_variable('lora', 'b'):
      pair = jax.tree.map(
        lambda leaf: leaf.astype(x.dtype), self.variables['lora']
      )
      if self.dropout:
        x = nn.Dropout(self.dropout, deterministic=False)(x)
      y = y + low_rank(x, pair, adapter_ids)
    return y

  def _product(self, x):
    scale = self.get_variable('params', 'scale')
    if self.has_variable('params', 'turned'):
      return turned_matmul(x, self.get_variable('params', 'turned'), scale)
    kernel = self.param(
      'kernel', nn.initializers.lecun_normal(), (x.shape[-1], self.features)
    )
    if scale is not None:
      return scaled_matmul(x, kernel, scale)
    return jnp.einsum('btd,df->btf', x, kernel.astype(x.dtype))


def low_rank(x, pair: dict, adapter_ids):
  """What an adapter, or each row's own of a bank, adds to a projection."""
  if 'turned' in pair:
    return jnp.einsum('btd,rd->btr', x, pair['turned']) @ pair['b']
  a, b = pair['a'], pair['b']
  return bank(x, a, b, adapter_ids) if a.ndim == 3 else x @ a @ b


def bank(x, a, b, adapter_ids):
  """Each row's own adapter, in the cheaper of two forms.

  x [B, T, D]; a [D, X, R]; b [X, R, F]; adapter_ids [B], -1 for the base
  alone. Of n joined projections a is [D, X, n R], and b has n such matrices, by
  number.
  """
  _, adapters, rank = a.shape
  if isinstance(b, Mapping):
    rank //= len(b)
  rows, tokens, _ = x.shape
  # Of a single row the gathered matrices are a slice of the bank.
  many = adapters <= (rows * tokens if rows > 1 else 1)
  wide = many and adapters * rank <= MASKED_COLUMNS
  return (masked if wide else gathered)(x, a, b, adapter_ids)


def masked(x, a, b, adapter_ids):
  """All adapters as one matmul, those of other rows zeroed; see `bank`."""
  hidden = jnp.einsum('btd,dxr->btxr', x, a)
  chosen = adapter_ids[:, None] == jnp.arange(a.shape[1])
  hidden = jnp.where(chosen[:, None, :, None], hidden, 0)

  # One product of two matrices: as an einsum of three it takes twice as long.
  def product(hidden, b):
    return hidden.reshape(*x.shape[:2], -1) @ b.reshape(-1, b.shape[-1])

  return _each(product, hidden, b)


def gathered(x, a, b, adapter_ids):
  """A copy of each row's own matrices; see `bank`."""
  own = jnp.maximum(adapter_ids, 0)
  hidden = jnp.einsum('btd,dbr->btr', x, a[:, own])
  hidden = jnp.where(adapter_ids[:, None, None] < 0, 0, hidden)
  return _each(
    lambda hidden, b: jnp.einsum('btr,brf->btf', hidden, b[own]), hidden, b
  )


def _each(product, hidden, b):
  """Products of hidden [..., R] or, of joined projections, side by side."""
  if not isinstance(b, Mapping):
    return product(hidden, b)
  parts = jnp.split(hidden, len(b), axis=-1)
  outputs = [product(part, b[str(i)]) for i, part in enumerate(parts)]
  return jnp.concatenate(outputs, axis=-1)
