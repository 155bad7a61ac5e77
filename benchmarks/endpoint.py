"""The endpoint: many connections against one, and against the engine alone.

A library of made reports is asked questions about them, in an order that mixes
the documents. 'endpoint' is asked over HTTP by as many connections as there
are slots, 'one connection' by a single one, and 'engine' finds the documents
of all questions and answers them in the same process without HTTP. Texts and
summaries are the same for all; the weights are real.

    python benchmarks/endpoint.py
"""

from concurrent.futures import ThreadPoolExecutor
import hashlib
import http.client
import json
import pathlib
import socket
import sys
import tempfile
import threading
import time

# The repository in place of this folder, where `compression`, a package of
# Python 3.14, has a namesake.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common, paired

SIDES = 'endpoint', 'one connection', 'engine'
ENDPOINT, SINGLE, ENGINE = SIDES


def make_library(folder: pathlib.Path, args) -> list[str]:
  """A library of reports in a folder; questions about them."""
  from lloco_jax.data.reports import make_dataset
  from lloco_jax.library.adding import add_folder
  from lloco_jax.library.library import Library
  from lloco_jax.library.making import Making

  model = args.model
  if args.tiny:
    model = str(folder / 'model')
    common.write_tiny_model(folder / 'model', window=2048)
  dataset = make_dataset(0, args.documents, 1, args.questions, args.words)
  texts = folder / 'reports'
  texts.mkdir()
  examples = dataset.splits['train']
  for name in dict.fromkeys(example.document_ids[0] for example in examples):
    document = dataset.documents[name]
    (texts / f'{document.id}.txt').write_text(document.text, 'utf-8')
  library = Library.make(folder / 'library', Making(model=model))
  add_folder(library, texts, 'reports')
  questions = [example.question for example in examples]
  np.random.default_rng(0).shuffle(questions)
  return questions


def _ready(options: dict):
  """The finder and the engine, warm."""
  from lloco_jax.endpoint.finder import Finder
  from lloco_jax.library.library import Library
  from lloco_jax.serving.engine import Engine
  from lloco_jax.serving.slots import Room

  library = Library(options['library'])
  room = Room(options['context'], options['prompt'], options['new_tokens'])
  engine = Engine(library.model, room=room, slots=options['slots'])
  library.free_weights()
  engine.warm_up()
  return Finder(library, options['read'], room), engine


def engine(options: dict):
  """Answers all questions in each round, in this process."""
  from lloco_jax.endpoint.wording import StoppedLine
  from lloco_jax.serving.requests import Request

  finder, runner = _ready(options)
  tokenizer = finder.library.model.tokenizer

  def submit(question):
    reading = finder.read(question)
    return runner.submit(
      Request(
        reading.ids, reading.vectors, max_new_tokens=options['new_tokens']
      )
    )

  def text(answer):
    line = StoppedLine(tokenizer)
    for token in answer.tokens:
      if not line.done:
        line.add(token)
    return line.text

  def run():
    answers = [submit(question) for question in options['asked']]
    # As the endpoint does, whose slots are free once the first line is there.
    while not runner.idle:
      for answer in runner.step():
        line = StoppedLine(tokenizer)
        if not answer.done and any(
          line.add(token) is None or line.done for token in answer.tokens
        ):
          runner.cancel(answer)
    return [_coded([text(answer) for answer in answers])]

  return run


def endpoint(options: dict):
  """Asks all questions over HTTP in each round."""
  import uvicorn

  from lloco_jax.endpoint.app import Endpoint

  app = Endpoint(*_ready(options)).app()
  listening = socket.create_server(('127.0.0.1', 0))
  server = uvicorn.Server(
    uvicorn.Config(app, log_level='warning', log_config=None)
  )
  threading.Thread(
    target=server.run, kwargs={'sockets': [listening]}, daemon=True
  ).start()
  while not server.started:
    time.sleep(0.01)
  port = listening.getsockname()[1]

  def ask(question):
    asked = {
      'model': 'library/any',
      'messages': [{'role': 'user', 'content': question}],
      'max_tokens': options['new_tokens'],
    }
    connection = http.client.HTTPConnection('127.0.0.1', port)
    connection.request(
      'POST',
      '/v1/chat/completions',
      json.dumps(asked).encode(),
      {'Content-Type': 'application/json'},
    )
    response = connection.getresponse()
    found = json.loads(response.read())
    if 'error' in found:
      raise RuntimeError(found['error']['message'])
    connection.close()
    return found['choices'][0]['message']['content']

  def run():
    with ThreadPoolExecutor(options['connections']) as threads:
      return [_coded(list(threads.map(ask, options['asked'])))]

  return run


def _coded(texts: list[str]) -> np.ndarray:
  """A number for each text."""
  digests = [hashlib.sha256(text.encode()).digest() for text in texts]
  return np.array([int.from_bytes(each[:7], 'big') for each in digests])


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=3)
  parser.add_argument('--model', default='smollm2-135m')
  parser.add_argument('--documents', type=int, default=12)
  parser.add_argument('--words', type=int, default=500, help='of a report')
  parser.add_argument('--questions', type=int, default=8, help='a report')
  parser.add_argument('--read', type=int, default=3, help='documents at most')
  parser.add_argument('--context', type=int, default=768)
  parser.add_argument('--prompt', type=int, default=64)
  parser.add_argument('--new-tokens', type=int, default=16)
  parser.add_argument('--slots', type=int, default=16)
  args = parser.parse_args()
  common.shrink(
    args, documents=3, words=60, questions=2, context=64, prompt=96,
    new_tokens=4, slots=2, read=1,
  )  # fmt: skip
  where = common.environment()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    asked = make_library(folder, args)
    options = vars(args) | {'asked': asked, 'library': folder / 'library'}
    many = options | {'connections': args.slots}
    measured = paired.measure(
      [
        paired.Side(ENDPOINT, endpoint, many),
        paired.Side(SINGLE, endpoint, many | {'connections': 1}),
        paired.Side(ENGINE, engine, options),
      ],
      args.repeats,
    )
  rows = paired.side_rows(measured, 'answers', len(asked))
  for row in rows:
    row['answers a minute'] = 60 * row.pop('answers/s')
  common.report(
    args,
    where,
    {
      'Serving over HTTP': rows,
      'endpoint against the others, by round': paired.pair_rows(
        measured, [(ENDPOINT, SINGLE), (ENDPOINT, ENGINE)]
      ),
    },
    (
      f'{len(asked)} questions about {args.documents} reports of '
      f'{args.words} words, the summaries of up to {args.read} read for each, '
      f'answers of up to {args.new_tokens} tokens, greedy; {args.slots} '
      'slots. Contexts are kept from the first round on. The difference is of '
      'answers.',
    ),
  )


if __name__ == '__main__':
  main()
