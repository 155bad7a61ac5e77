"""How long the paper's experiments should take, by operations alone.

    python benchmarks/expected_time.py

Nothing is run: it prints the table of docs/tpu.md. It counts what
`train.py` does for LLaMA2-7B, namely the compression of both splits' documents
and three epochs of each of the three adapters, all padding, and what the
backward pass computes again; and divides by a share of the peak of the chips
that is assumed and not measured.
"""

import dataclasses
import sys

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

from lloco_jax.compression.segments import split_length
from lloco_jax.data.contexts import context_bucket
from lloco_jax.nn.lora import LoraConfig
from lloco_jax.planning import flops
from lloco_jax.progress import duration
from lloco_jax.weights.published import read_config

UTILISATION = 0.4
# Operations a second in bfloat16, as the vendors say: a v5e and an A100.
PEAKS = {'v5e': 197e12, '80gb': 312e12}
EPOCHS = 3
SEGMENT, QUESTION, TARGETS = 1536, 128, 64


@dataclasses.dataclass(frozen=True)
class Data:
  """Documents of all splits that are read, their mean length, and training
  examples, so many of which stand in a row."""

  documents: int
  tokens: int
  examples: int
  questions_per_row: int = 1


# Documents and examples as published, or as the configs draw or make them.
# NarrativeQA's tokens are the paper's, a needle's the mean of its lengths; the
# others' are words of about as many as published, at NarrativeQA's 1.36 tokens
# a word. LongBench has nothing to train on: its nine tasks are compressed.
DATA = {
  'quality': (Data(150 + 115, 5_700, 2_523),),
  'qasper': (Data(888 + 281, 4_900, 2_567),),
  'qmsum': (Data(162 + 35, 13_000, 1_257),),
  'narrativeqa': (Data(1_102 + 115, 84_770, 55_003),),
  'hotpotqa': (Data(20_000 + 7_405, 1_200, 20_000),),
  'squad': (Data(442 + 48, 7_000, 87_599, 8),),
  'fairytaleqa': (Data(232 + 23, 2_900, 8_548, 8),),
  'needle': (Data(100 + 1_000, 16_500, 100),),
  'longbench': (Data(1_750, 11_200, 0),),
}
DATA['combined'] = (
  *(part for name in ('quality', 'qasper', 'qmsum') for part in DATA[name]),
  Data(1_102 + 115, 84_770, 10_000),
  Data(10_000 + 7_405, 1_200, 10_000),
)
# The settings of configs/common.py: chip, devices, what is computed again in
# the backward pass as a share of a gradient ('full' runs the layers once more,
# which is half of it; 'projections' a twentieth).
DEVICES = {
  'v5e-1': ('v5e', 1, 1.5),
  'v5e-8': ('v5e', 8, 1.05),
  '80gb-1': ('80gb', 1, 1.05),
  '80gb-8': ('80gb', 8, 1.05),
}


def compression(config, data: Data) -> float:
  """Operations of compressing all documents."""
  each = 0
  for index, _ in enumerate(split_length(data.tokens, SEGMENT)):
    # The vectors of the segment before run again.
    new = min(index, 1)
    queries = SEGMENT + (1 + new) * config.summary_length
    kept = (index - new) * config.summary_length
    pairs = flops.causal_pairs(queries, queries + kept)
    each += flops.forward_flops(config, queries, pairs, 0)
  return data.documents * each


def finetuning(config, data: Data) -> float:
  """Operations of all adapters' gradients, without what is computed again."""
  segments = len(split_length(data.tokens, SEGMENT))
  vectors = segments * config.summary_length
  total = 0
  # 'lloco' and 'truncated' read as much, 'no_context' reads the question.
  for context in (vectors, vectors, 0):
    if context:
      context = context_bucket(context, config.max_position_embeddings)
    tokens = context + data.questions_per_row * QUESTION
    pairs = flops.causal_pairs(context, context)
    pairs += data.questions_per_row * flops.causal_pairs(
      QUESTION, QUESTION + context
    )
    targets = data.questions_per_row * TARGETS
    total += flops.training_flops(config, tokens, pairs, targets, LoraConfig())
  return EPOCHS * data.examples / data.questions_per_row * total


def seconds(config, parts: tuple[Data, ...], devices: str) -> float:
  """Of train.py on the devices of a setting."""
  chip, count, again = DEVICES[devices]
  total = sum(
    compression(config, data) + again * finetuning(config, data)
    for data in parts
  )
  return total / (count * UTILISATION * PEAKS[chip])


def main():
  """Prints the table."""
  config = read_config('princeton-nlp/AutoCompressor-Llama-2-7b-6k')
  print('| | compression | finetuning |', ' | '.join(DEVICES), '|')
  print('|---|' + '---:|' * (2 + len(DEVICES)))
  for name, parts in DATA.items():
    told = []
    for work in (compression, finetuning):
      total = sum(work(config, data) for data in parts)
      told.append(f'{total / 1e18:.2g} EFLOP' if total else 'none')
    told += [duration(seconds(config, parts, each)) for each in DEVICES]
    print(f'| {name} |', ' | '.join(told), '|')


if __name__ == '__main__':
  main()
