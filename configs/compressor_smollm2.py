"""A compressor for SmolLM2-135M, 4 tokens a vector, trained on a CPU.

    python train.py --config=configs/compressor_smollm2.py:naming
    python train.py --config=configs/compressor_smollm2.py:rare
    python train.py --config=configs/compressor_smollm2.py:documents

Three stages, each from what the one before left; half an hour in all on two
quiet cores. First every vector learns to name the four tokens that it stands
for, which takes few tokens of training; then the rarest of the four above
all; then the vectors of eight passages at once are asked about.
"""

from configs import common

STAGES = ('naming', 'rare', 'documents')


def get_config(stage='naming'):
  if stage not in STAGES:
    raise ValueError(f"There is no stage '{stage}'; use one of {STAGES}.")
  config = common.compressor(f'compressor_smollm2_{stage}')
  before = STAGES.index(stage) - 1
  if before >= 0:
    config.start = f'runs/compressor_smollm2_{STAGES[before]}/compressor'
  config.summary.length = 8
  config.summary.scale = 0.075
  config.summary.naming = 0.5 if stage == 'documents' else 1.0
  config.summary.rarity = 0.0 if stage == 'naming' else 4.0
  config.data.segment_length = 32
  config.data.segments = 4
  config.data.questions = 6 if stage == 'documents' else 0
  config.data.passages_per_context = 8 if stage == 'documents' else 1
  config.data.facts_per_hundred_words = (5.0, 7.0)
  config.data.width = 96
  config.data.targets = 14
  config.data.seed = 2 if stage == 'documents' else 0
  config.lora.rank = 32
  config.lora.alpha = 32.0
  config.lora.dropout = 0.0
  config.batch.rows = 8
  config.steps = {'naming': 160, 'rare': 90, 'documents': 100}[stage]
  config.training.optimizer.learning_rate = (
    1.5e-3 if stage == 'documents' else 2e-3
  )
  return config
