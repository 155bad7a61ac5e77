r"""Experiments at the size of two CPU cores.

    python train.py --config=configs/small.py:fairytaleqa \
      --config.data.path=FOLDER
    python eval.py --config=configs/small.py:fairytaleqa \
      --config.data.path=FOLDER

SmolLM2-135M with the shipped compressor, documents and questions drawn with the
seed: what two cores learn from in half an hour, and score in another. A row is
a document with many of its questions, and the rate is that of the demo: so few
steps teach a model of this size nothing at the paper's.
"""

from configs import fairytaleqa, needle, qmsum, quality, squad

EXPERIMENTS = {
  'fairytaleqa': fairytaleqa,
  'squad': squad,
  'qmsum': qmsum,
  'quality': quality,
  'needle': needle,
}
# Documents and questions to train on, and to score.
_SIZES = {
  'fairytaleqa': ((10, 400), (20, 80)),
  'squad': ((6, 240), (20, 60)),
  'qmsum': ((8, 80), (20, 60)),
  'quality': ((10, 120), (20, 60)),
}
# Of a needle a document has one, at each of ten depths.
_NEEDLE_LENGTHS = (1000, 2000, 4000, 8000)


def get_config(name='fairytaleqa'):
  if name not in EXPERIMENTS:
    raise ValueError(
      f"There is no small experiment '{name}'; use one of "
      f'{", ".join(EXPERIMENTS)}.'
    )
  config = EXPERIMENTS[name].get_config('smollm2')
  config.name = f'small_{name}'
  if name == 'needle':
    config.data.needle.lengths = _NEEDLE_LENGTHS
    config.data.needle.validation_repeats = 1
  else:
    train, validation = _SIZES[name]
    config.data.train_documents, config.data.train_examples = train
    config.data.validation_documents, config.data.validation_examples = (
      validation
    )
  # A batch takes as long as its longest document.
  config.compression.rows = 4
  config.batch.questions_per_row = 40
  config.training.accumulation = 1
  config.training.optimizer.learning_rate = 1e-3
  config.training.checkpoint_every = 25
  config.evaluation.retrieval = ('bm25',)
  return config
