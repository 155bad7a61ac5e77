"""The demo: SmolLM2-135M learns made reports and answers from summaries.

    make demo        or        python train.py && python eval.py

Takes about 9 minutes on two CPU cores, model and packages included.
"""

from configs import common


def get_config():
  config = common.finetuning('demo')
  config.model.name = 'smollm2-135m'
  config.model.compressor = 'shipped'

  config.data.source = 'reports'
  config.data.seed = 0
  config.data.train_documents = 10
  config.data.validation_documents = 10
  config.data.questions_per_document = 24
  config.data.words = (1300, 1650)

  config.compression.segment_length = 64
  config.compression.rows = 8

  # One row is a document with all its training questions.
  config.batch.questions_per_row = 24
  config.batch.rows = 1
  config.epochs = 3
  config.training.checkpoint_every = 10
  config.training.optimizer.learning_rate = 1e-3
  return config
