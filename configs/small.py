r"""Experiments at the size of two CPU cores.

    python train.py --config=configs/small.py:fairytaleqa \
      --config.data.path=FOLDER
    python eval.py --config=configs/small.py:fairytaleqa \
      --config.data.path=FOLDER

SmolLM2-135M with the shipped compressor, at most 1,500 questions to train on
and 200 of other documents to score, drawn with the seed. A row is a document
with many of its questions, and the rate is that of the demo: so few steps teach
a model of this size nothing at the paper's.
"""

from configs import fairytaleqa, qmsum, quality, squad

EXPERIMENTS = {
  'fairytaleqa': fairytaleqa,
  'squad': squad,
  'qmsum': qmsum,
  'quality': quality,
}
# Documents to train on, and to score: where there are more than the questions
# need, or than two cores read in an hour.
_DOCUMENTS = {'fairytaleqa': (40, 0), 'qmsum': (20, 20)}


def get_config(name='fairytaleqa'):
  if name not in EXPERIMENTS:
    raise ValueError(
      f"There is no small experiment '{name}'; use one of "
      f'{", ".join(EXPERIMENTS)}.'
    )
  config = EXPERIMENTS[name].get_config('smollm2')
  config.name = f'small_{name}'
  train, validation = _DOCUMENTS.get(name, (0, 0))
  config.data.train_documents = train
  config.data.validation_documents = validation
  config.data.train_examples = 1500
  config.data.validation_examples = 200
  config.batch.questions_per_row = 40
  config.training.accumulation = 1
  config.training.optimizer.learning_rate = 1e-3
  config.training.checkpoint_every = 25
  config.evaluation.retrieval = ('bm25', 'embedding')
  return config
