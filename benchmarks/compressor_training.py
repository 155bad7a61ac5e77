"""Training of a compressor: ours against transformers and peft.

A round is one update of LoRA and the summary embeddings by the next-token
loss of rows of segments, gradients passing through two of them. The reference
runs one row at a time, and all earlier summary vectors again with every
segment; rows side by side are tried for it as well.

    python benchmarks/compressor_training.py
"""

import sys
import tempfile

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common, examples, paired

# So low that both sides stay together: at a rate of training the loss of random
# text leaps, and rounding with it.
RATE = 1e-6
SUBSTEP = 2


def texts(options: dict) -> np.ndarray:
  """Random ids [rows, segments, tokens]."""
  random = np.random.default_rng(0)
  shape = (options['rows'], options['segments'], options['segment'])
  return random.integers(examples.VOCABULARY, size=shape, dtype=np.int32)


def ours(options: dict):
  import dataclasses

  import jax

  import lloco_jax as lloco
  from lloco_jax.finetuning.compressor import Compressor, compressor_task
  from lloco_jax.finetuning.loop import empty_sums, initial_state, make_steps
  from lloco_jax.finetuning.optimizer import (
    OptimizerConfig,
    make_optimizer,
    make_schedule,
  )
  from lloco_jax.nn.lora import LoraConfig

  model = lloco.load(options['checkpoint'])
  adapter = lloco.load_adapter(f'{options["checkpoint"]}/adapter', model)
  params = dict(model.params)
  start = Compressor(adapter, params.pop('embed_summary')['embedding'])
  lora = LoraConfig(adapter.rank, adapter.alpha, 0.0, adapter.targets)
  task = compressor_task(
    dataclasses.replace(model, params=params),
    lora,
    jax.random.key(0),
    [],
    options['remat'],
    SUBSTEP,
    language=1.0,
    start=start,
  )
  settings = OptimizerConfig(learning_rate=RATE, schedule='constant')
  optimizer = make_optimizer(settings, total_steps=1)
  state = initial_state(task.trainable, optimizer)
  sums = empty_sums(state)
  accumulate, update = make_steps(
    task.loss, optimizer, make_schedule(settings, 1), state, sums
  )
  key = jax.random.key(0)
  segments = texts(options)
  lengths = np.full(segments.shape[:2], segments.shape[2], np.int32)
  size = options['at_once']

  def run():
    nonlocal state, sums
    for first in range(0, len(segments), size):
      part = slice(first, first + size)
      batch = {'segments': segments[part], 'lengths': lengths[part]}
      sums = accumulate(
        sums,
        state.trainable,
        state.step,
        task.frozen,
        jax.device_put(batch),
        key,
      )
    state, sums, metrics = update(state, sums)
    return [np.asarray(metrics['loss']), np.asarray(metrics['grad_norm'])]

  return run


def theirs(options: dict):
  from safetensors.torch import load_file
  import torch

  model = paired.torch_adapted(options, trainable=True)
  core, head = model.base_model.model.model, model.base_model.model.lm_head
  weights = load_file(f'{options["checkpoint"]}/model.safetensors')
  summary_tokens = torch.nn.Parameter(weights['embed_summary.weight'])
  trained = [x for x in model.parameters() if x.requires_grad]
  trained.append(summary_tokens)
  optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
  ids = torch.from_numpy(texts(options)).long()
  rows, count, width = ids.shape
  k = len(summary_tokens)
  # Of a substep: its loss is a mean, and theirs are added up.
  counted = rows * (SUBSTEP * width - 1)

  def run():
    total = 0.0
    for part in ids.split(options['at_once']):
      batch = len(part)
      vectors = torch.zeros(batch, 0, summary_tokens.shape[1])
      for start in range(0, count, SUBSTEP):
        vectors, states = vectors.detach(), []
        for index in range(start, start + SUBSTEP):
          embedded = torch.cat(
            [
              vectors,
              core.embed_tokens(part[:, index]),
              summary_tokens.expand(batch, -1, -1),
            ],
            dim=1,
          )
          hidden = core(
            inputs_embeds=embedded, use_cache=False
          ).last_hidden_state
          earlier = vectors.shape[1]
          states.append(hidden[:, earlier : earlier + width])
          vectors = torch.cat([vectors, hidden[:, -k:]], dim=1)
        scores = head(torch.cat(states, dim=1)[:, :-1])
        following = part[:, start : start + SUBSTEP].reshape(batch, -1)[:, 1:]
        loss = torch.nn.functional.cross_entropy(
          scores.reshape(-1, scores.shape[-1]),
          following.reshape(-1),
          reduction='sum',
        )
        loss = loss / counted
        loss.backward()
        total += loss.item()
    norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return [np.asarray(total), norm.numpy()]

  return run


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=3)
  paired.base_flags(parser)
  parser.add_argument('--rows', type=int, default=4)
  parser.add_argument('--segments', type=int, default=4, help='a row; even')
  parser.add_argument('--segment', type=int, default=240, help='tokens')
  parser.add_argument('--summary-length', type=int, default=16)
  parser.add_argument('--remat', default='projections', help='of ours')
  args = parser.parse_args()
  common.shrink(args, rows=2, segment=6, summary_length=2)
  if args.segments % SUBSTEP:
    parser.error(f'--segments is {args.segments}; it must be even.')
  where = common.environment()
  with tempfile.TemporaryDirectory() as folder:
    paired.write_checkpoint(folder, args, args.summary_length)
    options = vars(args) | {'checkpoint': folder}
    one, every = options | {'at_once': 1}, options | {'at_once': args.rows}
    together = f'{args.rows} rows'
    sides = [
      paired.Side(f'ours, {together}', ours, every),
      paired.Side('ours, 1 row', ours, one),
      paired.Side('torch, 1 row', theirs, one),
      paired.Side(f'torch, {together}', theirs, every),
    ]
    measured = paired.measure(sides, args.repeats)
  pairs = [
    (f'ours, {together}', 'torch, 1 row'),
    (f'ours, {together}', f'torch, {together}'),
    ('ours, 1 row', 'torch, 1 row'),
  ]
  tokens = args.rows * args.segments * args.segment
  common.report(
    args,
    where,
    {
      'Training of a compressor': paired.side_rows(measured, 'tokens', tokens),
      'Paired, by round': paired.pair_rows(measured, pairs),
    },
    (
      f'{args.rows} rows of {args.segments} segments of {args.segment} tokens, '
      f'{args.summary_length} vectors each; LoRA rank 8 on q, k, v, o and the '
      'summary embeddings; float32; "1 row" is what the reference does; ours '
      f'with remat {args.remat}. The difference is of losses and gradient '
      'norms.',
    ),
  )


if __name__ == '__main__':
  main()
