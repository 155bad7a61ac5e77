r"""Your own documents and questions, a folder of JSONL files (README).

    python train.py --config=configs/jsonl.py --config.data.path=FOLDER
    python eval.py --config=configs/jsonl.py --config.data.path=FOLDER

All of the data is used. The argument behind a colon is the model, 'smollm2' or
'llama2-7b', and devices: on eight a step has eight documents in place of one.
"""

from configs import common


def get_config(argument=''):
  config = common.paper('jsonl', argument, 'jsonl', 'plain', 'smollm2')
  config.compression.block_characters = 0
  # Up to so many questions about a document are learnt behind one copy of it.
  config.batch.questions_per_row = 24
  config.training.accumulation = 1
  config.training.optimizer.learning_rate = 1e-3
  config.evaluation.metric = 'f1'
  config.evaluation.max_new_tokens = 32
  return config
