"""Compression: ours against transformers doing what the reference does.

The reference compresses one document at a time, at its exact length, and runs
all earlier summary vectors again with every segment. Ours is what the offline
stage does with documents of different lengths: padded segments, rows in
lockstep.

    python benchmarks/compression.py
"""

import sys
import tempfile

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common, examples, paired


def documents(options: dict) -> list[np.ndarray]:
  """Random ids, `tokens` at most and half of it at least a document."""
  random = np.random.default_rng(0)
  longest, count = options['tokens'], options['documents']
  lengths = random.integers(longest // 2, longest, size=count, endpoint=True)
  return [
    random.integers(examples.VOCABULARY, size=length, dtype=np.int32)
    for length in lengths
  ]


def ours(options: dict):
  import lloco_jax as lloco
  from lloco_jax.compression.lockstep import compress_batch
  from lloco_jax.compression.schedule import CompressionConfig, batch_documents

  model = lloco.load(options['checkpoint'])
  config = CompressionConfig(options['segment'], options['rows'])
  texts = documents(options)
  batches = batch_documents([len(ids) for ids in texts], config)

  def run():
    found = [None] * len(texts)
    for batch in batches:
      done = compress_batch(
        model.params,
        model.config,
        config,
        [texts[index] for index in batch],
        [(0, None)] * len(batch),
      )
      for _, finished in done:
        for row, vectors in finished:
          found[batch[row]] = vectors
    return found

  return run


def theirs(options: dict):
  from safetensors.torch import load_file
  import torch

  model = paired.torch_base(options).model
  weights = load_file(f'{options["checkpoint"]}/model.safetensors')
  summary_tokens = weights['embed_summary.weight']
  count, width = summary_tokens.shape
  texts = [torch.from_numpy(ids) for ids in documents(options)]

  def compress(ids):
    vectors = torch.zeros(0, width)
    for segment in ids.split(options['segment']):
      embeddings = torch.cat(
        [vectors, model.embed_tokens(segment), summary_tokens]
      )
      hidden = model(
        inputs_embeds=embeddings[None],
        position_ids=torch.arange(len(embeddings))[None],
        use_cache=False,
      ).last_hidden_state
      vectors = torch.cat([vectors, hidden[0, -count:]])
    return vectors.numpy()

  @torch.inference_mode()
  def run():
    return [compress(ids) for ids in texts]

  return run


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=5)
  paired.base_flags(parser)
  parser.add_argument('--documents', type=int, default=4)
  parser.add_argument(
    '--tokens', type=int, default=4608, help='a document, at most'
  )
  parser.add_argument('--segment', type=int, default=1536, help='tokens')
  parser.add_argument('--summary-length', type=int, default=50)
  parser.add_argument(
    '--rows', type=int, default=4, help='documents at a time, of ours'
  )
  args = parser.parse_args()
  common.shrink(
    args, documents=3, tokens=40, segment=16, summary_length=4, rows=2
  )
  where = common.environment()
  with tempfile.TemporaryDirectory() as folder:
    paired.write_checkpoint(folder, args, args.summary_length)
    options = vars(args) | {'checkpoint': folder}
    alone = options | {'rows': 1}
    together, single = f'ours, {args.rows} rows', 'ours, 1 row'
    sides = [
      paired.Side(single, ours, alone),
      paired.Side(together, ours, options),
      paired.Side('torch', theirs, options),
    ]
    measured = paired.measure(sides, args.repeats)
  pairs = [(single, 'torch'), (together, 'torch')]
  tokens = sum(map(len, documents(vars(args))))
  common.report(
    args,
    where,
    {
      'Compression': paired.side_rows(measured, 'tokens', tokens),
      'Paired, by round': paired.pair_rows(measured, pairs),
    },
    (
      f'{args.documents} documents of {tokens:,} tokens in all, '
      f'{args.segment:,} to {args.summary_length}, float32.',
    ),
  )


if __name__ == '__main__':
  main()
