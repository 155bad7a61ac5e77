"""Every stage on this machine's device, against what the device can do.

Weights are random. Operations are by formula (lloco_jax/planning/flops.py): 4N
a position for the gradient of an adapter, N of them read only; what the
backward pass computes again is not counted. A decoding step has to read the
weights and all keys and values, which is what its share of the bandwidth is of.

    python benchmarks/throughput.py --shape llama2-7b --dtype bfloat16 \
      --cases finetune finetune:xla compress compressor decode decode:32 \
      decode:int8

A case is a stage and what is special about it: the rows of a batch, a back end
of attention, int8. Their programs are compiled side by side and run one after
the other; one that fails costs no other.
"""

from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import statistics
import sys
import traceback

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import jax

from benchmarks import common
from benchmarks.network import Network
from benchmarks.profiles import busiest
from lloco_jax.nn.attention import BACKENDS, use_backend
from lloco_jax.nn.lora import LoraConfig
from lloco_jax.planning import flops

# Dense bfloat16 operations and bytes a second, by the vendors' data sheets.
LIMITS = {
  'NVIDIA H200': (989e12, 4.8e12),
  'NVIDIA H100 80GB HBM3': (989e12, 3.35e12),
  'NVIDIA A100-SXM4-80GB': (312e12, 2.04e12),
  'TPU v5 lite': (197e12, 0.81e12),
  'TPU v5p': (459e12, 2.77e12),
  'TPU v6 lite': (918e12, 1.64e12),
}
PROMPT, ANSWER = 48, 16


def finetune(network, args, rows):
  """A function to time, its positions, operations and bytes to read."""
  tokens = args.context + args.questions * (PROMPT + ANSWER)
  pairs = flops.causal_pairs(args.context, args.context)
  own = PROMPT + ANSWER
  pairs += args.questions * flops.causal_pairs(own, args.context + own)
  each = flops.training_flops(
    network.config, tokens, pairs, args.questions * ANSWER, LoraConfig()
  )
  run = network.finetuning(args.context, PROMPT, ANSWER, rows, args.questions)
  return run, rows * tokens, rows * each, None


def compressor(network, args, rows):
  count, width, k = 4, args.segment, network.config.summary_length
  tokens = pairs = 0
  for index in range(count):
    # Vectors of earlier substeps of two run again at the beginning of each.
    again = index if index % 2 == 0 else 1
    own = width + (1 + again) * k
    tokens += own
    pairs += flops.causal_pairs(own, width + (1 + index) * k)
  each = flops.training_flops(
    network.config, tokens, pairs, count * width, LoraConfig()
  )
  run = network.compressor_training(rows, count, width)
  return run, rows * count * width, rows * each, None


def compress(network, args, rows):
  queries = args.segment + network.config.summary_length
  pairs = flops.causal_pairs(queries, queries + args.earlier)
  each = flops.forward_flops(network.config, queries, pairs, 0)
  run = network.compressing(rows, args.segment, args.earlier)
  return run, rows * args.segment, rows * each, None


def decode(network, args, rows):
  length = args.context + PROMPT
  run = network.answering(args.context, PROMPT, args.new_tokens, rows)
  each = flops.forward_flops(network.config, 1, length, 1, LoraConfig())
  c = network.config
  itemsize = network.params['norm']['scale'].dtype.itemsize
  kept = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim
  read = rows * kept * itemsize * (length + args.new_tokens / 2)
  # A row of the table of embeddings is read, unless the head is that table.
  tree = dict(network.params)
  if not c.tie_word_embeddings:
    tree.pop('embed_tokens')
  read += sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
  return lambda: run()[1], rows, rows * each, read


STAGES = {
  'finetune': finetune,
  'compressor': compressor,
  'compress': compress,
  'decode': decode,
}


_FIGURES = (
  'seconds', 'tokens/s', 'TFLOP/s', 'of peak', 'GB/s', 'of bandwidth',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
  """What is timed: a stage, and what is special about it."""

  stage: str
  rows: int = 1
  backend: str = ''
  quantization: str = ''

  @classmethod
  def parse(cls, text: str):
    stage, _, words = text.partition(':')
    if stage not in STAGES:
      raise ValueError(f"'{stage}' is none of {', '.join(STAGES)}.")
    case = cls(stage)
    for word in filter(None, words.split(',')):
      if word.isdecimal() and int(word):
        case = dataclasses.replace(case, rows=int(word))
      elif word in BACKENDS:
        case = dataclasses.replace(case, backend=word)
      elif word == 'int8':
        case = dataclasses.replace(case, quantization=word)
      else:
        raise ValueError(
          f"'{word}' is neither a number of rows, nor int8, nor one of "
          f'{", ".join(BACKENDS)}.'
        )
    return case

  def made(self, networks, args):
    """What its stage gives, compiled; None where that fails."""
    here = contextlib.nullcontext()
    if self.backend:
      here = use_backend(self.backend)
    try:
      with here:
        return STAGES[self.stage](networks[self.quantization], args, self.rows)
    except Exception:
      traceback.print_exc()
      return None


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=5)
  parser.add_argument('--shape', default='smollm2-135m', choices=common.SHAPES)
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16')
  )
  parser.add_argument(
    '--cases', nargs='+', default=list(STAGES), help='stage[:words], see above'
  )
  parser.add_argument(
    '--kernels', type=int, default=0, help='busiest ones of each case to tell'
  )
  parser.add_argument('--context', type=int, default=1536, help='vectors')
  parser.add_argument('--questions', type=int, default=8, help='a row')
  parser.add_argument('--segment', type=int, default=1536, help='tokens')
  parser.add_argument('--earlier', type=int, default=1000, help='kept vectors')
  parser.add_argument('--summary-length', type=int, default=50)
  parser.add_argument('--new-tokens', type=int, default=64)
  parser.add_argument('--remat', default='projections')
  args = parser.parse_args()
  try:
    cases = [Case.parse(text) for text in args.cases]
  except ValueError as error:
    parser.error(f'--cases: {error}')
  common.shrink(
    args, shape='tiny', context=8, questions=2, segment=16, earlier=8,
    summary_length=4, new_tokens=4,
  )  # fmt: skip
  device = jax.devices()[0].device_kind
  where = common.environment() | {'device': device}
  config = common.shape(
    args.shape, summary_length=args.summary_length, eos_token_id=0
  )
  networks = {}
  for kind in sorted({case.quantization for case in cases}):
    networks[kind] = Network(config, args.dtype, args.remat, kind)
    if any(c.stage == 'decode' for c in cases if c.quantization == kind):
      jax.block_until_ready(networks[kind].model.unstacked_params)
  with ThreadPoolExecutor() as pool:
    made = list(pool.map(lambda case: case.made(networks, args), cases))
  print('compiled', file=sys.stderr)
  limits = LIMITS.get(device, (None, None))
  rows = []
  for text, case, each in zip(args.cases, cases, made):
    rows.append(_row(case, each, args.repeats, limits))
    print(text, rows[-1], file=sys.stderr, flush=True)
  tables = {'Throughput': rows}
  for text, case in zip(args.cases, made):
    if args.kernels and case:
      try:
        tables[f'{text}: its kernels'] = busiest(case[0], args.kernels)
      except Exception:
        traceback.print_exc()
  common.report(
    args,
    where,
    tables,
    (
      f'{args.shape} with random weights, {args.dtype}, LoRA rank 8 on q, k, '
      f'v, o; remat {args.remat}. A share is of the peak of the device; - '
      'where it is not known, or the case failed.',
    ),
  )


def _row(case: Case, made, repeats: int, limits) -> dict:
  row = {
    'stage': case.stage,
    'rows': case.rows,
    'attention': case.backend or 'default',
    'base': case.quantization or 'float',
    **dict.fromkeys(_FIGURES),
  }
  if made is None:
    return row
  run, positions, operations, read = made
  try:
    run()
    seconds = statistics.median(run() for _ in range(repeats))
  except jax.errors.JaxRuntimeError:
    traceback.print_exc()
    return row
  most_flops, most_bytes = limits
  rate = operations / seconds
  row |= {
    'seconds': seconds,
    'tokens/s': positions / seconds,
    'TFLOP/s': rate / 1e12,
    'of peak': most_flops and rate / most_flops,
  }
  if read:
    row['GB/s'] = read / seconds / 1e9
    row['of bandwidth'] = most_bytes and read / seconds / most_bytes
  return row


if __name__ == '__main__':
  main()
