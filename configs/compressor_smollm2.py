"""A compressor for SmolLM2-135M, 4 tokens a vector, trained on a CPU.

    for stage in naming rare questions documents; do
      python train.py --config=configs/compressor_smollm2.py:$stage
    done

Each stage goes on from what the one before left; an hour in all on two quiet
cores. First every vector learns to name the four tokens that
it stands for, which takes few tokens of training; then the rarest of the four
above all; then questions are asked about the vectors of one passage; then
about those of sixteen at once.
"""

from configs import common

# Steps, rows, and passages before the questions (0 asks none).
STAGES = {
  'naming': (160, 8, 0),
  'rare': (90, 8, 0),
  'questions': (80, 8, 1),
  'documents': (80, 16, 16),
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
