"""From the tensors of a checkpoint into parameters on devices.

A leaf of the tree is stacked from one tensor a layer. Every device's shard of
it is read straight from these, as many layers at a time as fit a piece, and
quantised on the way in. So the host holds a piece and the tensor being read,
however large the checkpoint is; an embedding table or a head is one piece.
"""

from collections.abc import Callable, Mapping
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.nn.quantize import check_quantization, quantize_kernel
from lloco_jax.weights.layout import Slot, Tensor, is_kernel

# Of a leaf's layers so many bytes are on the host at once, at least one layer.
PIECE_BYTES = 128 * 2**20
# Rows of a matrix that are turned and quantised at a time. They stay in the
# processor's cache, which is up to ten times as fast as all in one go.
_STRIP = 16

Path = tuple[str, ...]
Shardings = Mapping[str, Any] | Callable[[dict], Mapping | None] | None


def load_leaves(
  places: Mapping[str, Slot],
  tensors: Mapping[str, Tensor],
  dtype: np.dtype,
  quantize: str | None = None,
  shardings: Shardings = None,
) -> dict:
  """The tree of parameters, read from the tensors of its slots.

  Args:
    places: the slot of every tensor, by name.
    tensors: by the same names; their shapes are those of the slots.
    dtype: of the parameters, or of what is quantised.
    quantize: 'int8' quantises the projections of the layers; `shardings` then
      has one of their 'scale' [L, F], too.
    shardings: a tree of them, or a function that makes it of the tree of
      shapes; None puts all on the default device. Pieces are only of leaves
      whose layers all lie on each device.

  Raises:
    ValueError: the quantisation is unknown, or a leaf has no sharding.
  """
  if quantize is not None:
    check_quantization(quantize)
  parts = {}
  for name, slot in places.items():
    parts.setdefault(slot.path, []).append(tensors[name])
  builds = {}
  for path, some in parts.items():
    stacked = path[0] == 'layers'
    quantized = quantize is not None and stacked and is_kernel(path)
    leaf = _Leaf(some, is_kernel(path), dtype, quantized)
    read, shape = leaf.read, leaf.shape
    if not stacked:
      read, shape = functools.partial(_read_first, leaf.read), shape[1:]
    kind = np.dtype(np.int8) if quantized else dtype
    builds[path] = (shape, kind, stacked, read)
    if quantized:
      scale = leaf.scale
      builds[*path[:-1], 'scale'] = (
        scale.shape,
        scale.dtype,
        stacked,
        leaf.read_scale,
      )
  # All are found before any weight is read.
  if callable(shardings):
    shapes = {
      path: jax.ShapeDtypeStruct(shape, kind)
      for path, (shape, kind, *_) in builds.items()
    }
    shardings = shardings(_nest(shapes))
  chosen = {path: _sharding(shardings, path) for path in builds}
  params = {}
  for path, sharding in chosen.items():
    # Popped, as a leaf keeps the boxes of its last piece.
    shape, kind, stacked, read = builds.pop(path)
    build = _build_in_pieces if stacked else _build
    params[path] = build(shape, kind, sharding, read)
  return _nest(params)


class _Leaf:
  """A leaf that is still in its tensors; boxes of it are read.

  Axis 0 counts the tensors. Kernels are [out, in] in files and [in, out] here.
  A scale is of a whole column, so a quantised box is made of whole columns and
  cut. Devices that hold the same share a box, until another piece is read.
  """

  def __init__(self, tensors, turned: bool, dtype: np.dtype, quantized: bool):
    sizes = tensors[0].shape
    self.shape = (len(tensors), *(sizes[::-1] if turned else sizes))
    if quantized:
      wide = jnp.promote_types(dtype, np.float32)
      self.scale = np.full(self.shape[::2], np.nan, wide)
      self._scaled = np.zeros(self.shape[::2], bool)
    self._tensors = tensors
    self._turned = turned
    self._quantized = quantized
    self._dtype = dtype
    self._layers = None
    self._boxes = {}

  def read(self, index) -> np.ndarray:
    """The box of an index, which has a slice for every axis."""
    bounds = [part.indices(size)[:2] for part, size in zip(index, self.shape)]
    layers, inputs = bounds[:2]
    if self._quantized:
      bounds[1] = (0, self.shape[1])
    if self._layers != layers:
      self._boxes.clear()
      self._layers = layers
    key = tuple(bounds)
    if key not in self._boxes:
      self._boxes[key] = self._make(range(*layers), key[1:])
    box = self._boxes[key]
    return box[:, slice(*inputs)] if self._quantized else box

  def read_scale(self, index) -> np.ndarray:
    """The same of the scale, which comes of reading the kernel."""
    for layer in range(*index[0].indices(self.shape[0])[:2]):
      if not self._scaled[layer, index[1]].all():
        self.read((slice(layer, layer + 1), slice(None), index[1]))
    return self.scale[index].copy()

  def _make(self, layers: range, bounds) -> np.ndarray:
    shape = [len(layers), *(stop - start for start, stop in bounds)]
    box = np.empty(shape, np.int8 if self._quantized else self._dtype)
    index = tuple(itertools.starmap(slice, bounds))
    for layer, target in zip(layers, box):
      tensor = self._tensors[layer]
      try:
        with np.errstate(over='raise'):
          if self._turned:
            self._turn(layer, index, tensor.read(index[::-1]), target)
          else:
            target[...] = tensor.read(index)
      except FloatingPointError as error:
        raise ValueError(
          f'The checkpoint has weights that exceed {self._dtype.name}; load it '
          'in bfloat16 or float32.'
        ) from error
    return box

  def _turn(self, layer: int, index, values, target) -> None:
    """Fills a matrix [in, out] with values [out, in]."""
    scale = self.scale[layer, index[1]] if self._quantized else None
    for start in range(0, len(values), _STRIP):
      rows = slice(start, start + _STRIP)
      strip = values[rows].T
      if self._quantized:
        strip, scale[rows] = quantize_kernel(strip.astype(self._dtype))
      target[:, rows] = strip
    if self._quantized:
      self._scaled[layer, index[1]] = True


def _read_first(read, index):
  """The box of an unstacked leaf."""
  return read((slice(0, 1), *index))[0]


def _build(shape, dtype, sharding, read) -> jax.Array:
  if sharding is None:
    return jnp.asarray(read((slice(None),) * len(shape)))
  return jax.make_array_from_callback(shape, sharding, read, dtype)


def _build_in_pieces(shape, dtype, sharding, read) -> jax.Array:
  layers = shape[0]
  count = max(1, PIECE_BYTES // (dtype.itemsize * math.prod(shape[1:])))
  split = sharding is not None and sharding.shard_shape(shape)[0] < layers
  if split or count >= layers:
    return _build(shape, dtype, sharding, read)
  whole = jnp.zeros(shape, dtype, device=sharding)
  for start in range(0, layers, count):
    size = min(count, layers - start)
    piece = _build(
      (size, *shape[1:]),
      dtype,
      sharding,
      functools.partial(_read_shifted, read, start, size),
    )
    # The next piece is made when this one has left the host.
    whole = _put(whole, piece, start).block_until_ready()
  return whole


def _read_shifted(read, start: int, size: int, index):
  return read((slice(start, start + size), *index[1:]))


@functools.partial(jax.jit, donate_argnums=0)
def _put(whole, piece, start):
  return jax.lax.dynamic_update_slice_in_dim(whole, piece, start, axis=0)


def _sharding(shardings: Mapping[str, Any] | None, path: Path):
  if shardings is None:
    return None
  try:
    return functools.reduce(lambda tree, key: tree[key], path, shardings)
  except KeyError as error:
    raise ValueError(
      f'shardings have none for {"/".join(path)}; give the tree of the '
      'parameters, in which a quantised projection has a scale.'
    ) from error


def _nest(leaves: Mapping[Path, Any]) -> dict:
  tree = {}
  for path, leaf in leaves.items():
    node = tree
    for key in path[:-1]:
      node = node.setdefault(key, {})
    node[path[-1]] = leaf
  return tree
