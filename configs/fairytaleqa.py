r"""FairytaleQA: questions about stories, in place of NarrativeQA's.

    python train.py --config=configs/fairytaleqa.py:smollm2 \
      --config.data.path=FOLDER --config.data.train_examples=1500 \
      --config.data.validation_examples=200

Nothing is published for LLoCO: the paper has no FairytaleQA. A step has the 8
questions of the paper's experiments, but behind one copy of a story.
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
