r"""QuALITY: multiple choice about stories of 5,000 tokens.

    python train.py --config=configs/quality.py:smollm2 \
      --config.data.path=FOLDER

Published for LLoCO on the validation set: 41.51 (Tan et al. 2024, arXiv
2404.07979, Table 1; not checked against its text). The paper takes a
prediction's first character, which 'lloco_quality_accuracy' does as well;
'accuracy' takes its first letter that stands alone. Score those tagged 'hard'
apart, and by the number of options if not all questions have four.

Expected of train.py with llama2-7b, computed and not measured (docs/tpu.md): 62
min on v5e-1, 6 min on v5e-8, 28 min on 80gb-1, 4 min on 80gb-8. Memory a
device: at most 12.6 GiB on v5e-1, 14.1 on v5e-8, 34 on 80gb-1 and on 80gb-8, of
which those of GPUs are reckoned from what a TPU needs.
"""

from configs import common


def get_config(model='llama2-7b'):
  config = common.paper('quality', model, 'quality', 'quality')
  config.evaluation.metric = 'accuracy'
  return config
