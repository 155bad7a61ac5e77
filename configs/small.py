r"""Experiments at the size of two CPU cores.

    python train.py --config=configs/small.py:fairytaleqa \
      --config.data.path=FOLDER
    python eval.py --config=configs/small.py:fairytaleqa \
      --config.data.path=FOLDER

SmolLM2-135M with the shipped compressor, documents and questions drawn with the
seed: what a core learns from in half an hour to an hour and a half, and scores
in as long. A row is a document with many of its questions, and the rate is that
of the demo: so few steps teach a model of this size nothing at the paper's. The
longest documents are cut. docs/results.md has what came of it.

Needles are asked about as the shipped compressor was taught. LongBench has
nothing to train on: `small.py:longbench,qasper` evaluates the adapter that
'fairytaleqa' left under runs/, and in summaries that of 'qmsum', each asked as
it was finetuned. 'combined' is one adapter for FairytaleQA and SQuAD, whose
paths are `config.sets.fairytaleqa.data.path` and `config.sets.squad.data.path`.
"""

from configs import (
  common,
  fairytaleqa,
  longbench,
  needle,
  qmsum,
  quality,
  squad,
)

EXPERIMENTS = {
  'fairytaleqa': fairytaleqa,
  'squad': squad,
  'qmsum': qmsum,
  'quality': quality,
  'needle': needle,
  'longbench': longbench,
}
# Documents and questions to train on, and to score.
_SIZES = {
  'fairytaleqa': ((10, 400), (20, 80)),
  'squad': ((6, 240), (20, 60)),
  'qmsum': ((6, 48), (20, 40)),
  'quality': ((6, 72), (20, 40)),
  'longbench': ((0, 0), (4, 4)),
}
_LONGEST = 4096
# Of a needle a document has one, at each of ten depths.
_NEEDLE_LENGTHS = (1000, 2000, 4000)
_SUMMARIES = ('gov_report', 'qmsum', 'multi_news')
_SUMMARY_TOKENS = 96
_COMBINED = ('fairytaleqa', 'squad')


def get_config(argument='fairytaleqa'):
  name, *others = argument.split(',')
  if name == 'combined':
    if others:
      raise ValueError(
        f"'combined' has the sets {', '.join(_COMBINED)} and takes no other "
        f"words; leave out '{others[0]}'."
      )
    parts = {each: get_config(each) for each in _COMBINED}
    config = common.combined('small', name, parts)
    config.adapters = ('lloco',)
    return config
  if name not in EXPERIMENTS:
    raise ValueError(
      f"There is no small experiment '{name}'; use one of "
      f'{", ".join([*EXPERIMENTS, "combined"])}.'
    )
  config = EXPERIMENTS[name].get_config(','.join(['smollm2', *others]))
  config.name = '_'.join(['small', name, *others])
  if name in _SIZES:
    train, validation = _SIZES[name]
    config.data.train_documents, config.data.train_examples = train
    config.data.validation_documents, config.data.validation_examples = (
      validation
    )
  if name == 'needle':
    config.data.needle.lengths = _NEEDLE_LENGTHS
    config.data.needle.validation_repeats = 1
    config.prompt = common.prompt('plain')
    config.adapters = ('lloco',)
  if name == 'qmsum':
    # The official files, which have what trains.
    config.data.source, config.data.part = 'qmsum', ''
  if name == 'longbench':
    _use_trained(config)
  if name in ('qmsum', 'quality', 'longbench'):
    config.compression.token_cap = _LONGEST
  # A batch takes as long as its longest document.
  config.compression.rows = 4
  config.batch.questions_per_row = 40
  config.training.accumulation = 1
  config.training.optimizer.learning_rate = 1e-3
  config.training.checkpoint_every = 25
  config.evaluation.retrieval = ('bm25', 'embedding')
  # Five of the paper's 512 tokens would be most of a story.
  config.evaluation.passage_tokens = 128
  return config


def _use_trained(config):
  """Sets the adapter that a task of LongBench is answered with."""
  summary = config.data.part in _SUMMARIES
  teacher, prompt = ('qmsum', 'qmsum') if summary else ('fairytaleqa', 'plain')
  config.prompt = common.prompt(prompt)
  config.evaluation.adapters.lloco = f'runs/small_{teacher}/adapters/lloco'
  if summary:
    config.evaluation.max_new_tokens = _SUMMARY_TOKENS
