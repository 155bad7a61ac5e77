"""Every stage on this machine's device, against what the device can do.

Weights are random. Operations are by formula (lloco_jax/planning/flops.py): 4N
a position for the gradient of an adapter, N of them read only; what the
backward pass computes again is not counted. A decoding step has to read the
weights and all keys and values, which is what its share of the bandwidth is of.

    python benchmarks/throughput.py --shape llama2-7b --dtype bfloat16
    python benchmarks/throughput.py --shape llama2-7b --dtype bfloat16 \
      --quantize int8 --stages decode
"""

import statistics
import sys

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import jax

from benchmarks import common
from benchmarks.network import Network
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


def finetune(network, args):
  """A function to time, its positions, operations and bytes to read."""
  tokens = args.context + args.questions * (PROMPT + ANSWER)
  pairs = flops.causal_pairs(args.context, args.context)
  own = PROMPT + ANSWER
  pairs += args.questions * flops.causal_pairs(own, args.context + own)
  each = flops.training_flops(
    network.config, tokens, pairs, args.questions * ANSWER, LoraConfig()
  )
  run = network.finetuning(
    args.context, PROMPT, ANSWER, args.rows, args.questions
  )
  return run, args.rows * tokens, args.rows * each, None


def compressor(network, args):
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
  run = network.compressor_training(args.rows, count, width)
  return run, args.rows * count * width, args.rows * each, None


def compress(network, args):
  queries = args.segment + network.config.summary_length
  pairs = flops.causal_pairs(queries, queries + args.earlier)
  each = flops.forward_flops(network.config, queries, pairs, 0)
  run = network.compressing(args.rows, args.segment, args.earlier)
  return run, args.rows * args.segment, args.rows * each, None


def decode(network, args):
  rows, length = args.decode_rows, args.context + PROMPT
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


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=5)
  parser.add_argument('--shape', default='smollm2-135m', choices=common.SHAPES)
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16')
  )
  parser.add_argument('--quantize', default='', help='int8, or nothing')
  parser.add_argument(
    '--stages', nargs='+', choices=STAGES, default=list(STAGES)
  )
  parser.add_argument('--backend', choices=BACKENDS, help='of attention')
  parser.add_argument('--rows', type=int, default=1)
  parser.add_argument('--decode-rows', type=int, default=1)
  parser.add_argument('--context', type=int, default=1536, help='vectors')
  parser.add_argument('--questions', type=int, default=8, help='a row')
  parser.add_argument('--segment', type=int, default=1536, help='tokens')
  parser.add_argument('--earlier', type=int, default=1000, help='kept vectors')
  parser.add_argument('--summary-length', type=int, default=50)
  parser.add_argument('--new-tokens', type=int, default=64)
  parser.add_argument('--remat', default='projections')
  args = parser.parse_args()
  common.shrink(
    args, shape='tiny', context=8, questions=2, segment=16, earlier=8,
    summary_length=4, new_tokens=4,
  )  # fmt: skip
  device = jax.devices()[0].device_kind
  where = common.environment() | {'device': device}
  config = common.shape(
    args.shape, summary_length=args.summary_length, eos_token_id=0
  )
  network = Network(config, args.dtype, args.remat, args.quantize)
  most_flops, most_bytes = LIMITS.get(device, (None, None))
  rows = []
  for name in args.stages:
    if args.backend:
      with use_backend(args.backend):
        rows.append(_row(name, network, args, most_flops, most_bytes))
    else:
      rows.append(_row(name, network, args, most_flops, most_bytes))
    print(f'{name} done', file=sys.stderr)
  common.report(
    args,
    where,
    {'Throughput': rows},
    (
      f'{args.shape} with random weights, {args.dtype}'
      f'{", " + args.quantize if args.quantize else ""}, LoRA rank 8 on q, k, '
      f'v, o; remat {args.remat}; attention by {args.backend or "default"}. '
      'A share is of the peak of the device, - where that is not known.',
    ),
  )


def _row(name, network, args, most_flops, most_bytes) -> dict:
  run, positions, operations, read = STAGES[name](network, args)
  run()
  seconds = statistics.median(run() for _ in range(args.repeats))
  rate = operations / seconds
  return {
    'stage': name,
    'seconds': seconds,
    'tokens/s': positions / seconds,
    'TFLOP/s': rate / 1e12,
    'of peak': most_flops and rate / most_flops,
    'GB/s': read and read / seconds / 1e9,
    'of bandwidth': read and most_bytes and read / seconds / most_bytes,
  }


if __name__ == '__main__':
  main()
