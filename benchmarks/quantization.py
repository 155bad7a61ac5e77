"""What the int8 base loses: perplexity and greedy answers against float.

Passages of texts are predicted and continued, and questions about made reports
are answered from their summaries, each side compressing for itself. The texts
are made reports, too, unless a folder is named.

    python benchmarks/quantization.py --texts FOLDER
"""

import math
import sys
import tempfile

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import jax
import numpy as np

from benchmarks import common
import lloco_jax as lloco
from lloco_jax.compression.corpus import (
  CompressionConfig,
  compress_documents,
)
from lloco_jax.compression.store import Store
from lloco_jax.data.contexts import Context
from lloco_jax.data.prompts import PLAIN
from lloco_jax.data.reports import make_dataset
from lloco_jax.data.texts import read_texts
from lloco_jax.evaluation.intervals import bootstrap_mean, paired_difference
from lloco_jax.evaluation.metrics import exact_match
from lloco_jax.evaluation.probes import make_probes
from lloco_jax.generation.answering import answer_questions, answer_text
from lloco_jax.model import Model

ROWS = 8  # continued at once


def load_sides(args) -> dict[str, tuple[Model, Model]]:
  """Base and compressor of both sides."""
  if args.tiny:
    base = compressor = common.tiny_model()
  else:
    base = lloco.load(args.model, args.dtype)
    compressor = lloco.apply_compressor(base)
  return {
    'float': (base, compressor),
    'int8': (lloco.quantize(base), lloco.quantize(compressor)),
  }


def passages(args, tokenizer):
  """Passages spread over the texts: [P, tokens], and their document ids."""
  if args.texts:
    documents = read_texts(args.texts)
  else:
    made = make_dataset(1, 0, args.documents, 1, args.words)
    documents = made.documents.values()
  found = make_probes(
    ((each.id, tokenizer.encode(each.text)) for each in documents),
    args.prompt,
    args.tokens - args.prompt,
    args.passages,
  )
  ids = [np.concatenate([probe.text, probe.target]) for probe in found]
  return np.stack(ids), [probe.document_id for probe in found]


def losses(model: Model, ids) -> list[float]:
  """Nats a token of each passage, its first token not predicted."""
  return [float(lloco.loss(model, row, row)) for row in ids]


def continuations(model: Model, ids, args) -> list[list[int]]:
  """New tokens behind the beginnings of passages."""
  tokens = []
  for start in range(0, len(ids), ROWS):
    rows = ids[start : start + ROWS, : args.prompt]
    new = lloco.generate(model, rows, max_new_tokens=args.new, stop_tokens=())
    tokens += np.asarray(new).tolist()
  return tokens


def answers(model: Model, dataset, args) -> tuple[list[list[int]], list[float]]:
  """Tokens of every answer from summaries, and whether it is right."""
  config = CompressionConfig(segment_length=model.segment_length, rows=4)
  tokens, right = [], []
  with tempfile.TemporaryDirectory() as folder:
    store = Store(folder)
    stored = compress_documents(
      model, dataset.documents.values(), store, config, progress=False
    )
    for name, entry in stored.items():
      asked = [
        each
        for each in dataset.splits['validation']
        if each.document_ids == (name,)
      ]
      found = answer_questions(
        model,
        Context(store.load(entry.key)),
        [model.tokenizer.encode(PLAIN.ask(each.question)) for each in asked],
        max_new_tokens=args.new,
      ).tokens
      tokens += found
      right += [
        exact_match(answer_text(model.tokenizer, new), each.answers)
        for new, each in zip(found, asked)
      ]
  return tokens, right


def mebibytes(model: Model) -> float:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(model.params)) / 2**20


def equal_row(kind: str, first, second, documents) -> dict:
  """One row of the report: how many answers of both sides are the same."""
  equal = [float(one == other) for one, other in zip(first, second)]
  interval = bootstrap_mean(equal, documents)
  prefix = [common_prefix(one, other) for one, other in zip(first, second)]
  return {
    'greedy': kind,
    'answers': interval.count,
    'documents': interval.clusters,
    'equal': round(sum(equal)),
    'share': interval.mean,
    'low': interval.low,
    'high': interval.high,
    'tokens before a difference': float(np.mean(prefix)),
    'tokens': float(np.mean([len(one) for one in first])),
  }


def common_prefix(first, second) -> int:
  differ = [one != other for one, other in zip(first, second)]
  return differ.index(True) if True in differ else len(differ)


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=None)
  parser.add_argument('--model', default='smollm2-135m')
  parser.add_argument('--dtype', default='float32', help='of the float side')
  parser.add_argument('--texts', help='a file or folder; made reports if not')
  parser.add_argument('--passages', type=int, default=1, help='a document')
  parser.add_argument('--tokens', type=int, default=256, help='a passage')
  parser.add_argument(
    '--prompt', type=int, default=128, help='of them, to go on'
  )
  parser.add_argument('--new', type=int, default=16, help='tokens')
  parser.add_argument('--documents', type=int, default=6, help='reports')
  parser.add_argument('--questions', type=int, default=12, help='a report')
  parser.add_argument('--words', type=int, default=400, help='of a report')
  args = parser.parse_args()
  common.shrink(args, tokens=32, prompt=16, documents=3, questions=2, words=60)
  where = common.environment() | {'device': jax.devices()[0].device_kind}
  sides = load_sides(args)
  base = sides['float'][0]
  ids, documents = passages(args, base.need_tokenizer())
  dataset = make_dataset(0, 0, args.documents, args.questions, args.words)
  asked = [
    name for each in dataset.splits['validation'] for name in each.document_ids
  ]
  nats, texts, replies, right = {}, {}, {}, {}
  for name, (reader, compressor) in sides.items():
    nats[name] = losses(reader, ids)
    texts[name] = continuations(reader, ids, args)
    replies[name], right[name] = answers(compressor, dataset, args)
  loss = paired_difference(nats['int8'], nats['float'], documents)
  score = paired_difference(right['int8'], right['float'], asked)
  common.report(
    args,
    where,
    {
      'Perplexity': [
        {
          'passages': loss.count,
          'documents': loss.clusters,
          'tokens': loss.count * (args.tokens - 1),
          'float perplexity': math.exp(np.mean(nats['float'])),
          'int8 perplexity': math.exp(np.mean(nats['int8'])),
          'difference in nats': loss.mean,
          'low': loss.low,
          'high': loss.high,
        }
      ],
      'Equal greedy tokens': [
        equal_row('continued passages', *texts.values(), documents),
        equal_row('answers from summaries', *replies.values(), asked),
      ],
      'Exact match of the answers': [
        {
          'answers': score.count,
          'documents': score.clusters,
          'float': float(np.mean(right['float'])),
          'int8': float(np.mean(right['int8'])),
          'difference': score.mean,
          'low': score.low,
          'high': score.high,
        }
      ],
    },
    (
      f'{base.name} in {base.dtypes}, {mebibytes(base):,.0f} MiB, and int8, '
      f'{mebibytes(sides["int8"][0]):,.0f} MiB; intervals of 95% over '
      'documents.',
    ),
  )


if __name__ == '__main__':
  main()
