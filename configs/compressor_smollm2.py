"""A compressor for SmolLM2-135M, 4 tokens a vector, trained on a CPU.

    python train.py --config=configs/compressor_smollm2.py
"""

from configs import common


def get_config():
  config = common.compressor('compressor_smollm2')
  config.summary.length = 16
  config.summary.scale = 0.075
  config.data.segment_length = 64
  config.data.segments = 1
  config.lora.rank = 32
  config.lora.alpha = 32.0
  config.lora.dropout = 0.0
  config.batch.rows = 16
  config.training.optimizer.learning_rate = 2e-3
  return config
