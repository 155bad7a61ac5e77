"""The engine: many adapters against one, and many slots against one.

Requests about 16 contexts come all at once, six questions about each, so that
filling the slots and running out of requests is the smaller part.
'mixed' gives them 8 adapters in turn, 'one adapter' has a bank of one, 'one
slot' is the mixed work through a single slot of an engine, and 'generate' by
`lloco.generate`, which knows no other request. In every round the contexts are
new; an engine reads each once and keeps it.

    python benchmarks/serving.py
    python benchmarks/serving.py --shape llama2-7b --dtype bfloat16 --together
"""

import functools
import itertools
import sys

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common, examples, paired

SIDES = 'mixed', 'one adapter', 'one slot', 'generate'
MIXED, ONE, SLOT, ALONE = SIDES


def _model(config, dtype: str):
  import jax

  from lloco_jax.model import Model
  from lloco_jax.nn.llama import init_params

  make = jax.jit(init_params, static_argnums=(0, 2))
  return Model(config, make(config, jax.random.key(0), dtype), None, '', '')


@functools.cache
def _shared_model(config, dtype: str):
  return _model(config, dtype)


def _set_up(options: dict):
  """The model, and its adapters by name."""
  import jax

  from lloco_jax.nn.lora import LoraConfig, init_adapter

  config = common.shape(options['shape'])
  if options['together']:
    model = _shared_model(config, options['dtype'])
  else:
    model = _model(config, options['dtype'])
  lora = LoraConfig(options['rank'], dropout=0.0)
  adapters = {}
  for index in range(options['adapters']):
    key = jax.random.key(index)
    adapter = init_adapter(config, lora, key)
    for pair in adapter.weights['layers']['self_attn'].values():
      pair['b'] = 0.01 * jax.random.normal(key, pair['b'].shape)
    adapters[str(index)] = adapter
  return model, adapters


def _requests(options: dict, width: int, seed: int) -> list:
  """A round's, the questions about a context not one after the other."""
  from lloco_jax.serving.requests import Request

  asked = examples.questions(options)
  random = np.random.default_rng(seed)
  contexts = [
    random.normal(size=(length, width)).astype(np.float32)
    for length in _between(options['context'], len(asked))
  ]
  # Few lengths: `lloco.generate` is compiled for each.
  new_tokens = _between(
    options['new_tokens'], len(asked) * options['questions'], few=4
  )
  turns = [
    (turn, document)
    for turn in range(options['questions'])
    for document in range(len(asked))
  ]
  return [
    Request(
      asked[document][turn][0],
      contexts[document],
      str(document % options['adapters']),
      count,
    )
    for (turn, document), count in zip(turns, new_tokens)
  ]


def engine(options: dict):
  """Answers all requests in each round."""
  from lloco_jax.serving.engine import Engine
  from lloco_jax.serving.slots import Room

  model, adapters = _set_up(options)
  width = model.config.hidden_size
  runner = Engine(
    model,
    adapters,
    room=Room(options['context'], options['prompt'], options['new_tokens']),
    slots=options['slots'],
    steps=options['steps'],
    capacity=len(adapters),
    rank=options['rank'],
    stop_tokens=(),
  )
  # The stacked copy of the weights ends here.
  del model
  runner.warm_up()
  rounds = itertools.count()

  def run():
    requests = _requests(options, width, next(rounds))
    answers = [runner.submit(request) for request in requests]
    runner.run()
    return [np.concatenate([answer.tokens for answer in answers])]

  return run


def generate(options: dict):
  """The same requests, one after the other."""
  import lloco_jax as lloco

  model, adapters = _set_up(options)
  width = model.config.hidden_size
  rounds = itertools.count()

  def answer(request):
    ids = np.zeros(options['prompt'], np.int32)
    ids[: len(request.ids)] = request.ids
    vectors = np.zeros((options['context'], width), np.float32)
    vectors[: len(request.context)] = request.context
    tokens = lloco.generate(
      model,
      ids,
      vectors,
      adapters[request.adapter],
      request.max_new_tokens,
      lengths=[len(request.ids)],
      context_lengths=[len(request.context)],
      stop_tokens=(),
    )
    return np.asarray(tokens)

  def run():
    requests = _requests(options, width, next(rounds))
    return [np.concatenate([answer(request) for request in requests])]

  return run


def _between(most: int, count: int, few: int | None = None) -> list[int]:
  """Lengths from half of the most up to it, the same every time.

  With `few` they are so many steps apart at most.
  """
  step = max(most // 2 // few, 1) if few else 1
  lengths = np.arange(most, most // 2 - 1, -step)
  return np.random.default_rng(3).choice(lengths, count).tolist()


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=3)
  parser.add_argument('--shape', default='smollm2-135m', choices=common.SHAPES)
  examples.flags(parser, documents=16, questions=6)
  parser.set_defaults(prompt=24, context=96)
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16')
  )
  parser.add_argument(
    '--sides',
    nargs='+',
    choices=SIDES,
    default=list(SIDES),
    help="'mixed' and what it is compared with",
  )
  parser.add_argument('--new-tokens', type=int, default=32, help='at most')
  parser.add_argument('--slots', type=int, default=16)
  parser.add_argument('--steps', type=int, default=8, help='between looks')
  parser.add_argument('--adapters', type=int, default=8)
  parser.add_argument('--rank', type=int, default=8)
  parser.add_argument(
    '--together',
    action='store_true',
    help='in one process, which holds the base once; memory is not measured',
  )
  args = parser.parse_args()
  common.shrink(
    args, shape='tiny', documents=4, questions=2, context=8, prompt=8,
    new_tokens=6, slots=4, steps=2, adapters=2, rank=2,
  )  # fmt: skip
  where = common.environment()
  options = vars(args)
  sides = {
    MIXED: paired.Side(MIXED, engine, options),
    ONE: paired.Side(ONE, engine, options | {'adapters': 1}),
    SLOT: paired.Side(SLOT, engine, options | {'slots': 1}),
    ALONE: paired.Side(ALONE, generate, options),
  }
  chosen = [name for name in SIDES if name in {MIXED, *args.sides}]
  measure = paired.measure_together if args.together else paired.measure
  if args.together:
    import jax

    where['device'] = jax.devices()[0].device_kind
    model = _shared_model(common.shape(args.shape), args.dtype)
    jax.block_until_ready(model.unstacked_params)
  measured = measure([sides[name] for name in chosen], args.repeats)
  count = args.documents * args.questions
  against = {
    name: paired.pair_rows(measured, [(MIXED, name)]) for name in chosen[1:]
  }
  for row in against.get(ONE, []):
    # Other adapters give other answers.
    del row['difference']
  rows = paired.side_rows(measured, 'answers', count)
  for row in rows:
    row['answers a minute'] = 60 * row.pop('answers/s')
  common.report(
    args,
    where,
    {
      'Serving': rows,
      **{f'mixed against {name}, by round': r for name, r in against.items()},
    },
    (
      f'{count} requests about {args.documents} contexts of up to '
      f'{args.context} vectors, prompts to {args.prompt} tokens, answers of '
      f'{args.new_tokens // 2} to {args.new_tokens} tokens, greedy, random '
      f'weights in {args.dtype}; {args.slots} slots, {args.adapters} adapters '
      f'of rank {args.rank} on q, k, v, o. The difference is of tokens.',
    ),
  )


if __name__ == '__main__':
  main()
