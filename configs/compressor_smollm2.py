"""A compressor for SmolLM2-135M, 4 tokens a vector, trained on a CPU.

    python train.py --config=configs/compressor_smollm2.py

Questions about made passages, and their text again, answered from the
vectors alone; about an hour and a half on two quiet cores.
"""

from configs import common


def get_config():
  config = common.compressor('compressor_smollm2')
  config.summary.length = 8
  config.summary.scale = 0.075
  config.data.segment_length = 32
  config.data.segments = 4
  config.data.questions = 4
  config.data.repeat_share = 0.3
  config.data.facts_per_hundred_words = (5.0, 7.0)
  config.data.width = 80
  config.data.targets = 32
  config.lora.rank = 32
  config.lora.alpha = 32.0
  config.lora.dropout = 0.0
  config.batch.rows = 8
  config.steps = 420
  config.training.optimizer.learning_rate = 2e-3
  return config
