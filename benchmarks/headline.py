"""Full context against summaries, by length of the context; both sides ours.

The paper's headline (Tan et al. 2024, section 4.5): 7.62 times as fast a
token and 11.52 times the finetuning samples a second, of LLaMA2-7B on an
A100. Weights are random. Compression, which happens once and offline, is
left out, as in the paper; see compression.py for it.

    python benchmarks/headline.py
    python benchmarks/headline.py --shape llama2-7b --dtype bfloat16 \
      --lengths 4096 16384 32768 65536 131072 \
      --training-lengths 4096 8192 16384 --remat full
"""

from concurrent.futures import ThreadPoolExecutor
import functools
import itertools
import statistics
import sys

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import jax

from benchmarks import common
from benchmarks.network import Network


def in_turn(runs, repeats: int):
  """Results of both sides by round; None for one that is out of memory.

  `runs` are the functions to run, of the full context and of summaries, None
  for one whose program does not fit.
  """
  runs = list(runs)
  results = [[], []]
  for turn in range(repeats):
    for side in (0, 1) if turn % 2 else (1, 0):
      if runs[side] is None:
        continue
      result = _fitting(runs[side])
      if result is None:
        runs[side] = None
      results[side].append(result)
  return [None if run is None else r for run, r in zip(runs, results)]


def _fitting(function):
  try:
    return function()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return None


def row(tokens: int, vectors: int, full, short, invert=False) -> dict:
  """Medians of both sides and of their ratio by round.

  `invert` turns seconds a sample into samples a second.
  """

  def middle(values):
    if values is None:
      return None
    seconds = statistics.median(values)
    return 1 / seconds if invert else seconds

  ratio = None
  if full and short:
    ratio = statistics.median(a / b for a, b in zip(full, short))
  return {
    'context tokens': tokens,
    'vectors': vectors,
    'full context': middle(full),
    'summaries': middle(short),
    'ratio': ratio,
  }


def column(results, index: int):
  return results and [result[index] for result in results]


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=3)
  parser.add_argument('--shape', default='smollm2-135m', choices=common.SHAPES)
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16')
  )
  parser.add_argument(
    '--lengths',
    type=int,
    nargs='+',
    default=[512, 1024, 2048, 4096, 8192],
    help='tokens of context',
  )
  parser.add_argument(
    '--training-lengths', type=int, nargs='*', default=[512, 1024, 2048, 4096]
  )
  parser.add_argument('--segment', type=int, default=1536, help='tokens')
  parser.add_argument('--summary-length', type=int, default=50)
  parser.add_argument('--question', type=int, default=32, help='tokens')
  parser.add_argument('--new-tokens', type=int, default=16)
  parser.add_argument('--remat', default='projections', help='in finetuning')
  parser.add_argument(
    '--unstacked',
    action='store_true',
    help='read with unstacked layers, too: keys and values exist once',
  )
  args = parser.parse_args()
  common.shrink(
    args,
    shape='tiny',
    lengths=[32, 64],
    training_lengths=[32],
    segment=16,
    summary_length=2,
    question=4,
    new_tokens=4,
  )
  device = jax.devices()[0].device_kind
  where = common.environment() | {'device': device}
  network = Network(common.shape(args.shape), args.dtype, args.remat)
  jax.block_until_ready(network.model.unstacked_params)
  stages = {'answering': args.lengths, 'finetuning': args.training_lengths}
  jobs = {}
  for stage, lengths in stages.items():
    make = getattr(network, stage)
    if stage == 'answering':
      make = functools.partial(make, unstacked=args.unstacked)
    for tokens in lengths:
      vectors = -(-tokens // args.segment) * args.summary_length
      sides = ((0, tokens + args.question), (vectors, args.question))
      jobs[stage, tokens] = [
        functools.partial(make, *side, args.new_tokens) for side in sides
      ]
  with ThreadPoolExecutor() as pool:
    flat = list(pool.map(_fitting, itertools.chain(*jobs.values())))
  print('compiled', file=sys.stderr)
  runs = dict(zip(jobs, zip(flat[::2], flat[1::2])))
  first, later, training = [], [], []
  for (stage, tokens), sides in runs.items():
    vectors = -(-tokens // args.segment) * args.summary_length
    results = in_turn(sides, args.repeats)
    if stage == 'answering':
      for rows, index in ((first, 0), (later, 1)):
        columns = [column(result, index) for result in results]
        rows.append(row(tokens, vectors, *columns))
    else:
      training.append(row(tokens, vectors, *results, invert=True))
    print(stage, tokens, results, file=sys.stderr, flush=True)
  tables = {
    'Seconds to the first token': first,
    'Seconds a new token (paper: up to 7.62x, LLaMA2-7B on A100)': later,
    'Finetuning samples a second (paper: 11.52x, on A100)': training,
  }
  common.report(
    args,
    where,
    {title: rows for title, rows in tables.items() if rows},
    (
      f'{args.shape} with random weights, {args.dtype}, LoRA rank 8 on q, k, '
      f'v, o on both sides; a question of {args.question} tokens, '
      f'{args.new_tokens} new ones or as many to learn; one row; '
      f'{args.segment:,} tokens to {args.summary_length} vectors; remat '
      f'{args.remat}. - is out of memory.',
    ),
  )


if __name__ == '__main__':
  main()
