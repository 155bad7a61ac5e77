r"""NarrativeQA: questions about books and films, in the format of SCROLLS.

    python train.py --config=configs/narrativeqa.py:smollm2 \
      --config.data.path=FOLDER

Published for LLoCO on the validation set: F1 of 28.34; for LLaMA2-7B with the
beginning of the text 14.42 (Tan et al. 2024, arXiv 2404.07979, in its prose).

Expected of train.py with llama2-7b, computed and not measured (docs/tpu.md):
167.5 h on v5e-1, 14.9 h on v5e-8, 75.1 h on 80gb-1, 9.4 h on 80gb-8. Memory a
device: at most 12.2 GiB on v5e-1, 14.1 on v5e-8, 34 on 80gb-1 and on 80gb-8, of
which those of GPUs are reckoned from what a TPU needs.
"""

from configs import common


def get_config(model='llama2-7b'):
  config = common.paper('narrativeqa', model, 'scrolls', 'narrative_qa')
  config.data.part = 'narrative_qa'
  # The reference trains on every row, which is one an answer.
  config.data.teach_every_answer = True
  config.evaluation.metric = 'f1'
  return config
