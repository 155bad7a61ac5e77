"""Generation: ours against transformers doing what the reference does.

The reference answers one question at a time, by `generate` on the embeddings
of [summaries | prompt] with an unmerged peft adapter. It is also given a
batch, padded on the left, and ours one question at a time.

    python benchmarks/generation.py
"""

import sys
import tempfile

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common, examples, paired


def prompts(options: dict) -> list[list[int]]:
  """One question a document."""
  return [group[0][0] for group in examples.questions(options)]


def ours(options: dict):
  import lloco_jax as lloco

  model = lloco.load(options['checkpoint'])
  adapter = lloco.load_adapter(f'{options["checkpoint"]}/adapter', model)
  contexts, rows = examples.contexts(options), options['rows']
  lengths = np.array([len(prompt) for prompt in prompts(options)])
  ids = np.zeros((len(lengths), options['prompt']), np.int32)
  for row, prompt in zip(ids, prompts(options)):
    row[: len(prompt)] = prompt

  def answer(part):
    tokens = lloco.generate(
      model,
      ids[part],
      context=contexts[part],
      adapter=adapter,
      max_new_tokens=options['new_tokens'],
      lengths=lengths[part],
      stop_tokens=(),
    )
    return np.asarray(tokens)

  def run():
    starts = range(0, len(ids), rows)
    return [np.concatenate([answer(slice(i, i + rows)) for i in starts])]

  return run


def theirs(options: dict):
  import torch

  model = paired.torch_adapted(options, trainable=False)
  embed = model.get_input_embeddings()
  settings = model.generation_config
  settings.eos_token_id, settings.pad_token_id = None, 0
  rows = list(zip(examples.contexts(options), prompts(options)))

  def answer(part):
    embedded = [
      torch.cat([torch.from_numpy(context), embed(torch.tensor(ids))])
      for context, ids in part
    ]
    longest = max(map(len, embedded))
    batch = torch.zeros(len(part), longest, options['width'])
    mask = torch.zeros(len(part), longest, dtype=torch.long)
    for index, row in enumerate(embedded):
      batch[index, longest - len(row) :] = row
      mask[index, longest - len(row) :] = 1
    return model.generate(
      inputs_embeds=batch,
      attention_mask=mask,
      do_sample=False,
      max_new_tokens=options['new_tokens'],
    )

  @torch.inference_mode()
  def run():
    size = options['rows']
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [torch.cat([answer(part) for part in parts]).numpy()]

  return run


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=5)
  paired.base_flags(parser)
  examples.flags(parser, documents=8, questions=1)
  parser.add_argument('--new-tokens', type=int, default=32, help='an answer')
  parser.add_argument('--rows', type=int, default=8, help='batch size')
  args = parser.parse_args()
  common.shrink(args, documents=3, context=8, prompt=8, new_tokens=6, rows=3)
  where = common.environment()
  with tempfile.TemporaryDirectory() as folder:
    width = paired.write_checkpoint(folder, args)
    options = vars(args) | {'checkpoint': folder, 'width': width}
    one = options | {'rows': 1}
    sides = [
      paired.Side('ours, batched', ours, options),
      paired.Side('ours, one question', ours, one),
      paired.Side('torch, one question', theirs, one),
      paired.Side('torch, batched', theirs, options),
    ]
    measured = paired.measure(sides, args.repeats)
  pairs = [
    ('ours, batched', 'torch, one question'),
    ('ours, one question', 'torch, one question'),
    ('ours, batched', 'torch, batched'),
  ]
  tokens = args.documents * args.new_tokens
  common.report(
    args,
    where,
    {
      'Generation': paired.side_rows(measured, 'new tokens', tokens),
      'Paired, by round': paired.pair_rows(measured, pairs),
    },
    (
      f'{args.documents} questions, {args.context} vectors and prompts to '
      f'{args.prompt} tokens, {args.new_tokens} new tokens each, prefill '
      'included, greedy, LoRA rank 8 on q, k, v, o, float32; "one question" '
      'is what the reference does. The difference is the share of tokens.',
    ),
  )


if __name__ == '__main__':
  main()
