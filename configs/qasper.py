r"""Qasper: questions about papers, in the format of SCROLLS.

    python train.py --config=configs/qasper.py:smollm2 \
      --config.data.path=FOLDER

Published for LLoCO on the validation set: F1 of 29.01 (Tan et al. 2024, arXiv
2404.07979, Table 1; not checked against its text); on LongBench's Qasper 26.1,
by a second-hand copy of Table 4.

Expected of train.py with llama2-7b, computed and not measured (docs/tpu.md): 79
min on v5e-1, 8 min on v5e-8, 39 min on 80gb-1, 5 min on 80gb-8. Memory a
device: at most 12.2 GiB on v5e-1, 14.1 on v5e-8, 34 on 80gb-1 and on 80gb-8, of
which those of GPUs are reckoned from what a TPU needs.
"""

from configs import common


def get_config(model='llama2-7b'):
  config = common.paper('qasper', model, 'scrolls', 'qasper')
  config.data.part = 'qasper'
  # The reference trains on every row, which is one an answer.
  config.data.teach_every_answer = True
  config.evaluation.metric = 'f1'
  return config
