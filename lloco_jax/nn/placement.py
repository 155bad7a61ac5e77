"""Where arrays lie on a mesh of devices, by the names of their axes.

A rule sends a logical axis ('batch', 'embed', 'heads', ...) to axes of the
mesh. The network names the axes of its activations and knows nothing else of
meshes; what the names mean is decided by whoever puts a placement in use.
"""

from collections.abc import Mapping
import dataclasses
import math

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_ADVICE = {
  'batch': 'make the number of rows (config.batch.rows, '
  'config.compression.rows) a multiple of {parts}',
}
_OTHER_ADVICE = (
  'choose another size in config.mesh.axes, or leave {axis} out of '
  'config.mesh.rules'
)


@dataclasses.dataclass(frozen=True)
class Placement:
  """A mesh and the rules for it: pairs of a logical axis and mesh axes."""

  mesh: Mesh
  rules: tuple[tuple[str, tuple[str, ...]], ...]

  def mesh_axes(self, axis: str | None) -> tuple[str, ...]:
    """Mesh axes, of more than one device, that a logical axis is cut over."""
    names = dict(self.rules).get(axis, ())
    return tuple(name for name in names if self.mesh.shape[name] > 1)

  def parts(self, axis: str) -> int:
    """Parts that a logical axis is cut into."""
    return math.prod(self.mesh.shape[name] for name in self.mesh_axes(axis))

  def sharding(
    self, shape, axes, counts: Mapping[str, int] | None = None
  ) -> NamedSharding:
    """Where an array of such a shape lies.

    Args:
      shape: of the array.
      axes: the logical axis of each of its last dimensions, None for one that
        is never cut; dimensions before them are not cut either.
      counts: of axes whose dimension holds several numbers of each item, as
        the heads of a projection, the number of items.

    Raises:
      ValueError: a dimension does not divide. Two are replicated instead, on
        purpose: a single row, and fewer key-value heads than parts.
    """
    axes = (None,) * (len(shape) - len(axes)) + tuple(axes)
    spec, used = [], {}
    for size, axis in zip(shape, axes, strict=True):
      names = self._divide(axis, size, (counts or {}).get(axis, size))
      for name in names:
        if name in used:
          raise ValueError(
            f"The axes '{used[name]}' and '{axis}' of one array are both cut "
            f"over the mesh axis '{name}'; change config.mesh.rules."
          )
        used[name] = axis
      spec.append(names if len(names) > 1 else names[0] if names else None)
    return NamedSharding(self.mesh, PartitionSpec(*spec))

  def _divide(self, axis, size: int, count: int) -> tuple[str, ...]:
    names = self.mesh_axes(axis)
    parts = self.parts(axis)
    # A dimension of length 1 stands for all that it is broadcast to.
    few = size == 1 or axis == 'kv_heads' and count < parts
    if few or not names:
      return ()
    if count % parts:
      advice = _ADVICE.get(axis, _OTHER_ADVICE)
      raise ValueError(
        f"The axis '{axis}' of {count} does not divide over the mesh axes "
        f'{" x ".join(f"{name}={self.mesh.shape[name]}" for name in names)}; '
        f'{advice.format(parts=parts, axis=axis)}.'
      )
    return names


# JAX keeps programs traced under one placement apart from those under another
# or none; a global variable of our own would leave them mixed up.
IN_USE = jax.make_user_context(default_value=None)


def placement_in_use() -> Placement | None:
  """The placement of the mesh that programs run on; None on one device."""
  return IN_USE.value


def parts_in_use(axis: str) -> int:
  """Parts that a logical axis is cut into; 1 on one device."""
  placement = placement_in_use()
  return placement.parts(axis) if placement else 1


def constrain(x, *axes):
  """Keeps an activation cut along its named last axes; see `Placement`.

  Without it a compiler may gather activations where it should gather the
  weights of a layer, which takes several times the memory. It does nothing
  when no mesh is in use.
  """
  placement = placement_in_use()
  if placement is None:
    return x
  return jax.lax.with_sharding_constraint(x, placement.sharding(x.shape, axes))
