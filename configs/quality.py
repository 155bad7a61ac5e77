r"""QuALITY: multiple choice about stories of 5,000 tokens.

    python train.py --config=configs/quality.py:smollm2 \
      --config.data.path=FOLDER

Published for LLoCO on the validation set: 41.51 (Tan et al. 2024, arXiv
2404.07979, Table 1; not checked against its text). 'quality_accuracy' takes the
first letter of a choice that stands alone, as ZeroSCROLLS does; the paper takes
a prediction's first character, as 'lloco_quality_accuracy' does. The report
scores those tagged 'hard' apart, too, and by the number of options.

Expected of train.py with llama2-7b, computed and not measured (docs/tpu.md): 62
min on v5e-1, 6 min on v5e-8, 28 min on 80gb-1, 4 min on 80gb-8. Memory a
device: at most 12.2 GiB on v5e-1, 14.1 on v5e-8, 34 on 80gb-1 and on 80gb-8, of
which those of GPUs are reckoned from what a TPU needs.
"""

from configs import common


def get_config(model='llama2-7b'):
  config = common.paper('quality', model, 'quality', 'quality')
  config.evaluation.metric = 'quality_accuracy'
  return config
