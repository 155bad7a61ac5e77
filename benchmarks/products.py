"""Products of a few rows with large matrices, by how they are written.

Decoding reads all weights for a few rows, so an int8 base should take half the
time of a bfloat16 one; which form of the product a compiler makes that of, only
a measurement tells. Rows pass through the two shapes of an MLP in turn, each
matrix of its own.

    python benchmarks/products.py --rows 1 8 32
"""

import functools
import statistics
import sys
import time

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
import jax.numpy as jnp

from benchmarks import common
from benchmarks.throughput import LIMITS
from lloco_jax.nn.quantize import quantize_kernel, scaled_matmul


def floats(x, kernel):
  """x [R, D] times [D, F]."""
  return x @ kernel


def columns(x, kernel, scale):
  """What the package does: int8 [D, F], each column read to its end."""
  return scaled_matmul(x[None], kernel, scale)[0]


def rows(x, kernel, scale):
  """int8 [F, D], whose rows lie as they are read."""
  y = jnp.einsum('rd,fd->rf', x, kernel.astype(x.dtype))
  return (y * scale).astype(x.dtype)


def sums(x, kernel, scale):
  """int8 [F, D], as sums of products in float32."""
  wide = x.astype(jnp.float32)[:, None]
  y = jnp.sum(wide * kernel.astype(jnp.float32), axis=-1)
  return (y * scale).astype(x.dtype)


def integers(x, kernel, scale):
  """int8 [F, D] and x in int8 as well: not as exact as the others."""
  own = jnp.max(jnp.abs(x), axis=-1, keepdims=True).astype(jnp.float32) / 127
  codes = jnp.round(x / own).astype(jnp.int8)
  y = jnp.einsum('rd,fd->rf', codes, kernel, preferred_element_type=jnp.int32)
  return (y * own * scale).astype(x.dtype)


def triton_kernel(x, kernel, scale, width=64, splits=8, interpret=False):
  """int8 [D, F] by a kernel of Pallas: `splits` parts of D apart."""
  count, (d, f) = x.shape[0], kernel.shape
  # As many rows as a tensor core multiplies at the least.
  padded = max(16, pl.next_power_of_2(count))
  x = jnp.pad(x, ((0, padded - count), (0, 0)))
  while d % splits:
    splits //= 2
  part = d // splits
  step = min(part & -part, 128)
  width = min(width, f & -f)

  def run(x_ref, kernel_ref, y_ref):
    start = pl.program_id(1) * part

    def add(index, total):
      places = pl.ds(start + index * step, step)
      block = kernel_ref[places, :].astype(x.dtype)
      return total + triton.dot(x_ref[:, places], block)

    nothing = jnp.zeros((padded, width), jnp.float32)
    y_ref[...] = jax.lax.fori_loop(0, part // step, add, nothing)[None]

  parts = pl.pallas_call(
    run,
    grid=(f // width, splits),
    in_specs=[
      pl.BlockSpec((padded, d), lambda i, j: (0, 0)),
      pl.BlockSpec((d, width), lambda i, j: (0, i)),
    ],
    out_specs=pl.BlockSpec((1, padded, width), lambda i, j: (j, 0, i)),
    out_shape=jax.ShapeDtypeStruct((splits, padded, f), jnp.float32),
    compiler_params=triton.CompilerParams(num_warps=4, num_stages=4),
    interpret=interpret,
  )(x, kernel)
  return (jnp.sum(parts, axis=0)[:count] * scale).astype(x.dtype)


# Whether a form wants [F, D].
FORMS = {
  'floats': (floats, False),
  'columns': (columns, False),
  'rows': (rows, True),
  'sums': (sums, True),
  'integers': (integers, True),
  'kernel': (triton_kernel, False),
}


def matrices(name: str, shapes, dtype: str):
  """What a form is given of each product but x: the kernel, and its scale."""
  _, turned = FORMS[name]
  made = []
  for index, (d, f) in enumerate(shapes):
    kernel = jax.random.normal(jax.random.key(index), (d, f), dtype) / d**0.5
    if name == 'floats':
      made.append((kernel,))
      continue
    codes, scale = jax.jit(quantize_kernel)(kernel)
    made.append((jnp.copy(codes.T) if turned else codes, scale))
  return made


def through(form, x, weights):
  for each in weights:
    x = form(x, *each)
  return x


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=20)
  parser.add_argument('--rows', type=int, nargs='+', default=[1, 32])
  parser.add_argument('--forms', nargs='+', default=list(FORMS), choices=FORMS)
  parser.add_argument('--size', type=int, default=4096, help='D')
  parser.add_argument('--mlp', type=int, default=11_008, help='F')
  parser.add_argument('--pairs', type=int, default=8, help='of matrices')
  parser.add_argument('--dtype', default='bfloat16', help='of rows and floats')
  args = parser.parse_args()
  common.shrink(args, size=64, mlp=96, pairs=1, dtype='float32')
  device = jax.devices()[0].device_kind
  where = common.environment() | {'device': device}
  _, most = LIMITS.get(device, (None, None))
  shapes = [(args.size, args.mlp), (args.mlp, args.size)] * args.pairs
  exact = matrices('floats', shapes, args.dtype)
  table = []
  for name in args.forms:
    form, _ = FORMS[name]
    if name == 'kernel' and jax.default_backend() == 'cpu':
      form = functools.partial(form, interpret=True)
    weights = matrices(name, shapes, args.dtype)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    run = jax.jit(functools.partial(through, form))
    for count in args.rows:
      x = jax.random.normal(jax.random.key(1), (count, args.size), args.dtype)
      wanted = through(floats, x, exact).astype(jnp.float32)
      found = run(x, weights).astype(jnp.float32)
      error = jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted)
      taken = []
      for _ in range(args.repeats):
        start = time.perf_counter()
        jax.block_until_ready(run(x, weights))
        taken.append(time.perf_counter() - start)
      seconds = statistics.median(taken)
      table.append(
        {
          'form': name,
          'rows': count,
          'us a product': seconds / len(shapes) * 1e6,
          'GB/s': size / seconds / 1e9,
          'of bandwidth': most and size / seconds / most,
          'error': float(error),
        }
      )
      print(table[-1], file=sys.stderr, flush=True)
  common.report(
    args,
    where,
    {'Products': table},
    (
      f'{len(shapes)} products of {args.size} x {args.mlp} and back, one '
      'after the other; the error is that of the last, against floats.',
    ),
  )


if __name__ == '__main__':
  main()
