r"""A compressor for SmolLM2-135M, trained on a CPU, then a GPU.

On a CPU, 64 tokens to 16 vectors, from texts, stories and made reports:

    for stage in naming rare questions stories documents; do
      python train.py --config=configs/compressor_smollm2.py:$stage \
        --config.data.path=folder_of_texts \
        --config.data.dataset.path=FairytaleQAData
    done

Each stage goes on from what the one before left; about 70 minutes in all, with
other work on the cores. First every vector learns to name the four tokens
before it, which takes few tokens of training; then the rarest of the four above
all. Then questions are asked about the vectors: of made passages, one at a
time; of sections of stories, too, two at a time; and of eight at once.

What they left is shipped. Then, on a GPU, from texts, 4 to 30 tokens a vector:

    python train.py --config=configs/compressor_smollm2.py:texts \
      --config.data.path=folder_of_texts

Segments of 64 to 480 tokens become 16 vectors each, from whose like the base
learns what it would say had it read the text (distillation). A step has 34,816
tokens, for which an H200 took 0.68 s beside another such run. The stage goes on
from the shipped compressor, and what it left is 'shipped:texts', from which
`--config.start` can take it to texts of your own.
"""

from configs import common

STAGES = {
  'naming': {
    'steps': 40,
    'data.source': 'texts',
    'data.questions': 0,
    'batch.rows': 4,
    'summary.naming': 1.0,
    'summary.rarity': 0.0,
    'training.optimizer.learning_rate': 2e-3,
  },
  'rare': {
    'steps': 110,
    'data.source': 'texts',
    'data.questions': 0,
    'data.seed': 1,
    'batch.rows': 4,
    'summary.naming': 1.0,
    'training.optimizer.learning_rate': 2e-3,
  },
  'questions': {
    'steps': 70,
    'data.source': 'passages',
    'data.segments': 2,
    'data.width': 112,
    'data.targets': 16,
    'data.seed': 2,
  },
  'stories': {
    'steps': 150,
    'data.source': 'questions,questions,passages',
    'data.passages_per_context': 2,
    'data.seed': 2,
  },
  'documents': {
    'steps': 60,
    'data.source': 'questions,passages',
    'data.passages_per_context': 8,
    'data.seed': 7,
    'training.optimizer.learning_rate': 5e-4,
  },
  'texts': {
    'steps': 548,
    'start': 'shipped',
    'model.dtype': 'bfloat16',
    'data.source': 'texts',
    'data.segment_length': 480,
    'data.shortest': 64,
    'batch.rows': 32,
    'summary.substep': 4,
    'summary.distillation': 1.0,
    'summary.naming': 0.1,
    # About 8, 15 and 30 tokens a vector.
    'evaluation.segment_lengths': (128, 240, 480),
    'evaluation.reader': 'compressor',
  },
}


def get_config(stage='naming'):
  if stage not in STAGES:
    raise ValueError(
      f"There is no stage '{stage}'; use one of {', '.join(STAGES)}."
    )
  config = common.compressor(f'compressor_smollm2_{stage}')
  before = list(STAGES).index(stage) - 1
  if before >= 0:
    config.start = f'runs/compressor_smollm2_{list(STAGES)[before]}/compressor'
  config.summary.length = 16
  config.summary.interleaved = True
  config.summary.sharpness = 2.0
  config.summary.naming = 0.3
  config.summary.rarity = 4.0
  config.data.dataset.source = 'fairytaleqa'
  config.data.dataset.part = 'sections'
  config.data.segment_length = 64
  config.data.segments = 4
  config.data.questions = 6
  config.data.facts_per_hundred_words = (5.0, 7.0)
  config.data.width = 128
  config.data.targets = 40
  config.batch.rows = 8
  config.lora.rank = 32
  config.lora.alpha = 32.0
  config.lora.dropout = 0.0
  config.training.optimizer.learning_rate = 1e-3
  config.update_from_flattened_dict(STAGES[stage])
  return config
