r"""The compressor of the paper, trained as it was published.

    python train.py --config=configs/compressor_llama2_7b.py \
      --config.data.path=folder_of_texts

The recipe of AutoCompressor-Llama-2-7b-6k (Chevalier et al. 2023, arXiv
2305.14788, its code and model card): LoRA of rank 16 on the attention and 50
summary embeddings, rows of 6,144 tokens cut into four segments at random, 32
rows a step, gradients through two compression steps, 4e-4 (by the name of the
evaluated run; the script's default is 8e-4) that falls in a line, one epoch of
15 billion tokens of RedPajama. Published, in perplexity of the last 2,048 of
8,192 tokens: 5.52, 5.15 and 4.98 for Llama 2 7B given nothing and 512 and 2,048
tokens, 5.40, 5.06, 4.88 and 4.80 for it finetuned on 6,144 given nothing and
512, 2,048 and 4,096 (model card).

What it costs, by operations (4 a parameter and position): 5.2e15 for the
196,608 tokens of a step, and twice that because every segment is padded to the
longest, 3,070 tokens; at half of an H100's peak 21 s a step, or 19 days.
--config.data.shortest=1024 --config.data.segment_length=2048, the segments of
the OPT models, pads a third instead. The argument is devices, as in ':80gb-8'.
Nobody has run it with this program yet. On ':v5e-8' a gradient needs 8.4 of
15.75 GiB a device, by the TPU's compiler (`plan`); one v5e is likely too small.
"""

from configs import common


def get_config(devices=''):
  config = common.compressor('compressor_llama2_7b')
  config.model.name = 'meta-llama/Llama-2-7b-hf'
  config.model.dtype = 'bfloat16'
  config.data.source = 'texts'
  config.data.segments = 4
  config.data.shortest = 2
  config.data.segment_length = 3070
  config.summary.length = 50
  config.summary.language = 1.0
  # Of a row of four segments nothing else fits one device.
  config.remat = 'full'
  config.lora.rank = 16
  config.lora.alpha = 16.0
  config.batch.rows = 1
  config.steps = 76_300
  config.training.checkpoint_every = 500
  config.training.optimizer.learning_rate = 4e-4
  config.training.optimizer.schedule = 'linear'
  config.training.optimizer.warmup_ratio = 5000 / 76_300
  config.training.optimizer.rates.embed_summary = 1.0
  config.evaluation.segment_lengths = (2048,)
  config.evaluation.segments = (0, 1, 2, 3)
  config.evaluation.target = 2048
  config.evaluation.reader = 'compressor'
  # Only finetuning compresses and answers beside what it trains.
  config.update_from_flattened_dict(
    {
      key: value
      for key, value in common.devices(devices).items()
      if not key.startswith(('compression.', 'evaluation.'))
    }
  )
  config.training.accumulation = 32 // config.batch.rows
  return config
