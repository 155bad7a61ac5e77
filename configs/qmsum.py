r"""QMSum: summaries of meetings for a query, in the format of SCROLLS.

    python train.py --config=configs/qmsum.py:smollm2 \
      --config.data.path=FOLDER

The official files of QMSum itself do as well, with --config.data.source=qmsum
--config.data.part=''. Published for LLoCO on the validation set: a geometric
mean of ROUGE of 16.68 (Tan et al. 2024, arXiv 2404.07979, Table 1; not checked
against its text).

Expected of train.py with llama2-7b, computed and not measured (docs/tpu.md): 53
min on v5e-1, 5 min on v5e-8, 25 min on 80gb-1, 3 min on 80gb-8. Memory a
device: at most 12.9 GiB on v5e-1, 14.4 on v5e-8, 36 on 80gb-1 and on 80gb-8, of
which those of GPUs are reckoned from what a TPU needs.
"""

from configs import common


def get_config(model='llama2-7b'):
  config = common.paper('qmsum', model, 'scrolls', 'qmsum')
  config.data.part = 'qmsum'
  config.data.teach_every_answer = True
  config.evaluation.metric = 'scrolls_rouge'
  # Of the reference's script for QMSum.
  config.evaluation.max_new_tokens = 96
  return config
