"""Compression: ours against transformers doing what the reference does.

The reference compresses one document at a time and runs all earlier summary
vectors again with every segment; it is also given a batch of documents here,
and ours a single one, so that like can be compared with like.

    python benchmarks/compression.py
"""

import sys
import tempfile

# The repository instead of this folder, where a module of the standard
# library has a namesake.
sys.path[0] = __file__.rpartition('benchmarks')[0]

import numpy as np

from benchmarks import common, paired


def documents(options: dict) -> np.ndarray:
  """[documents, tokens] random ids; every model knows the first 256."""
  random = np.random.default_rng(0)
  shape = (options['documents'], options['tokens'])
  return random.integers(256, size=shape, dtype=np.int32)


def ours(options: dict):
  import lloco_jax as lloco

  model = lloco.load(options['checkpoint'])
  ids, rows = documents(options), options['rows']

  def run():
    vectors = [
      np.asarray(lloco.compress(model, ids[i : i + rows], options['segment']))
      for i in range(0, len(ids), rows)
    ]
    return np.concatenate(vectors)

  return run


def theirs(options: dict):
  from safetensors.torch import load_file
  import torch

  model = paired.torch_base(options).model
  weights = load_file(f'{options["checkpoint"]}/model.safetensors')
  summary_tokens = weights['embed_summary.weight']
  count, width = summary_tokens.shape
  ids, rows = torch.from_numpy(documents(options)), options['rows']

  def compress(ids):
    vectors = torch.zeros(len(ids), 0, width)
    for segment in ids.split(options['segment'], dim=1):
      embeddings = torch.cat(
        [
          vectors,
          model.embed_tokens(segment),
          summary_tokens.expand(len(ids), -1, -1),
        ],
        dim=1,
      )
      hidden = model(
        inputs_embeds=embeddings,
        position_ids=torch.arange(embeddings.shape[1])[None],
        use_cache=False,
      ).last_hidden_state
      vectors = torch.cat([vectors, hidden[:, -count:]], dim=1)
    return vectors

  @torch.inference_mode()
  def run():
    return torch.cat([compress(part) for part in ids.split(rows)]).numpy()

  return run


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=5)
  paired.base_flags(parser)
  parser.add_argument('--documents', type=int, default=4)
  parser.add_argument('--tokens', type=int, default=4608, help='a document')
  parser.add_argument('--segment', type=int, default=1536, help='tokens')
  parser.add_argument('--summary-length', type=int, default=50)
  parser.add_argument('--rows', type=int, default=4, help='documents at a time')
  args = parser.parse_args()
  common.shrink(
    args, documents=3, tokens=40, segment=16, summary_length=4, rows=3
  )
  where = common.environment()
  with tempfile.TemporaryDirectory() as folder:
    paired.write_checkpoint(folder, args, args.summary_length)
    options = vars(args) | {'checkpoint': folder}
    one = options | {'rows': 1}
    sides = [
      paired.Side('ours, batched', ours, options),
      paired.Side('ours, one document', ours, one),
      paired.Side('torch, one document', theirs, one),
      paired.Side('torch, batched', theirs, options),
    ]
    measured = paired.measure(sides, args.repeats)
  pairs = [
    ('ours, batched', 'torch, one document'),
    ('ours, one document', 'torch, one document'),
    ('ours, batched', 'torch, batched'),
  ]
  tokens = args.documents * args.tokens
  common.report(
    args,
    where,
    {
      'Compression': paired.side_rows(measured, 'tokens', tokens),
      'Paired, by round': paired.pair_rows(measured, pairs),
    },
    (
      f'{args.documents} documents of {args.tokens:,} tokens, '
      f'{args.segment:,} to {args.summary_length}, float32; "one document" is '
      'what the reference does.',
    ),
  )


if __name__ == '__main__':
  main()
