"""How often the right passages are found: by words, by embedding, by both.

All paragraphs of a data set are searched for each of its questions, with the
searches of retrieval/search.py and with a library. Recall is the share of a
question's right paragraphs among the best: SQuAD's have one, HotpotQA's two,
of which a single one can be the first. What finding costs the answers is
measured with the untouched base, which reads the right paragraph or the one
that the library found, and with the shipped compressor, which reads their
summaries, or those of as many as `ask` takes.

    python benchmarks/retrieval.py --squad FOLDER --hotpotqa FOLDER
"""

from collections.abc import Callable
import dataclasses
import functools
import pathlib
import sys
import tempfile
import time

# The repository in place of this folder; see compression.py.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import jax
import numpy as np

from benchmarks import common, made_library
import lloco_jax as lloco
from lloco_jax.compression.corpus import compress_documents
from lloco_jax.compression.schedule import CompressionConfig
from lloco_jax.compression.store import Store
from lloco_jax.data.contexts import Context
from lloco_jax.data.documents import Document
from lloco_jax.data.prompts import PLAIN
from lloco_jax.data.records import objects, read_json, read_json_array
from lloco_jax.evaluation.intervals import bootstrap_mean, paired_difference
from lloco_jax.evaluation.metrics import exact_match, f1
from lloco_jax.generation.answering import answer_questions, answer_text
from lloco_jax.library.finding import find
from lloco_jax.retrieval.search import best, bm25, embedding, fuse

MOST = 5
# A question to the places of the best passages.
Ranking = Callable[[str], list[int]]


@dataclasses.dataclass(frozen=True)
class Question:
  """A question, its answers, and the places of the passages it is about.

  Those of one `cluster` are drawn together in an interval.
  """

  text: str
  answers: tuple[str, ...]
  passages: frozenset[int]
  cluster: str


def read_squad(folder: str) -> tuple[list[str], list[Question]]:
  """Every paragraph of SQuAD 1.1's dev set, and every question."""
  places, questions = {}, []
  data = read_json(pathlib.Path(folder) / 'dev-v1.1.json')
  for article in objects(data, 'data'):
    for paragraph in article['paragraphs']:
      place = places.setdefault(paragraph['context'], len(places))
      questions += [
        Question(
          each['question'].strip(),
          tuple(dict.fromkeys(answer['text'] for answer in each['answers'])),
          frozenset([place]),
          article['title'],
        )
        for each in paragraph['qas']
      ]
  return list(places), questions


def read_hotpotqa(folder: str) -> tuple[list[str], list[Question]]:
  """The paragraphs of all questions of HotpotQA's dev set together."""
  places, questions = {}, []
  [path] = pathlib.Path(folder).glob('hotpot_dev_distractor_v1*.json')
  for _, row in read_json_array(path):
    own = {}
    for title, sentences in row['context']:
      text = f'{title}\n{"".join(sentences)}'
      own[title] = places.setdefault(text, len(places))
    right = frozenset(own[title] for title, _ in row['supporting_facts'])
    questions.append(
      Question(row['question'], (row['answer'],), right, row['_id'])
    )
  return list(places), questions


def made_passages() -> tuple[list[str], list[Question]]:
  """For --tiny: every passage has a word that no other has."""
  words = [f'{first}{second}' for first in 'abcdefgh' for second in 'ox em']
  passages = [f'The {word} is in the mill of the town.' for word in words]
  return passages, [
    Question(f'Where is the {word}?', ('in the mill',), frozenset([n]), word)
    for n, word in enumerate(words)
  ]


def rankings(passages: list[str], folder: pathlib.Path) -> dict[str, Ranking]:
  """The searches by name."""
  words, vectors = bm25(passages), embedding(passages)
  library = made_library.empty_library(folder)
  made_library.put(library, [[text] for text in passages])
  library.catalogue.tidy()

  def in_library(question):
    hits = find(library, question, MOST)
    return [made_library.number_of(hit.entry) for hit in hits]

  return {
    'BM25': lambda question: best(words(question), MOST),
    'embedding': lambda question: best(vectors(question), MOST),
    'hybrid': lambda question: best(
      fuse(words(question), vectors(question)), MOST
    ),
    'library': in_library,
  }


def recall_rows(found: dict, questions: list[Question]) -> list[dict]:
  """A row a search: recall at 1 and at 5 with their intervals."""
  clusters, rows = [each.cluster for each in questions], []
  for name, (ranked, seconds) in found.items():
    row = {'search': name, 'questions': len(questions)}
    for count in (1, MOST):
      interval = bootstrap_mean(recalls(ranked, questions, count), clusters)
      row['clusters'] = interval.clusters
      row[f'recall@{count}'] = interval.mean
      row[f'low@{count}'], row[f'high@{count}'] = interval.low, interval.high
    rows.append({**row, 'ms a question': 1e3 * seconds / len(questions)})
  return rows


def recalls(ranked, questions: list[Question], count: int) -> list[float]:
  """The share of each question's passages among the best `count`."""
  return [
    len(each.passages & set(places[:count])) / len(each.passages)
    for each, places in zip(questions, ranked)
  ]


def difference_rows(found: dict, questions: list[Question]) -> list[dict]:
  """What the library's search has over each other one, at 5."""
  clusters = [each.cluster for each in questions]
  ours = recalls(found['library'][0], questions, MOST)
  rows = []
  for name, (ranked, _) in found.items():
    if name != 'library':
      theirs = recalls(ranked, questions, MOST)
      gap = paired_difference(ours, theirs, clusters)
      rows.append(
        {
          'library less': name,
          'recall@5': gap.mean,
          'low': gap.low,
          'high': gap.high,
        }
      )
  return rows


def summaries(
  compressor, passages: list[str], places: set[int]
) -> dict[int, np.ndarray]:
  """Summary vectors [n, D] of passages, each compressed on its own."""
  config = CompressionConfig(compressor.segment_length, rows=8)
  documents = [Document(str(place), passages[place]) for place in places]
  with tempfile.TemporaryDirectory() as folder:
    store = Store(folder)
    stored = compress_documents(compressor, documents, store, config)
    return {int(id): store.load(each.key) for id, each in stored.items()}


def answer_rows(
  passages: list[str], questions: list[Question], ranked, args
) -> dict[str, list[dict]]:
  """F1 and exact match from the right paragraph and from those found, and
  what is lost by finding."""
  if args.tiny:
    base = compressor = common.tiny_model()
  else:
    base = lloco.load(args.model)
    compressor = lloco.apply_compressor(base)
  tokenizer = base.tokenizer
  right = [(min(question.passages),) for question in questions]
  found = {
    count: [tuple(places[:count]) for places in ranked]
    for count in (1, args.documents)
  }
  needed = {
    place for places in (*right, *found[args.documents]) for place in places
  }
  vectors = summaries(compressor, passages, needed)

  def read(form, places):
    if form == 'text':
      ids = tokenizer.encode(passages[places[0]])
      return base, Context(np.asarray(ids, np.int32))
    together = np.concatenate([vectors[place] for place in places])
    return compressor, Context(together)

  # The passage that is found is the right one as a rule.
  @functools.cache
  def answer(form, places, question):
    model, context = read(form, places)
    prompt = tokenizer.encode(PLAIN.ask(question.text))
    new = answer_questions(model, context, [prompt], max_new_tokens=args.new)
    return answer_text(tokenizer, new.tokens[0])

  said = {
    'text of the right passage': ('text', right),
    'text of the first found': ('text', found[1]),
    'summary of the right passage': ('summaries', right),
    'summary of the first found': ('summaries', found[1]),
    f'summaries of {args.documents} found': (
      'summaries',
      found[args.documents],
    ),
  }
  rows, gaps = [], []
  clusters = [question.cluster for question in questions]
  for name, (form, chosen) in said.items():
    texts = [answer(form, *each) for each in zip(chosen, questions)]
    scores = [f1(text, q.answers) for text, q in zip(texts, questions)]
    exact = [exact_match(text, q.answers) for text, q in zip(texts, questions)]
    interval = bootstrap_mean(scores, clusters)
    rows.append(
      {
        'reads': name,
        'questions': interval.count,
        'clusters': interval.clusters,
        'F1': interval.mean,
        'low': interval.low,
        'high': interval.high,
        'exact match': float(np.mean(exact)),
      }
    )
    if chosen is right:
      of_right = scores
    else:
      gap = paired_difference(scores, of_right, clusters)
      gaps.append(
        {
          'less the right one': name,
          'F1': gap.mean,
          'low': gap.low,
          'high': gap.high,
        }
      )
  return {'answers': rows, 'what finding costs': gaps}


def sample(questions: list[Question], count: int) -> list[Question]:
  """At most so many of the questions, in their order; 0 for all."""
  if not count or count >= len(questions):
    return questions
  places = np.random.default_rng(0).permutation(len(questions))[:count]
  return [questions[place] for place in sorted(places)]


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=None)
  parser.add_argument('--squad', help='folder of dev-v1.1.json')
  parser.add_argument('--hotpotqa', help='folder of the distractor dev file')
  parser.add_argument(
    '--questions', type=int, default=0, help='a seeded sample; 0 for all'
  )
  parser.add_argument(
    '--answers', type=int, default=100, help='questions of SQuAD to answer'
  )
  parser.add_argument(
    '--documents', type=int, default=3, help='read together, as `ask` does'
  )
  parser.add_argument('--new', type=int, default=16, help='tokens an answer')
  parser.add_argument('--model', default='smollm2-135m')
  args = parser.parse_args()
  common.shrink(args, squad='', hotpotqa='', answers=2, new=2)
  where = common.environment() | {'device': jax.devices()[0].device_kind}
  data = {}
  if args.tiny:
    data['made passages'] = made_passages()
  if args.squad:
    data['SQuAD 1.1 dev'] = read_squad(args.squad)
  if args.hotpotqa:
    data['HotpotQA dev'] = read_hotpotqa(args.hotpotqa)
  if not data:
    parser.error('name the folder of --squad, of --hotpotqa, or of both')
  tables = {}
  for name, (passages, questions) in data.items():
    every, questions = len(questions), sample(questions, args.questions)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
      place = pathlib.Path(folder) / 'library'
      for search, ranking in rankings(passages, place).items():
        began = time.perf_counter()
        ranked = [ranking(each.text) for each in questions]
        found[search] = ranked, time.perf_counter() - began
    title = f'{name}: {len(passages):,} passages'
    if len(questions) < every:
      title += f', a sample of {every:,} questions'
    tables[title] = recall_rows(found, questions)
    tables[f'{name}: differences'] = difference_rows(found, questions)
    if args.answers and name != 'HotpotQA dev':
      few = sample(list(range(len(questions))), args.answers)
      answers = answer_rows(
        passages,
        [questions[place] for place in few],
        [found['library'][0][place] for place in few],
        args,
      )
      tables |= {f'{name}: {part}': rows for part, rows in answers.items()}
  common.report(
    args,
    where,
    tables,
    (
      'Intervals of 95% over articles of SQuAD and questions of HotpotQA. The '
      'embedding is the default one; the library fuses the best 100 of its own '
      'full-text search and of the same embedding, the hybrid all passages.',
    ),
  )


if __name__ == '__main__':
  main()
