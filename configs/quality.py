r"""QuALITY: multiple choice about stories of 5,000 tokens.

    python train.py --config=configs/quality.py:smollm2 \
      --config.data.path=FOLDER

Published for LLoCO on the validation set: 41.51, as remembered from Table 1
(Tan et al. 2024, arXiv 2404.07979) and not verified. The paper takes a
prediction's first character; 'accuracy' takes its first letter that stands
alone. Score those tagged 'hard' apart, and by the number of options if not all
questions have four.
"""

from configs import common


def get_config(model='llama2-7b'):
  config = common.paper('quality', model, 'quality', 'quality')
  config.evaluation.metric = 'accuracy'
  return config
