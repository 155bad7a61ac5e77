r"""FairytaleQA: questions about stories, in place of NarrativeQA's.

    python train.py --config=configs/fairytaleqa.py:smollm2 \
      --config.data.path=FOLDER --config.data.train_examples=1500 \
      --config.data.validation_examples=200

Nothing is published for LLoCO: the paper has no FairytaleQA. A step has the 8
questions of the paper's experiments, but behind one copy of a story; on eight
devices 64, behind eight.

Expected of train.py with llama2-7b, computed and not measured (docs/tpu.md): 92
min on v5e-1, 8 min on v5e-8, 41 min on 80gb-1, 5 min on 80gb-8. Memory a
device: at most 12.2 GiB on v5e-1, 15.4 on v5e-8, 34 on 80gb-1 and on 80gb-8, of
which those of GPUs are reckoned from what a TPU needs.
"""

from configs import common


def get_config(model='llama2-7b'):
  config = common.paper('fairytaleqa', model, 'fairytaleqa', 'plain')
  config.data.part = 'stories'
  config.batch.questions_per_row = 8
  config.training.accumulation = 1
  config.evaluation.metric = 'f1'
  config.evaluation.max_new_tokens = 32
  return config
