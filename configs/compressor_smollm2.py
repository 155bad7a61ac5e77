r"""A compressor for SmolLM2-135M, trained on a CPU, or on a GPU.

On a CPU, 4 tokens a vector, from made reports:

    for stage in naming rare questions documents; do
      python train.py --config=configs/compressor_smollm2.py:$stage
    done

Each stage goes on from what the one before left; an hour in all on two quiet
cores. First every vector learns to name the four tokens that
it stands for, which takes few tokens of training; then the rarest of the four
above all; then questions are asked about the vectors of one passage; then
about those of sixteen at once.

On a GPU, from texts, 8 to 30 tokens a vector:

    python train.py --config=configs/compressor_smollm2.py:texts \
      --config.data.path=folder_of_texts

Segments of 128 to 480 tokens become 16 vectors each, from whose like the base
learns what it would say had it read the text (distillation). That stage begins
with a fresh compressor, in bfloat16; a step has 77,824 tokens.
"""

from configs import common
from lloco_jax.nn.lora import ATTENTION_PROJECTIONS, MLP_PROJECTIONS

# Steps, rows, and passages before the questions (0 asks none).
STAGES = {
  'naming': (160, 8, 0),
  'rare': (90, 8, 0),
  'questions': (80, 8, 1),
  'documents': (80, 16, 16),
}


def get_config(stage='naming'):
  if stage == 'texts':
    return _texts()
  if stage not in STAGES:
    raise ValueError(
      f"There is no stage '{stage}'; use one of {', '.join(STAGES)}, texts."
    )
  config = common.compressor(f'compressor_smollm2_{stage}')
  before = list(STAGES).index(stage) - 1
  if before >= 0:
    config.start = f'runs/compressor_smollm2_{list(STAGES)[before]}/compressor'
  config.steps, config.batch.rows, passages = STAGES[stage]
  config.summary.length = 8
  config.summary.sharpness = 2.0
  config.summary.naming = 0.3 if passages else 1.0
  config.summary.rarity = 0.0 if stage == 'naming' else 4.0
  config.data.segment_length = 32
  config.data.segments = 4
  config.data.questions = 6 if passages else 0
  config.data.passages_per_context = max(passages, 1)
  config.data.facts_per_hundred_words = (5.0, 7.0)
  config.data.width = 112
  config.data.targets = 16
  config.data.seed = list(STAGES).index(stage)
  config.lora.rank = 32
  config.lora.alpha = 32.0
  config.lora.dropout = 0.0
  config.training.optimizer.learning_rate = 1e-3 if passages else 2e-3
  return config


def _texts():
  config = common.compressor('compressor_smollm2_texts')
  config.model.dtype = 'bfloat16'
  config.data.source = 'texts'
  config.data.segments = 4
  config.data.shortest = 128
  config.data.segment_length = 480
  config.summary.length = 16
  config.summary.distillation = 1.0
  config.lora.rank = 24
  config.lora.alpha = 24.0
  config.lora.dropout = 0.0
  config.lora.targets = ATTENTION_PROJECTIONS + MLP_PROJECTIONS
  config.batch.rows = 64
  config.steps = 1500
  config.training.checkpoint_every = 100
  config.training.optimizer.learning_rate = 1e-3
  # About 8, 15 and 30 tokens a vector.
  config.evaluation.segment_lengths = (128, 240, 480)
  config.evaluation.reader = 'compressor'
  return config
