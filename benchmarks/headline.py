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
from lloco_jax.data.batches import pack
from lloco_jax.finetuning.loop import empty_sums, initial_state, make_steps
from lloco_jax.finetuning.optimizer import (
  OptimizerConfig,
  make_optimizer,
  make_schedule,
)
from lloco_jax.finetuning.questions import question_task
from lloco_jax.generation.decoding import decode_in_place, prefill
from lloco_jax.model import Model
from lloco_jax.nn.llama import init_params, unstack_layers
from lloco_jax.nn.lora import LoraConfig, init_adapter


class Network:
  """A base of random weights with a LoRA adapter of the paper's rank."""

  def __init__(self, config, dtype: str, remat: str):
    make = jax.jit(init_params, static_argnums=(0, 2))
    self.config, self.remat = config, remat
    self.params = make(config, jax.random.key(0), dtype)
    self.model = Model(config, self.params, None, 'random', '')
    self.adapter = init_adapter(config, LoraConfig(), jax.random.key(1))
    self.unstacked_adapter = self.adapter.replace(
      weights=unstack_layers(self.adapter.weights)
    )

  def random_ids(self, count: int) -> list[int]:
    random = np.random.default_rng(count)
    return random.integers(self.config.vocab_size, size=count).tolist()

  def summaries(self, count: int):
    """[1, count, D]; the count may be 0."""
    shape = (1, count, self.config.hidden_size)
    dtype = self.params['norm']['scale'].dtype
    return jax.random.normal(jax.random.key(2), shape, dtype)

  def answering(self, vectors: int, prompt_tokens: int, new_tokens: int):
    """A function that answers once: seconds to first token, and by token."""
    context = self.summaries(vectors)
    prompt = jnp.asarray(self.random_ids(prompt_tokens), jnp.int32)
    sizes = jnp.full((1,), vectors), jnp.full((1, 1), prompt_tokens)
    reads = (context, sizes[0], prompt[None, None], sizes[1])
    read = prefill.lower(
      self.params, self.config, *reads, self.adapter, None, new_tokens
    ).compile()
    length = sizes[0][:, None] + sizes[1]
    first, cache = read.out_info
    weights = self.model.unstacked_params
    ends = (self.unstacked_adapter, None, jax.random.key(0))
    # The first token comes from the prefill.
    steps = (new_tokens + 1, 0.0, 1.0, ())
    write = decode_in_place.lower(
      weights, self.config, first, cache, length, *ends, *steps
    ).compile()

    def run():
      start = time.perf_counter()
      first, cache = read(self.params, *reads, self.adapter, None)
      jax.block_until_ready(first)
      middle = time.perf_counter()
      jax.block_until_ready(write(weights, first, cache, length, *ends))
      end = time.perf_counter()
      return middle - start, (end - middle) / new_tokens

    return run

  def finetuning(self, vectors: int, prompt_tokens: int, answer_tokens: int):
    """A function that makes one update from one example: its seconds."""
    answer = self.random_ids(answer_tokens)
    batch = pack([[(self.random_ids(prompt_tokens), answer)]])
    batch['context'] = self.summaries(vectors)
    batch['context_lengths'] = np.full((1,), vectors, np.int32)
    batch = jax.device_put(batch)

    task = question_task(self.model, self.adapter, [batch], self.remat)
    settings = OptimizerConfig(schedule='constant')
    optimizer = make_optimizer(settings, 1)
    state = initial_state(self.adapter, optimizer)
    sums = empty_sums(state)
    accumulate, update = make_steps(
      task.loss, optimizer, make_schedule(settings, 1), state, sums
    )
    rest = (state.step, self.params, batch, jax.random.key(0))
    accumulate = accumulate.lower(sums, state.trainable, *rest).compile()
    update = update.lower(state, sums).compile()

    def run():
      nonlocal state, sums
      start = time.perf_counter()
      rest = (state.step, self.params, batch, jax.random.key(0))
      sums = accumulate(sums, state.trainable, *rest)
      state, sums, metrics = update(state, sums)
      jax.block_until_ready(metrics)
      return time.perf_counter() - start

    return run


def in_turn(full, short, repeats: int):
  """Results of both sides by round; None for one that is out of memory.

  `full` and `short` compile, and give the function to run.
  """
  runs = [_fitting(make) for make in (full, short)]
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
  first, later, training = [], [], []
  for tokens in sorted({*args.lengths, *args.training_lengths}):
    vectors = -(-tokens // args.segment) * args.summary_length
    sides = ((0, tokens + args.question), (vectors, args.question))
    if tokens in args.lengths:
      results = in_turn(
        *(
          lambda side=side: network.answering(*side, args.new_tokens)
          for side in sides
        ),
        args.repeats,
      )
      for rows, index in ((first, 0), (later, 1)):
        columns = [column(result, index) for result in results]
        rows.append(row(tokens, vectors, *columns))
    if tokens in args.training_lengths:
      results = in_turn(
        *(
          lambda side=side: network.finetuning(*side, args.new_tokens)
          for side in sides
        ),
        args.repeats,
      )
      training.append(row(tokens, vectors, *results, invert=True))
    print(f'{tokens:,} tokens done', file=sys.stderr)
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
