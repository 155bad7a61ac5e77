"""A corpus of NarrativeQA's size before its compression: time and memory.

Made documents of NarrativeQA's lengths are written as SCROLLS has them, a copy
of the text in every row about it; then a process of its own loads them, makes
their token ids and hashes, and schedules their compression. No model is
needed.

    python benchmarks/corpus.py
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

# The repository in place of this folder; see compression.py.
sys.path.pop(0)
sys.path.insert(0, __file__.rpartition('benchmarks')[0])

import numpy as np

from benchmarks import common

MIB = 2**20
# Words of the 1,572 stories of google-deepmind/narrativeqa (documents.csv), by
# the share of stories that are shorter.
WORDS = {
  0.0: 3_322,
  0.01: 5_203,
  0.05: 14_138,
  0.1: 20_246,
  0.25: 26_875,
  0.5: 34_009,
  0.75: 72_255,
  0.9: 142_318,
  0.95: 204_194,
  0.99: 336_739,
  1.0: 430_061,
}
_WORDS_A_SENTENCE, _SENTENCES = 15, 4_000


def word_counts(documents: int, scale: float) -> np.ndarray:
  """Words of each document; the first is as long as the longest story."""
  shares = np.random.default_rng(0).random(documents)
  shares[0] = 1.0
  counts = np.interp(shares, list(WORDS), list(WORDS.values()))
  return (counts * scale).astype(int)


def write_corpus(path: pathlib.Path, documents: int, scale: float) -> None:
  """Writes a training file of SCROLLS, two references a document."""
  from lloco_jax.data.words import FIRST_NAMES, SECOND_NAMES

  random = np.random.default_rng(1)
  names = [*FIRST_NAMES, *SECOND_NAMES]
  sentences = [
    ' '.join(random.choice(names, _WORDS_A_SENTENCE)) + '.'
    for _ in range(_SENTENCES)
  ]
  with path.open('w') as file:
    for number, words in enumerate(word_counts(documents, scale)):
      count = max(1, words // _WORDS_A_SENTENCE)
      chosen = random.integers(_SENTENCES, size=count)
      text = '\n'.join(sentences[index] for index in chosen)
      for reference in range(2):
        row = {
          'id': f'q{number}',
          'pid': f'q{number}_{reference}',
          'input': f'Who is document {number} about?\n\n{text}',
          'output': f'answer {reference}',
        }
        file.write(json.dumps(row) + '\n')


def tokenizer_of(name: str):
  """A model's tokenizer; 'words' is a token for each of few words."""
  from lloco_jax.weights.checkpoint import load_tokenizer
  from lloco_jax.weights.tokenizer import Tokenizer

  if name != 'words':
    return load_tokenizer(name)
  import tokenizers

  backend = tokenizers.Tokenizer(
    tokenizers.models.WordLevel({'?': 0}, unk_token='?')
  )
  backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  return Tokenizer(backend)


def work(folder: str, tokenizer: str, segment: int) -> dict:
  """What the process of its own does; seconds of each part, and MiB."""
  from lloco_jax.compression.corpus import store_settings
  from lloco_jax.compression.inventory import take_inventory
  from lloco_jax.compression.schedule import CompressionConfig
  from lloco_jax.compression.store import Store
  from lloco_jax.data.scrolls import read_scrolls
  from lloco_jax.model import Model

  config = common.shape('llama2-7b', summary_length=50, vocab_size=50_000)
  params = {'none': np.zeros(1, np.float32)}
  model = Model(config, params, tokenizer_of(tokenizer), 'none', 'none')
  before = _peak()
  clock = time.monotonic()

  def lap():
    nonlocal clock
    last, clock = clock, time.monotonic()
    return clock - last

  dataset = read_scrolls(folder, 'narrative_qa', ('train',))
  seconds = {'load, s': lap()}
  settings = CompressionConfig(segment_length=segment)
  store = Store(pathlib.Path(folder) / 'store')
  inventory = take_inventory(
    model, dataset.documents, store, store_settings(model, settings), False
  )
  seconds['tokenise and hash, s'] = lap()
  batches = inventory.batches(settings)
  seconds['schedule, s'] = lap()
  return {
    'documents': len(dataset.documents),
    'tokens, millions': sum(map(inventory.unread, inventory.missing)) / 1e6,
    **seconds,
    'batches': len(batches),
    'before, MiB': before,
    'peak, MiB': _peak(),
  }


def _peak() -> float:
  """Most memory of this process so far, MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(documents: int, args) -> dict:
  """One row of the report."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'train.jsonl'
    write_corpus(path, documents, args.scale)
    size = path.stat().st_size / 1e6
    command = [sys.executable, __file__, '--work', folder]
    command += ['--tokenizer', args.tokenizer, '--segment', str(args.segment)]
    done = subprocess.run(
      command, check=True, capture_output=True, text=True, env=os.environ
    )
  found = json.loads(done.stdout.splitlines()[-1])
  return {'documents': found.pop('documents'), 'file, MB': size, **found}


def main():
  parser = common.flags(__doc__.splitlines()[0], repeats=1)
  parser.add_argument('--documents', type=int, nargs='+', default=[300, 1500])
  parser.add_argument(
    '--scale', type=float, default=1.0, help='of the lengths of documents'
  )
  parser.add_argument(
    '--tokenizer', default='smollm2-135m', help="of a model, or 'words'"
  )
  parser.add_argument('--segment', type=int, default=1536, help='tokens')
  parser.add_argument('--work', help='(a folder to read, for its own use)')
  args = parser.parse_args()
  if args.work:
    print(json.dumps(work(args.work, args.tokenizer, args.segment)))
    return
  common.shrink(args, documents=[3, 6], scale=0.01, tokenizer='words')
  where = common.environment()
  rows = [measure(count, args) for count in args.documents]
  common.report(
    args,
    where,
    {'A corpus before its compression': rows},
    (
      "Lengths are drawn from NarrativeQA's; its longest is in every corpus. "
      'The peak is of the whole process; before says what it had before the '
      'corpus.',
    ),
  )


if __name__ == '__main__':
  main()
