r"""LongBench: one of its tasks, with its own metric and length of answers.

    python eval.py --config=configs/longbench.py:smollm2,qasper \
      --config.data.path=FOLDER \
      --config.evaluation.adapters.lloco=runs/qasper_smollm2/adapters/lloco

The argument is a model, a task and devices; each may be left out. LongBench
has no training split: the paper evaluates adapters of its other data sets, and
here any are named in config.evaluation.adapters (a released one by its hub
name, 'xiuyul/Lloco-7b-qasper'). Systems without an adapter are left out.
Published for LLoCO (Tan et al. 2024, arXiv 2404.07979, Table 4, by a
second-hand copy): narrativeqa 23.1, qasper 26.1, multifieldqa_en 26.3,
hotpotqa 46.2, 2wikimqa 35.6, musique 27.3, gov_report 17.6, qmsum 23.4,
multi_news 25.0, on average 27.8. A run of the released adapters by others got
24.21, 24.45 and 44.24 on narrativeqa, qasper and hotpotqa.

Expected of eval.py with llama2-7b, computed and not measured (docs/tpu.md): 65
min on v5e-1, 8 min on v5e-8, 41 min on 80gb-1, 5 min on 80gb-8, for compressing
all nine tasks, without the answers. Memory a device: at most 14.6 GiB on v5e-1,
8.5 on v5e-8, 35 on 80gb-1 and on 80gb-8, of which those of GPUs are reckoned
from what a TPU needs.
"""

from configs import common
from lloco_jax.data.longbench import TASKS

# Of the adapter that answers; 'plain' where none was released.
_PROMPTS = {
  'narrativeqa': 'narrative_qa',
  'qasper': 'qasper',
  'hotpotqa': 'hotpot_qa',
  '2wikimqa': 'hotpot_qa',
  'musique': 'hotpot_qa',
  'qmsum': 'qmsum',
}


def get_config(argument='llama2-7b'):
  scored = {name: found for name, found in TASKS.items() if found.metric}
  words = common.words_of(argument, task=scored)
  task = words['task'] or 'narrativeqa'
  config = common.paper(
    f'longbench_{task}',
    ','.join(words[name] for name in ('model', 'devices', 'systems')),
    'longbench',
    _PROMPTS.get(task, 'plain'),
  )
  config.data.part = task
  config.evaluation.metric = scored[task].metric
  config.evaluation.max_new_tokens = scored[task].max_new_tokens
  # LongBench's eval.py cuts answers of these tasks alone.
  config.evaluation.first_line = task in ('triviaqa', 'samsum')
  # A document has one question, whose answer may be long.
  config.evaluation.questions_per_row = 1
  return config
