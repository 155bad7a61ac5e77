r"""Combined finetuning: one adapter for the paper's five data sets.

    python train.py --config=configs/combined.py:smollm2 \
      --config.sets.qasper.data.path=FOLDER \
      --config.sets.qmsum.data.path=FOLDER (and so on)

The argument is a model, devices and which of the data sets; all of them by
default, as in 'smollm2,qasper,qmsum'. As in the paper there are 10,000
examples each of NarrativeQA and HotpotQA, and all of the others (Tan et al.
2024). The paper says that the adapter beats the baselines on all but QMSum, and
the data sets' own adapters on QuALITY alone.

Expected of train.py with llama2-7b, computed and not measured (docs/tpu.md):
41.6 h on v5e-1, 3.9 h on v5e-8, 19.8 h on 80gb-1, 2.5 h on 80gb-8. Memory a
device: at most 12.9 GiB on v5e-1, 14.4 on v5e-8, 36 on 80gb-1 and on 80gb-8, of
which those of GPUs are reckoned from what a TPU needs.
"""

from configs import common, hotpotqa, narrativeqa, qasper, qmsum, quality

_SETS = {
  'quality': quality,
  'qasper': qasper,
  'qmsum': qmsum,
  'narrativeqa': narrativeqa,
  'hotpotqa': hotpotqa,
}
_SAMPLED = ('narrativeqa', 'hotpotqa')


def get_config(argument='llama2-7b'):
  given = argument.split(',')
  names = [name for name in given if name in _SETS] or list(_SETS)
  others = ','.join(name for name in given if name not in _SETS)
  words = common.words_of(others, **{'data sets': _SETS})
  model = words['model']
  parts = {name: _SETS[name].get_config(others) for name in names}
  for name in _SAMPLED:
    if name in parts:
      parts[name].data.train_examples = 10_000
  config = common.combined('combined', model, parts)
  config.training.accumulation = 8 // config.batch.rows
  return config
