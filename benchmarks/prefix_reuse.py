"""Compression that keeps its prefix, against running all of it again.

With every segment the reference runs [all earlier vectors | segment | summary
tokens]; ours runs only [new vectors | segment | summary tokens] and keeps the
keys and values of the vectors before. Both are the same function here, at
exact lengths: a program of its own for every segment, compiled before it is
timed, first segments of a long document being those of a short one.

    python benchmarks/prefix_reuse.py
"""

import dataclasses
import statistics
import sys
import time

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import common
from lloco_jax.nn.autocompressor import (
  compress_segment,
  grow_prefix,
  init_state,
)
from lloco_jax.nn.llama import init_params

MIB = 2**20


def tree_bytes(tree) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def lower(params, config, state, tokens):
  """The program of one segment; arrays may be shapes alone."""

  def step(params, prefix, rest, tokens):
    lengths = jnp.full(tokens.shape[:1], tokens.shape[1], jnp.int32)
    state = rest.replace(prefix=prefix)
    return compress_segment(params, config, tokens, lengths, state)[1]

  rest = state.replace(prefix=None)
  return jax.jit(step, donate_argnums=1).lower(
    params, state.prefix, rest, tokens
  )


def segment_program(params, config, state, tokens):
  """Compiles one segment; gives a function of nothing.

  It copies the prefix first, since that is given up, and returns the seconds
  and the next state.
  """
  compiled = lower(params, config, state, tokens).compile()
  rest = state.replace(prefix=None)

  def run():
    prefix = jax.block_until_ready(jax.tree.map(jnp.copy, state.prefix))
    start = time.perf_counter()
    after = jax.block_until_ready(compiled(params, prefix, rest, tokens))
    return time.perf_counter() - start, after

  run()
  return run


def peak_bytes(config, vectors: int, kept: int, segment_length: int):
  """Bytes of a segment behind that many vectors: kept ones, and the peak.

  The peak is the compiler's, without the weights; nothing runs.
  """
  params, state = jax.eval_shape(
    lambda: (
      init_params(config, jax.random.key(0)),
      init_state(config, jnp.zeros((1, vectors, config.hidden_size)), kept),
    )
  )
  tokens = jax.ShapeDtypeStruct((1, segment_length), jnp.int32)
  used = lower(params, config, state, tokens).compile().memory_analysis()
  peak = used.temp_size_in_bytes + used.argument_size_in_bytes
  peak += used.output_size_in_bytes - used.alias_size_in_bytes
  return tree_bytes(state.prefix), peak - tree_bytes(params)


def without_keeping(config):
  """Without accumulation nothing is kept: all the vectors given run again."""
  return dataclasses.replace(config, accumulate_summary=False)


def measure(params, config, count: int, segment_length: int, repeats: int):
  """A row a segment: positions and seconds by repeat of both ways."""
  forgetful = without_keeping(config)
  k = config.summary_length
  empty = jnp.zeros((1, 0, config.hidden_size), params['norm']['scale'].dtype)
  state, vectors = init_state(config, empty), empty
  random = np.random.default_rng(0)
  rows = []
  for index in range(count):
    tokens = random.integers(config.vocab_size, size=(1, segment_length))
    tokens = jnp.asarray(tokens, jnp.int32)
    state = grow_prefix(state, k * index)
    reuse = segment_program(params, config, state, tokens)
    rerun = segment_program(
      params, forgetful, init_state(forgetful, vectors), tokens
    )
    row = {
      'reuse positions': state.vectors.shape[1] + segment_length + k,
      'rerun positions': vectors.shape[1] + segment_length + k,
      'reuse seconds': [],
      'rerun seconds': [],
    }
    ways, after = {'reuse': reuse, 'rerun': rerun}, {}
    for turn in range(repeats):
      # In turn, so that neither always finds the other's data in the caches.
      for name in sorted(ways, reverse=turn % 2 == 1):
        seconds, after[name] = ways[name]()
        row[f'{name} seconds'].append(seconds)
    state, again = after['reuse'], after['rerun']
    error = jnp.abs(state.vectors - again.vectors).max()
    row['difference'] = float(error / jnp.abs(again.vectors).max())
    vectors = jnp.concatenate([vectors, state.vectors], axis=1)
    rows.append(row)
    print(f'\rsegment {index + 1}/{count}', end='', file=sys.stderr)
  print(file=sys.stderr)
  return rows


def speed(rows: list[dict]) -> dict:
  """One row of the report: a document of these segments."""

  def summed(name):
    return np.sum([row[name] for row in rows], axis=0)

  ratios = summed('rerun seconds') / summed('reuse seconds')
  fewer = float(summed('rerun positions') / summed('reuse positions'))
  return {
    'segments': len(rows),
    'reuse seconds': statistics.median(summed('reuse seconds')),
    'rerun seconds': statistics.median(summed('rerun seconds')),
    'times as fast': statistics.median(ratios),
    'fewer positions': fewer,
    'quotient': statistics.median(ratios) / fewer,
    'difference': max(row['difference'] for row in rows),
  }


def memory(config, segments: int, segment_length: int) -> dict:
  """One row of the report: the last of these segments, in MiB."""
  k = config.summary_length
  earlier = k * (segments - 1)
  kept, reuse = peak_bytes(config, min(k, earlier), earlier, segment_length)
  _, rerun = peak_bytes(without_keeping(config), earlier, 0, segment_length)
  return {
    'segments': segments,
    'kept prefix': kept / MIB,
    'reuse peak': reuse / MIB,
    'beyond the prefix': (reuse - kept) / MIB,
    'rerun peak': rerun / MIB,
  }


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=3)
  parser.add_argument('--shape', default='smollm2-135m', choices=common.SHAPES)
  parser.add_argument('--layers', type=int, default=2, help='of the shape')
  parser.add_argument('--segments', type=int, nargs='+', default=[8, 24, 80])
  parser.add_argument('--segment', type=int, default=1536, help='tokens')
  parser.add_argument('--summary-length', type=int, default=50)
  args = parser.parse_args()
  common.shrink(
    args, shape='tiny', segments=[1, 3], segment=16, summary_length=4
  )
  where = common.environment() | {'device': jax.devices()[0].device_kind}
  whole = common.shape(args.shape, summary_length=args.summary_length)
  config = dataclasses.replace(whole, num_hidden_layers=args.layers)
  params = init_params(config, jax.random.key(0))
  counts = sorted(args.segments)
  rows = measure(params, config, counts[-1], args.segment, args.repeats)
  common.report(
    args,
    where,
    {
      'Keeping the prefix against running it again': [
        speed(rows[:count]) for count in counts
      ],
      'Peak memory of the last segment, MiB beside the weights': [
        memory(whole, count, args.segment) for count in counts
      ],
    },
    (
      f'{args.layers} layers of the width of {args.shape}, random weights, '
      f'float32; segments of {args.segment:,} tokens to '
      f'{args.summary_length} vectors. The quotient is the speed-up over the '
      "ratio of positions; peaks are the compiler's, for all "
      f'{whole.num_hidden_layers} layers.',
    ),
  )


if __name__ == '__main__':
  main()
