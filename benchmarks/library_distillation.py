"""Pairs alone, or also what the base says that reads the text: which teaches?

Stories of FairytaleQA's validation split, which a shipped compressor has not
seen, become a library; half of the questions about each are its pairs. An
adapter is finetuned on them with each weight of `config.distillation`, and the
other half is answered: F1, and nats a token of the right answers. Intervals
are over stories.

    python benchmarks/library_distillation.py --fairytaleqa FOLDER
"""

import dataclasses
import pathlib
import sys
import tempfile

# The repository in place of this folder; see compression.py.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common
from benchmarks.answers_kept import Item, nats
from configs import library as library_config
from lloco_jax.data.contexts import Context
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Dataset, Example
from lloco_jax.data.fairytaleqa import read_fairytaleqa
from lloco_jax.data.jsonl import example_line
from lloco_jax.data.prompts import PLAIN
from lloco_jax.evaluation.intervals import bootstrap_mean, paired_difference
from lloco_jax.evaluation.metrics import f1
from lloco_jax.generation.answering import answer_questions, answer_text
from lloco_jax.library.adding import add_folder
from lloco_jax.library.library import Library
from lloco_jax.library.making import Making
from lloco_jax.library.pairs import find_documents, pairs_file
from lloco_jax.library_job import finetune_library

GROUP = 'stories'


def made_stories() -> Dataset:
  """For --tiny."""
  names = ('ox', 'hen')
  return Dataset(
    {name: Document(name, f'The {name} is in the mill.') for name in names},
    {
      'validation': tuple(
        Example(f'{name} {number}', 'Where?', ('mill',), (name,))
        for name in names
        for number in range(4)
      )
    },
  )


def make_library(folder: pathlib.Path, dataset: Dataset, args):
  """The library, and the pairs to learn and those to be asked."""
  files = folder / 'files'
  files.mkdir(parents=True)
  names = dataset.document_ids('validation')[: args.stories]
  for name in names:
    (files / f'{name}.txt').write_text(dataset.documents[name].text, 'utf-8')
  making = None
  if args.tiny:
    common.write_tiny_model(folder / 'tiny')
    making = Making(model=str(folder / 'tiny'))
  library = Library.make(folder / 'library', making)
  add_folder(library, files, GROUP)
  halves = [], []
  for name in names:
    about = [
      dataclasses.replace(example, document_ids=(f'{name}.txt',))
      for example in dataset.splits['validation']
      if example.document_ids == (name,)
    ]
    for number, example in enumerate(about):
      halves[number % 2].append(example)
  path = pairs_file(library, GROUP)
  path.parent.mkdir(exist_ok=True)
  path.write_text(''.join(map(example_line, halves[0])), 'utf-8')
  return library, halves[1]


def scores(library: Library, asked, adapter) -> tuple[list, list]:
  """F1 and nats a token of each question, from its document's summaries."""
  model, entries = library.model, library.summaries(GROUP)
  found = find_documents(library, GROUP, asked)
  by_document = {}
  for place, pair in enumerate(found):
    by_document.setdefault(pair.document_ids[0], []).append(place)
  rates, losses = [0.0] * len(found), [0.0] * len(found)
  for name, places in by_document.items():
    vectors = entries[name]
    prompts = [
      tuple(model.tokenizer.encode(PLAIN.ask(found[place].question)))
      for place in places
    ]
    answers = answer_questions(
      model, Context(vectors), prompts, adapter, max_new_tokens=24
    )
    for place, prompt, tokens in zip(places, prompts, answers.tokens):
      pair = found[place]
      rates[place] = f1(answer_text(model.tokenizer, tokens), pair.answers)
      reply = model.tokenizer.encode(PLAIN.reply(pair.answers[0]))
      item = Item('', np.empty(0), prompt, tuple(reply))
      losses[place] = nats(model, item, vectors, adapter=adapter)
  return rates, losses


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=None)
  parser.add_argument('--fairytaleqa', help='a clone of it')
  parser.add_argument('--stories', type=int, default=6)
  parser.add_argument('--weights', type=float, nargs='+', default=[0, 0.5, 1])
  args = parser.parse_args()
  common.shrink(args, stories=2)
  if not (args.fairytaleqa or args.tiny):
    parser.error('name the folder of FairytaleQA with --fairytaleqa.')
  where = common.environment()
  dataset = made_stories() if args.tiny else read_fairytaleqa(args.fairytaleqa)
  with tempfile.TemporaryDirectory() as place:
    library, asked = make_library(pathlib.Path(place), dataset, args)
    clusters = [pair.document_ids[0] for pair in asked]
    measured = {'no adapter': scores(library, asked, None)}
    for weight in args.weights:
      config = library_config.get_config()
      config.library.path = str(library.folder)
      config.distillation = float(weight)
      config.training.tensorboard = False
      finetune_library(config)
      adapter, _ = library.adapter(GROUP)
      measured[f'{weight:g}'] = scores(library, asked, adapter)
  rows = []
  first = measured[f'{args.weights[0]:g}']
  for name, (rates, losses) in measured.items():
    rate = bootstrap_mean(rates, clusters)
    gap = paired_difference(rates, first[0], clusters)
    lower = paired_difference(losses, first[1], clusters)
    rows.append(
      {
        'distillation': name,
        'F1': rate.mean,
        'low': rate.low,
        'high': rate.high,
        'F1 less first': gap.mean,
        'low ': gap.low,
        'high ': gap.high,
        'nats': float(np.mean(losses)),
        'nats less first': lower.mean,
        ' low': lower.low,
        ' high': lower.high,
      }
    )
  common.report(
    args,
    where,
    {f'{len(asked)} questions about {args.stories} stories': rows},
    ("'less first': than with the first of the weights.",),
  )


if __name__ == '__main__':
  main()
