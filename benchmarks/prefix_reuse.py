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
  return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def segment_program(params, config, state, tokens):
  """Compiles one segment; gives the function, and its bytes but for weights.

  The function copies the state first, since its prefix is given up, and
  returns the seconds and the next state.
  """

  def step(params, prefix, rest, tokens):
    lengths = jnp.full(tokens.shape[:1], tokens.shape[1], jnp.int32)
    state = rest.replace(prefix=prefix)
    return compress_segment(params, config, tokens, lengths, state)[1]

  rest = state.replace(prefix=None)
  compiled = (
    jax.jit(step, donate_argnums=1)
    .lower(params, state.prefix, rest, tokens)
    .compile()
  )
  memory = compiled.memory_analysis()
  peak = (
    memory.temp_size_in_bytes
    + memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    - tree_bytes(params)
  )

  def run():
    prefix = jax.block_until_ready(jax.tree.map(jnp.copy, state.prefix))
    start = time.perf_counter()
    after = jax.block_until_ready(compiled(params, prefix, rest, tokens))
    return time.perf_counter() - start, after

  run()
  return run, peak


def measure(params, config, count: int, segment_length: int, repeats: int):
  """A row a segment: positions, seconds by repeat and bytes of both ways."""
  # Without accumulation nothing is kept: all the vectors given run again.
  forgetful = dataclasses.replace(config, accumulate_summary=False)
  k = config.summary_length
  empty = jnp.zeros((1, 0, config.hidden_size), params['norm']['scale'].dtype)
  state, vectors = init_state(config, empty), empty
  random = np.random.default_rng(0)
  rows = []
  for index in range(count):
    tokens = random.integers(config.vocab_size, size=(1, segment_length))
    tokens = jnp.asarray(tokens, jnp.int32)
    state = grow_prefix(state, k * index)
    reuse, reuse_bytes = segment_program(params, config, state, tokens)
    rerun, rerun_bytes = segment_program(
      params, forgetful, init_state(forgetful, vectors), tokens
    )
    row = {
      'reuse positions': state.vectors.shape[1] + segment_length + k,
      'rerun positions': vectors.shape[1] + segment_length + k,
      'reuse seconds': [],
      'rerun seconds': [],
      'reuse bytes': reuse_bytes,
      'rerun bytes': rerun_bytes,
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
    row['kept bytes'] = tree_bytes(state.prefix)
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


def memory(rows: list[dict]) -> dict:
  """One row of the report: the last of these segments, in MiB."""
  last = rows[-1]
  return {
    'segments': len(rows),
    'kept prefix': last['kept bytes'] / MIB,
    'reuse peak': last['reuse bytes'] / MIB,
    'beyond the prefix': (last['reuse bytes'] - last['kept bytes']) / MIB,
    'rerun peak': last['rerun bytes'] / MIB,
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
  config = common.shape(
    args.shape,
    num_hidden_layers=args.layers,
    summary_length=args.summary_length,
  )
  params = init_params(config, jax.random.key(0))
  rows = measure(params, config, max(args.segments), args.segment, args.repeats)
  runs = [rows[:count] for count in sorted(args.segments)]
  common.report(
    args,
    where,
    {
      'Keeping the prefix against running it again': list(map(speed, runs)),
      'Peak memory of the last segment, MiB beside the weights': list(
        map(memory, runs)
      ),
    },
    (
      f'{args.layers} layers of the width of {args.shape}, random weights, '
      f'float32; segments of {args.segment:,} tokens to '
      f'{args.summary_length} vectors. The quotient is the speed-up over the '
      "ratio of positions; peaks are the compiler's.",
    ),
  )


if __name__ == '__main__':
  main()
