"""Layers as decoding wants them: apart, and projections of one input as one.

A step of decoding reads every weight for a few rows, and one large product
takes less time than the two or three that it is made of (docs/gpu.md). An
adapter's matrices are joined, too: A side by side, B in blocks or, of a bank,
apart.

Only on one device: a mesh cuts projections by their heads.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import Adapter, projection_shapes, scaled_weights
from lloco_jax.nn.quantize import is_quantized, turn

JOINED = {
  'self_attn': ('qkv_proj', ('q_proj', 'k_proj', 'v_proj')),
  'mlp': ('gate_up_proj', ('gate_proj', 'up_proj')),
}


def unstack_layers(tree: dict) -> dict:
  """{'layers': [L, ...] leaves} -> {'layers_0': ..., 'layers_1': ...}.

  For decoding, where a layer sliced out of a stack is a copy of its weights
  at every token.
  """
  return _each_layer(tree, lambda x, index: jax.tree.map(lambda y: y[index], x))


def decoding_params(params: dict, turned: bool | None = None) -> dict:
  """The base's layers unstacked and, where it is on one device, joined.

  An int8 base's kernels are `turned` there if it is a GPU, or as is said.
  """
  leaves = jax.tree.leaves(params)
  if any(len(x.devices()) > 1 for x in leaves if isinstance(x, jax.Array)):
    return unstack_layers(params)
  if turned is None:
    turned = is_quantized(params) and jax.default_backend() == 'gpu'
  return _each_layer(params, functools.partial(_joined_layer, turned=turned))


def decoding_adapter(
  adapter: Adapter | None, params: dict, config: LlamaConfig, dtype=None
) -> Adapter | None:
  """An adapter, or a bank, as the network reads it with those parameters.

  Joined as they are, its scale folded in, and in `dtype` where that is given;
  unstacked, a single adapter's A is turned, too. An adapter that is so already
  stays as it is.
  """
  if adapter is None:
    return None
  weights = scaled_weights(adapter)
  if 'qkv_proj' in params.get('layers_0', {}).get('self_attn', {}):
    weights = {
      layer: {
        block: _join_pairs(block, pairs, config)
        for block, pairs in blocks.items()
      }
      for layer, blocks in weights.items()
    }
  weights = jax.tree.map(_turned, weights, is_leaf=lambda x: 'b' in x)
  if dtype is not None:
    weights = jax.tree.map(lambda leaf: leaf.astype(dtype), weights)
  return adapter.replace(weights=weights, rank=1, alpha=1.0)


def each_of(module, joined: str, widths: dict, project, x):
  """What several projections give of one input, joined or not.

  `widths` are their outputs by name; `project` takes a name, x and a width.
  """
  if not module.has_variable('params', joined):
    return [project(name, x, width) for name, width in widths.items()]
  wide = project(joined, x, sum(widths.values()))
  return jnp.split(wide, np.cumsum(list(widths.values()))[:-1], axis=-1)


def _turned(pair: dict) -> dict:
  """A single adapter's A [D, R] as 'turned' [R, D], as it is read."""
  if 'turned' in pair or pair['a'].ndim > 2:
    return pair
  return {'turned': pair['a'].T, 'b': pair['b']}


def _each_layer(tree, one):
  layers = tree['layers']
  count = jax.tree.leaves(layers)[0].shape[0]
  each = {f'layers_{index}': one(layers, index) for index in range(count)}
  return {name: leaf for name, leaf in tree.items() if name != 'layers'} | each


@functools.partial(jax.jit, static_argnames='turned')
def _joined_layer(layers, index, turned):
  layer = jax.tree.map(lambda leaf: leaf[index], layers)
  for block, (name, members) in JOINED.items():
    rest = dict(layer[block])
    parts = [rest.pop(member) for member in members]
    rest[name] = jax.tree.map(lambda *x: jnp.concatenate(x, axis=-1), *parts)
    if turned:
      rest = {name: turn(projection) for name, projection in rest.items()}
    layer = {**layer, block: rest}
  return layer


def _join_pairs(block: str, pairs: dict, config: LlamaConfig) -> dict:
  """Pairs of a layer, those of joined projections as one."""
  name, members = JOINED[block]
  own = {member: pairs[member] for member in members if member in pairs}
  if not own:
    return pairs
  widths = {member: projection_shapes(config)[member][1] for member in members}
  join = _join_banks if next(iter(own.values()))['a'].ndim > 2 else _join_single
  rest = {key: pair for key, pair in pairs.items() if key not in members}
  return {**rest, name: join(own, widths)}


def _join_single(own: dict, widths: dict) -> dict:
  """A [D, R] side by side, B [R, F] in blocks, with zeros beside them."""
  total, start, a, b = sum(widths.values()), 0, [], []
  for member, width in widths.items():
    if member in own:
      a.append(own[member]['a'])
      sides = ((0, 0), (start, total - start - width))
      b.append(jnp.pad(own[member]['b'], sides))
    start += width
  return {'a': jnp.concatenate(a, axis=-1), 'b': jnp.concatenate(b)}


def _join_banks(own: dict, widths: dict) -> dict:
  """A [D, X, R] side by side, B apart: blocks would be mostly zeros."""
  like = next(iter(own.values()))
  adapters, rank, _ = like['b'].shape
  absent = {
    member: {
      'a': jnp.zeros_like(like['a']),
      'b': jnp.zeros((adapters, rank, width), like['b'].dtype),
    }
    for member, width in widths.items()
  }
  pairs = [(absent | own)[member] for member in widths]
  return {
    'a': jnp.concatenate([pair['a'] for pair in pairs], axis=-1),
    'b': {str(index): pair['b'] for index, pair in enumerate(pairs)},
  }
