"""The int8 base: projections as integers, with a scale an output channel.

A projection's kernel W [..., D, F] becomes int8 beside a float 'scale'
[..., F], W being about kernel * scale. Nothing else knows of it but LoraLinear,
which scales behind the matmul. Embeddings, norms and the head stay.
"""

import jax
import jax.numpy as jnp

QUANTIZATIONS = ('int8',)
_BLOCKS = ('self_attn', 'mlp')
_LARGEST = 127
# Of a column that has no larger value: it becomes zeros.
_SMALLEST = 1e-30
# Rows that are multiplied one number at a time.
FEW_ROWS = 4


def check_quantization(kind) -> None:
  """Raises ValueError unless `kind` is one of QUANTIZATIONS."""
  if kind not in QUANTIZATIONS:
    raise ValueError(
      f"quantize is '{kind}'; choose from {', '.join(QUANTIZATIONS)}, or leave "
      'it out.'
    )


def is_quantized(params: dict) -> bool:
  """Whether a tree of parameters, or of their shapes, is quantised."""
  return any(leaf.dtype == jnp.int8 for leaf in jax.tree.leaves(params))


def quantize_kernel(kernel):
  """int8 [..., D, F] and the scale [..., F], float32 or wider, of a kernel.

  Symmetric: the largest of a column becomes 127 or -127. Arrays of numpy give
  arrays of numpy.
  """
  wide = kernel.astype(jnp.promote_types(kernel.dtype, 'float32'))
  largest = abs(wide).max(axis=-2).clip(min=_SMALLEST)
  # Nothing is divided by 127 and no kernel by anything: XLA would multiply by
  # the inverse, and differ from numpy in the last bit.
  codes = (wide * (_LARGEST / largest)[..., None, :]).round().astype('int8')
  return codes, largest * (1 / _LARGEST)


def quantize_params(params: dict, kind: str = 'int8') -> dict:
  """The base with quantised projections; layers stacked.

  Raises:
    ValueError: the kind is unknown, or the base is quantised already.
  """
  check_quantization(kind)
  if is_quantized(params):
    raise ValueError(
      'The base is quantised already; quantise one that was loaded without.'
    )

  def one(projection):
    kernel, scale = _quantize(projection['kernel'])
    return {**projection, 'kernel': kernel, 'scale': scale}

  layers = dict(params['layers'])
  for block in _BLOCKS:
    layers[block] = {
      name: one(projection) for name, projection in layers[block].items()
    }
  return {**params, 'layers': layers}


def scaled_matmul(x, kernel, scale):
  """x [B, T, D] times the int8 kernel [D, F], scaled by [F]."""
  # Sums of unscaled products exceed float16, which ends at 65,504.
  wide = jnp.float32 if x.dtype == jnp.float16 else None
  y = jnp.einsum(
    'btd,df->btf', x, kernel.astype(x.dtype), preferred_element_type=wide
  )
  return (y * scale).astype(x.dtype)


def turn(projection: dict) -> dict:
  """A quantised projection with its kernel as 'turned' [F, D]."""
  rest = {name: x for name, x in projection.items() if name != 'kernel'}
  return {**rest, 'turned': jnp.swapaxes(projection['kernel'], -1, -2)}


def turned_matmul(x, kernel, scale):
  """x [B, T, D] times the int8 kernel [F, D], scaled by [F].

  As a GPU reads it: each output's integers lie side by side. Few rows are
  multiplied without its matrix units.
  """
  wide = jnp.float32
  if x.shape[0] * x.shape[1] <= FEW_ROWS:
    # Or what gives x would be computed again for every output.
    x = jax.lax.optimization_barrier(x)
    y = jnp.sum(x[:, :, None].astype(wide) * kernel.astype(wide), axis=-1)
  else:
    y = jnp.einsum(
      'btd,fd->btf', x, kernel.astype(x.dtype), preferred_element_type=wide
    )
  return (y * scale).astype(x.dtype)


# Jitted, so that no float copy of the stacked kernels is made.
_quantize = jax.jit(quantize_kernel)
