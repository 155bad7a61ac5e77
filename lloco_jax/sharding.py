"""The mesh of a run, and where the trees of parameters and batches lie on it.

Mesh axes: 'data' and 'fsdp' share out the rows of a batch, 'fsdp' also the
base's weights, of which a layer is gathered at a time; 'tensor' shares out
heads, the MLP's width and the vocabulary. The names are the config's; which
axis of which array they cut is said by rules, which are data.
"""

from collections.abc import Mapping
import math

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding
import numpy as np

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.placement import (
  IN_USE,
  Placement,
  parts_in_use,
  placement_in_use,
)

# From the outermost to the innermost; the order of the alphabet, too, which is
# the only one that a ConfigDict keeps.
AXES = {'data': 1, 'fsdp': 1, 'tensor': 1}
# Logical axes that are never cut have no rule.
RULES = (
  ('batch', ('data', 'fsdp')),
  ('embed', ('fsdp',)),
  ('heads', ('tensor',)),
  ('kv_heads', ('tensor',)),
  ('mlp', ('tensor',)),
  ('vocab', ('tensor',)),
)
# Bytes from which an array that no rule knows is refused instead of put whole
# on every device; norms, biases and summary tokens of a 70B base are smaller.
LARGE = 2**23

# Logical axes (inputs, outputs) of every projection.
_PROJECTIONS = {
  'q_proj': ('embed', 'heads'),
  'k_proj': ('embed', 'kv_heads'),
  'v_proj': ('embed', 'kv_heads'),
  'o_proj': ('heads', 'embed'),
  'gate_proj': ('embed', 'mlp'),
  'up_proj': ('embed', 'mlp'),
  'down_proj': ('mlp', 'embed'),
  'lm_head': ('embed', 'vocab'),
}


def make_placement(
  axes: Mapping[str, int] = AXES, rules=RULES, devices=None
) -> Placement | None:
  """A mesh with its rules, or None where it would be one device.

  Args:
    axes: names and sizes of the mesh axes, the outermost first; one may be
      -1, for as many as there are devices for.
    rules: pairs of a logical axis and a mesh axis or several.
    devices: to take the mesh from, all by default.

  Raises:
    ValueError: there are too few devices, or axes and rules do not fit.
  """
  devices = jax.devices() if devices is None else list(devices)
  sizes = _sizes(dict(axes), len(devices))
  rules = tuple(
    (axis, (names,) if isinstance(names, str) else tuple(names))
    for axis, names in rules
  )
  _check_rules(sizes, rules)
  count = math.prod(sizes.values())
  if count < len(devices) and jax.process_count() > 1:
    raise ValueError(
      f'config.mesh.axes {_told(sizes)} take {count} of {len(devices)} '
      'devices; a run of several processes takes all of them, as with '
      '--config.mesh.axes.data=-1.'
    )
  if count == 1:
    return None
  # 'Auto' leaves the layout of what is not constrained to the compiler.
  mesh = jax.make_mesh(
    tuple(sizes.values()),
    tuple(sizes),
    axis_types=(AxisType.Auto,) * len(sizes),
    devices=devices[:count],
  )
  return Placement(mesh, rules)


def use(placement: Placement | None):
  """A context in which programs are placed so: `with use(placement): ...`."""
  return IN_USE(placement)


def tree_shardings(placement: Placement, config: LlamaConfig, tree):
  """The sharding of every leaf of a tree of arrays or their shapes.

  The tree is of base parameters, layers stacked or not, an adapter, a bank, a
  compressor that is trained, or an optimiser's state of one. Adapters are cut
  over 'tensor' as their base is, and whole on every device of 'fsdp': they
  are small, and their gradients are summed once a step instead.

  Raises:
    ValueError: an axis does not divide, or a large array is not known.
  """

  def of(path, leaf):
    axes = _logical_axes(path, leaf)
    counts = {
      'heads': config.num_attention_heads,
      'kv_heads': config.num_key_value_heads,
    }
    return placement.sharding(leaf.shape, axes, counts)

  return jax.tree_util.tree_map_with_path(of, tree)


def place_tree(config: LlamaConfig, tree):
  """Puts the leaves of a tree where the placement in use has them.

  Without a placement the tree is returned as it is.
  """
  shardings = shardings_in_use(config, tree)
  return tree if shardings is None else jax.tree.map(put, tree, shardings)


def shardings_in_use(config: LlamaConfig, tree):
  """`tree_shardings` of the placement in use; None without one."""
  placement = placement_in_use()
  return None if placement is None else tree_shardings(placement, config, tree)


def put(value, sharding: Sharding | None) -> jax.Array:
  """Values that every process has whole, as an array; None: as JAX does."""
  if sharding is None:
    return jnp.asarray(value)
  placed = isinstance(value, jax.Array) and not value.is_fully_addressable
  if sharding.is_fully_addressable or placed:
    return jax.device_put(value, sharding)
  # `device_put` would compare the values of all processes first.
  value = np.asarray(value)
  return jax.make_array_from_callback(
    value.shape, sharding, lambda index: value[index]
  )


def check_rows(rows: int, name: str) -> None:
  """Raises ValueError where a batch of rows does not divide.

  Unlike the one row of a single request, the rows of a long job are never
  replicated.
  """
  parts = parts_in_use('batch')
  if rows % parts:
    placement = placement_in_use()
    shape = placement.mesh.shape
    names = placement.mesh_axes('batch')
    raise ValueError(
      f'{name} is {rows}, which does not divide over the mesh axes '
      f'{_told({each: shape[each] for each in names})}; make it a multiple of '
      f'{parts}, or config.mesh.axes smaller.'
    )


def rows_sharding() -> NamedSharding | None:
  """Of arrays whose first dimension is the rows of a batch."""
  placement = placement_in_use()
  if placement is None:
    return None
  return NamedSharding(
    placement.mesh, PartitionSpec(placement.mesh_axes('batch'))
  )


def rows_here(rows: int) -> list[int]:
  """Which rows of a batch the devices of this process hold."""
  sharding = rows_sharding()
  if sharding is None:
    return list(range(rows))
  held = sharding.addressable_devices_indices_map((rows,)).values()
  return sorted({row for (part,) in held for row in range(rows)[part]})


def place_batch(batch, sharding: Sharding | None):
  """Puts a batch of which this process has made its rows (`rows_here`)."""
  if sharding is None or jax.process_count() == 1:
    for leaf in jax.tree.leaves(batch):
      check_rows(leaf.shape[0], 'The number of rows of a batch')
    return jax.device_put(batch, sharding)
  return jax.tree.map(
    lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch
  )


def place_rows(value):
  """Shares out the rows of an array that every process has whole."""
  placement = placement_in_use()
  if placement is None:
    return value
  axes = ('batch', *(None,) * (value.ndim - 1))
  return put(value, placement.sharding(value.shape, axes))


def to_host(value) -> np.ndarray:
  """The whole of an array, in every process."""
  if not isinstance(value, jax.Array) or value.is_fully_addressable:
    return np.asarray(value)
  return multihost_utils.process_allgather(value, tiled=True)


def _sizes(axes: dict[str, int], count: int) -> dict[str, int]:
  free = [name for name, size in axes.items() if size == -1]
  fixed = math.prod(size for size in axes.values() if size != -1)
  wrong = [name for name, size in axes.items() if size < 1 and size != -1]
  if wrong or len(free) > 1:
    raise ValueError(
      f'config.mesh.axes are {_told(axes)}; sizes are 1 or more, and one of '
      'them may be -1, for the devices that the others leave.'
    )
  if free:
    axes[free[0]] = max(count // fixed, 1)
  needed = math.prod(axes.values())
  if needed > count or free and count % fixed:
    raise ValueError(
      f'config.mesh.axes are {_told(axes)}, but there are {count} devices; '
      'their product must be that, or smaller where none is -1.'
    )
  return axes


def _check_rules(sizes: dict[str, int], rules) -> None:
  known = dict(RULES)
  for axis, names in rules:
    if axis not in known:
      raise ValueError(
        f"config.mesh.rules name the axis '{axis}', which no array has; "
        f'choose from {", ".join(known)}.'
      )
    for name in names:
      if name not in sizes:
        raise ValueError(
          f"config.mesh.rules cut '{axis}' over '{name}', which the mesh has "
          f'not; its axes are {", ".join(sizes)}.'
        )
  used = {name for _, names in rules for name in names}
  for name, size in sizes.items():
    if size > 1 and name not in used:
      raise ValueError(
        f"No rule of config.mesh.rules uses the mesh axis '{name}', so its "
        f'{size} devices would all do the same; add a rule, or set '
        f'config.mesh.axes.{name} to 1.'
      )


def _logical_axes(path, leaf) -> tuple[str | None, ...]:
  """Of the last dimensions of a leaf, found by its place in the tree."""
  names = jax.tree_util.keystr(path, simple=True, separator='/').split('/')
  for name in names:
    if name not in _PROJECTIONS:
      continue
    inputs, outputs = _PROJECTIONS[name]
    rank = {'a': (inputs, None), 'b': (None, outputs)}.get(names[-1])
    if rank:
      rank = tuple(None if axis == 'embed' else axis for axis in rank)
      # A bank's A has one dimension more behind the inputs.
      of_bank = names[-1] == 'a' and leaf.ndim - ('layers' in names) == 3
      return (*rank, None) if of_bank else rank
    if names[-1] in ('bias', 'scale'):
      return (outputs,)
    return inputs, outputs
  if 'embed_tokens' in names:
    return 'vocab', 'embed'
  size = math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
  if size > LARGE:
    raise ValueError(
      f'{"/".join(names)} of {size / 2**20:.1f} MiB would be on every device '
      'of the mesh: its axes have no names; give it some in sharding.py.'
    )
  return ()


def _told(sizes: Mapping[str, int]) -> str:
  return ' x '.join(f'{name}={size}' for name, size in sizes.items())
