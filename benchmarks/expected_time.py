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
  """Documents of both splits, their mean length, and training examples."""

  documents: int
  tokens: int
  examples: int


# Documents and examples as published, HotpotQA's examples as in its config.
# NarrativeQA's tokens are the paper's; the others' are words of about as many
# as published, at NarrativeQA's 1.36 tokens a word.
DATA = {
  'quality': Data(150 + 115, 5_700, 2_523),
  'qasper': Data(888 + 281, 4_900, 2_567),
  'qmsum': Data(162 + 35, 13_000, 1_257),
  'narrativeqa': Data(1_102 + 115, 84_770, 55_003),
  'hotpotqa': Data(20_000 + 7_405, 1_200, 20_000),
}
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
  context = context_bucket(vectors, config.max_position_embeddings)
  total = 0
  # 'lloco' and 'truncated' read as much, 'no_context' reads the question.
  for width in (context + QUESTION, context + QUESTION, QUESTION):
    pairs = flops.causal_pairs(width, width)
    total += flops.training_flops(config, width, pairs, TARGETS, LoraConfig())
  return EPOCHS * data.examples * total


def seconds(config, data: Data, devices: str) -> float:
  """Of train.py on the devices of a setting."""
  chip, count, again = DEVICES[devices]
  total = compression(config, data) + again * finetuning(config, data)
  return total / (count * UTILISATION * PEAKS[chip])


def main():
  """Prints the table."""
  config = read_config('princeton-nlp/AutoCompressor-Llama-2-7b-6k')
  print('| | compression | finetuning |', ' | '.join(DEVICES), '|')
  print('|---|' + '---:|' * (2 + len(DEVICES)))
  for name, data in DATA.items():
    parts = compression(config, data), finetuning(config, data)
    told = [f'{each / 1e18:.2g} EFLOP' for each in parts]
    told += [duration(seconds(config, data, each)) for each in DEVICES]
    print(f'| {name} |', ' | '.join(told), '|')


if __name__ == '__main__':
  main()
