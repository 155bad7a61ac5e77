"""How much of a text's worth for answers its summary vectors keep.

Pieces of SQuAD's articles, none of which a shipped compressor has seen, are
compressed; the loss of the right answers, in nats a token, is compared given
the own vectors and those of another article, since a gain over nothing may be
one of tone. Beside it stands the same for the text itself and for as much of
its beginning as there are vectors, read by the untouched base. Intervals are
over articles.

    python benchmarks/answers_kept.py --squad FOLDER

Several `--compressors` (folders, 'shipped' or 'shipped:texts') are compared, at
the length of their training or with segments of `--segment` tokens.
"""

import dataclasses
import pathlib
import sys

# The repository in place of this folder; see compression.py.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common
import lloco_jax as lloco
from lloco_jax.data.batches import IGNORED
from lloco_jax.data.prompts import PLAIN
from lloco_jax.data.records import objects, read_json
from lloco_jax.evaluation.intervals import bootstrap_mean
from lloco_jax.progress import Progress

_WIDTH = 32  # Questions with answers are padded to its multiples.
_MISSES = 1000  # In a row, by which an article is too short.


@dataclasses.dataclass(frozen=True)
class Item:
  """A piece of an article, and a question that it answers."""

  article: str
  text: np.ndarray
  question: tuple[int, ...]
  answer: tuple[int, ...]


def read_items(args, tokenizer) -> list[Item]:
  """Pieces of the articles in turn, somewhere in which is what is asked.

  Raises:
    ValueError: an article has no such pieces.
  """
  random = np.random.default_rng(args.seed)
  if args.tiny:
    articles = [
      (name, [(f'The {name} is in the mill. ' * 40, [('Where?', 'mill')])])
      for name in ('ox', 'hen', 'cow')
    ]
  else:
    data = read_json(pathlib.Path(args.squad) / 'dev-v1.1.json')
    articles = [
      (
        article['title'],
        [
          (
            paragraph['context'],
            [
              (qa['question'], qa['answers'][0]['text'])
              for qa in paragraph['qas']
            ],
          )
          for paragraph in article['paragraphs']
        ],
      )
      for article in objects(data, 'data')
    ]
  items, misses = [], 0
  while len(items) < args.questions:
    name, paragraphs = articles[len(items) % len(articles)]
    first = random.integers(len(paragraphs))
    text, questions = paragraphs[first]
    question, answer = questions[random.integers(len(questions))]
    before, behind = (
      tokenizer.encode(' '.join(text for text, _ in some))
      for some in (paragraphs[:first], paragraphs[first:])
    )
    # Or the beginning of a piece would hold most of the answers.
    start = max(len(before) - random.integers(args.tokens), 0)
    ids = [*before, *behind][start : start + args.tokens]
    own = ids[max(len(before) - start, 0) :]
    if len(ids) < args.tokens or answer not in tokenizer.decode(own):
      misses += 1
      if misses == _MISSES:
        raise ValueError(
          f"No piece of {args.tokens} tokens of '{name}' holds an answer; "
          'lower --tokens.'
        )
      continue
    misses = 0
    items.append(
      Item(
        name,
        np.array(ids, np.int32),
        tuple(tokenizer.encode(PLAIN.ask(question))),
        tuple(tokenizer.encode(PLAIN.reply(answer))),
      )
    )
  return items


def nats(reader, item: Item, context=None, text=(), adapter=None) -> float:
  """The loss a token of an answer behind vectors, or behind text."""
  ids = np.array([*text, *item.question, *item.answer], np.int32)
  labels = np.full_like(ids, IGNORED)
  labels[-len(item.answer) :] = item.answer
  missing = -len(ids) % _WIDTH
  ids = np.pad(ids, (0, missing))
  labels = np.pad(labels, (0, missing), constant_values=IGNORED)
  return float(lloco.loss(reader, ids, labels, context, adapter))


def row(name: str, read: int, losses: np.ndarray, items, nothing) -> dict:
  """A row of the report, of losses [2, N] with own and other context."""
  own, other = losses
  articles = [item.article for item in items]
  gain = bootstrap_mean(other - own, articles)
  over = bootstrap_mean(nothing - own, articles)
  return {
    'reads': name,
    'positions': read,
    'own': float(own.mean()),
    'gain over other': gain.mean,
    'low': gain.low,
    'high': gain.high,
    'gain over nothing': over.mean,
    'low ': over.low,
    'high ': over.high,
  }


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=None)
  parser.add_argument('--squad', help='folder of dev-v1.1.json')
  parser.add_argument('--model', default='smollm2-135m')
  parser.add_argument('--compressors', nargs='+', default=['shipped'])
  parser.add_argument('--questions', type=int, default=120)
  parser.add_argument('--tokens', type=int, default=256, help='of a piece')
  parser.add_argument(
    '--segment', type=int, help='tokens a segment, in place of its own'
  )
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  common.shrink(args, questions=3, tokens=64)
  if not (args.squad or args.tiny):
    parser.error('name the folder of dev-v1.1.json with --squad.')
  where = common.environment()
  base = (
    common.tiny_model()
    if args.tiny
    else lloco.load(args.model, dtype='float32')
  )
  items = read_items(args, base.need_tokenizer())
  others = [*items[1:], items[0]]
  meter = Progress(len(items) * (3 + 2 * len(args.compressors)), 'questions')

  def losses(loss_of):
    found = []
    for item, other in zip(items, others):
      found.append((loss_of(item, item), loss_of(item, other)))
      meter.add(1)
    meter.tell(f'{len(items)} questions')
    return np.array(found).T

  nothing = losses(lambda item, _: nats(base, item))[0]
  rows = []
  tables = [
    ('the text', args.tokens, base, lambda item: {'text': item.text}),
  ]
  for folder in args.compressors:
    model = base if args.tiny else lloco.apply_compressor(base, folder)
    # Each once, as both an item's own and another's.
    vectors = {
      id(item): lloco.compress(model, item.text, args.segment) for item in items
    }
    count = len(next(iter(vectors.values())))
    if len(tables) == 1:
      tables.append(
        (
          'its beginning',
          count,
          base,
          lambda item, count=count: {'text': item.text[:count]},
        )
      )
    for who, reader in (('compressor', model), ('base', base)):
      tables.append(
        (
          f'{folder}, by the {who}',
          count,
          reader,
          lambda item, vectors=vectors: {'context': vectors[id(item)]},
        )
      )
  for name, count, reader, given in tables:
    found = losses(
      lambda item, other, reader=reader, given=given: nats(
        reader, item, **given(other)
      )
    )
    rows.append(row(name, count, found, items, nothing))
  common.report(
    args,
    where,
    {f'{len(items)} answers, {nothing.mean():.2f} nats given nothing': rows},
    (
      f'Of {len({item.article for item in items})} articles; intervals of 95% '
      'over them. Nats a token, the mean of each answer.',
    ),
  )


if __name__ == '__main__':
  main()
