"""Finetuning: ours against transformers and peft as the reference does it.

A round is one update of the adapter from all the examples. The reference
runs [summaries | prompt | answer] of one example at a time and adds up the
gradients; larger batches, padded, are tried for it as well. Ours packs the
questions of a document behind its summaries; one question a row is what the
reference's batches are to be compared with.

    python benchmarks/finetuning.py
"""

import sys
import tempfile

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common, examples, paired

RATE = 2e-4


def ours(options: dict):
  import jax

  import lloco_jax as lloco
  from lloco_jax.data.batches import pack
  from lloco_jax.finetuning.loop import (
    empty_sums,
    initial_state,
    make_steps,
  )
  from lloco_jax.finetuning.optimizer import (
    OptimizerConfig,
    make_optimizer,
    make_schedule,
  )
  from lloco_jax.finetuning.questions import question_task

  model = lloco.load(options['checkpoint'])
  adapter = lloco.load_adapter(f'{options["checkpoint"]}/adapter', model)
  rows = list(zip(examples.questions(options), examples.contexts(options)))
  if not options['packed']:
    rows = [([one], context) for group, context in rows for one in group]
  size = options['rows']
  parts = [rows[i : i + size] for i in range(0, len(rows), size)]

  def collate(part):
    batch = pack([group for group, _ in part])
    batch['context'] = np.stack([context for _, context in part])
    batch['context_lengths'] = np.full(len(part), options['context'], np.int32)
    return jax.device_put(batch)

  task = question_task(model, adapter, [], options['remat'])
  settings = OptimizerConfig(learning_rate=RATE, schedule='constant')
  optimizer = make_optimizer(settings, total_steps=1)
  state = initial_state(adapter, optimizer)
  sums = empty_sums(state)
  accumulate, update = make_steps(
    task.loss, optimizer, make_schedule(settings, 1), state, sums
  )
  key = jax.random.key(0)

  def run():
    nonlocal state, sums
    for part in parts:
      batch = collate(part)
      sums = accumulate(
        sums, state.trainable, state.step, task.frozen, batch, key
      )
    state, sums, metrics = update(state, sums)
    return [np.asarray(metrics['loss']), np.asarray(metrics['grad_norm'])]

  return run


def theirs(options: dict):
  import torch
  from torch.nn.utils.rnn import pad_sequence

  model = paired.torch_adapted(options, trainable=True)
  embed = model.get_input_embeddings()
  weights = [x for x in model.parameters() if x.requires_grad]
  optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
  size = options['context']
  rows = []
  for group, context in zip(
    examples.questions(options), examples.contexts(options)
  ):
    for prompt, answer in group:
      ids = torch.tensor([*prompt, *answer])
      labels = torch.full((size + len(ids),), -100)
      labels[size + len(prompt) :] = ids[len(prompt) :]
      rows.append((torch.from_numpy(context), ids, labels))
  counted = sum(int((labels != -100).sum()) for _, _, labels in rows)

  def collate(part):
    embedded = [torch.cat([context, embed(ids)]) for context, ids, _ in part]
    seen = [torch.ones(len(row), dtype=torch.long) for row in embedded]
    return {
      'inputs_embeds': pad_sequence(embedded, batch_first=True),
      'attention_mask': pad_sequence(seen, batch_first=True),
      'labels': pad_sequence(
        [labels for _, _, labels in part], batch_first=True, padding_value=-100
      ),
    }

  def run():
    total = 0.0
    for start in range(0, len(rows), options['rows']):
      # The mean over the tokens of the whole update, as ours takes it.
      loss = model(
        **collate(rows[start : start + options['rows']]),
        num_items_in_batch=counted,
      ).loss
      loss.backward()
      total += loss.item()
    norm = torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return [np.asarray(total), norm.numpy()]

  return run


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=5)
  paired.base_flags(parser)
  examples.flags(parser, documents=4, questions=8)
  parser.add_argument(
    '--batches',
    type=int,
    nargs='+',
    default=[4, 8],
    help='batch sizes tried beside the reference, which takes 1',
  )
  parser.add_argument('--remat', default='projections', help='of ours')
  args = parser.parse_args()
  common.shrink(
    args,
    documents=2,
    questions=3,
    context=8,
    prompt=8,
    answer=4,
    batches=[2],
  )
  where = common.environment()
  with tempfile.TemporaryDirectory() as folder:
    width = paired.write_checkpoint(folder, args)
    options = vars(args) | {'checkpoint': folder, 'width': width}
    one = options | {'rows': 1, 'packed': False}
    largest = max(args.batches)
    sides = [
      paired.Side('ours, packed', ours, one | {'packed': True}),
      paired.Side(f'ours, batch {largest}', ours, one | {'rows': largest}),
      paired.Side('ours, batch 1', ours, one),
      paired.Side('torch, batch 1', theirs, one),
    ]
    for rows in args.batches:
      side = one | {'rows': rows}
      sides.append(paired.Side(f'torch, batch {rows}', theirs, side))
    measured = paired.measure(sides, args.repeats)
  torch_sides = [side.name for side in sides if side.name.startswith('torch')]
  pairs = [('ours, packed', name) for name in torch_sides]
  pairs.append((f'ours, batch {largest}', f'torch, batch {largest}'))
  pairs.append(('ours, batch 1', 'torch, batch 1'))
  count = args.documents * args.questions
  common.report(
    args,
    where,
    {
      'Finetuning': paired.side_rows(measured, 'examples', count),
      'Paired, by round': paired.pair_rows(measured, pairs),
    },
    (
      f'{args.documents} documents of {args.questions} questions, '
      f'{args.context} vectors, prompts to {args.prompt} and answers to '
      f'{args.answer} tokens; LoRA rank 8 on q, k, v, o; float32; "torch, '
      'batch 1" is what the reference does; ours with remat '
      f'{args.remat}. The difference is of losses and gradient norms.',
    ),
  )


if __name__ == '__main__':
  main()
