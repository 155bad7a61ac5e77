"""The offline stage over a corpus of documents."""

import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny
from tiny import model as tiny_model
from tiny import relative_error

from lloco_jax.compression import corpus, lockstep, segments
from lloco_jax.compression.corpus import (
  CompressionConfig,
  StoredSummaries,
  compress_documents,
  compressor_fingerprint,
)
from lloco_jax.compression.schedule import KeepProgram, programs
from lloco_jax.compression.segments import compress_ids, split_length
from lloco_jax.compression.store import Store
from lloco_jax.data.documents import Document

# Windows that hold a segment of the paper's.
CONFIG = dataclasses.replace(tiny.CONFIG, max_position_embeddings=2048)
LAST_ONLY = dataclasses.replace(CONFIG, accumulate_summary=False)
NETWORKS = pytest.mark.parametrize('network', [CONFIG, LAST_ONLY])
SETTINGS = CompressionConfig(segment_length=160, rows=3)


class Letters:
  """A token a letter or digit."""

  fingerprint = 'letters'

  def __init__(self):
    self.encoded = []

  def encode(self, text, block_characters=None):
    self.encoded.append(text)
    return [ord(character) % 59 for character in text if character.isalnum()]


def make_model(network=CONFIG, **changes):
  return dataclasses.replace(
    tiny_model(network), tokenizer=Letters(), **changes
  )


def text_of(length, seed=0):
  letters = 'abcdefghijklmnopqrstuvwxyz0123456789'
  return ''.join(random.Random(seed).choices(letters, k=length))


def documents_of(lengths):
  return [
    Document(f'd{index}', text_of(length, index))
    for index, length in enumerate(lengths)
  ]


def alone(model, text, config=SETTINGS):
  """Vectors of a text by the plain function."""
  ids = np.asarray(model.tokenizer.encode(text), np.int32)[None]
  lengths = split_length(ids.shape[1], config.segment_length)
  return compress_ids(model.params, model.config, ids, lengths)[0]


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.glob('*.safetensors')}


@NETWORKS
def test_every_document_has_the_vectors_of_its_text(tmp_path, network):
  model, store = make_model(network), Store(tmp_path)
  documents = documents_of([20, 180, 160, 820])
  stored = compress_documents(model, documents, store, SETTINGS)
  assert list(stored) == [document.id for document in documents]
  for document in documents:
    entry = stored[document.id]
    vectors = store.load(entry.key, compressor_fingerprint(model))
    assert entry.tokens == len(document.text) and entry.cut_tokens == 0
    assert entry.vectors == len(vectors)
    assert relative_error(vectors, alone(model, document.text)) < 1e-4


@NETWORKS
def test_bits_do_not_depend_on_batch_mates_or_rows(tmp_path, network):
  model = make_model(network)
  documents = documents_of([500, 161, 320, 899, 450, 330, 340])
  compress_documents(model, documents, Store(tmp_path / 'all'), SETTINGS)
  backwards = Store(tmp_path / 'backwards')
  compress_documents(model, documents[::-1], backwards, SETTINGS)
  for document in documents:
    compress_documents(model, [document], Store(tmp_path / 'one'), SETTINGS)
  assert len(contents(tmp_path / 'all')) == len(documents)
  assert contents(tmp_path / 'all') == contents(tmp_path / 'one')
  assert contents(tmp_path / 'all') == contents(tmp_path / 'backwards')
  # Nor on how much of one of them is known already.
  grown = Store(tmp_path / 'grown')
  shorter = Document('d3', documents[3].text[:480])
  compress_documents(model, [shorter], grown, SETTINGS)
  compress_documents(model, documents, grown, SETTINGS)
  assert len(contents(tmp_path / 'grown')) == len(documents) + 1
  assert (
    contents(tmp_path / 'all').items() <= contents(tmp_path / 'grown').items()
  )


def test_what_another_program_makes_meanwhile_is_left_to_it(
  tmp_path, monkeypatch, capsys
):
  model, batches = make_model(), []
  documents = documents_of([200, 180, 170, 100, 90, 80])
  compress_batch = corpus.compress_batch

  def watched(*args):
    batches.append(args)
    if len(batches) == 1:
      other = Store(tmp_path / 'store')
      compress_documents(model, documents[3:], other, SETTINGS, False)
    return compress_batch(*args)

  monkeypatch.setattr(corpus, 'compress_batch', watched)
  compress_documents(model, documents, Store(tmp_path / 'store'), SETTINGS)
  assert len(batches) == 2
  assert '6 of 6 documents compressed' in capsys.readouterr().out
  compress_documents(model, documents, Store(tmp_path / 'alone'), SETTINGS)
  assert contents(tmp_path / 'store') == contents(tmp_path / 'alone')


@pytest.mark.parametrize('network', [CONFIG, LAST_ONLY])
def test_grown_document_reads_only_what_is_new(tmp_path, network, monkeypatch):
  model = make_model(network)
  text = text_of(1000)
  read = []
  compress_batch = corpus.compress_batch

  def counted(*args):
    for tokens, done in compress_batch(*args):
      read.append(tokens)
      yield tokens, done

  monkeypatch.setattr(corpus, 'compress_batch', counted)

  def run(folder, *lengths):
    read.clear()
    for length in lengths:
      compress_documents(
        model, [Document('grows', text[:length])], Store(folder), SETTINGS
      )
    return sum(read)

  assert run(tmp_path / 'at once', 1000) == 1000
  in_steps = run(tmp_path / 'in steps', 320, 700, 1000)
  if network.accumulate_summary:
    # 320 | 380 behind 320 | 360 behind 640
    assert in_steps == 320 + 380 + 360
  else:
    # 640 tokens in, the last vectors of 700 are those of a short segment.
    assert in_steps == 320 + 380 + 680
  whole, steps = contents(tmp_path / 'at once'), contents(tmp_path / 'in steps')
  assert whole.items() <= steps.items()
  # And a shortened one has nothing left to read where its end is known.
  shortened = run(tmp_path / 'at once', 480)
  assert shortened == (0 if network.accumulate_summary else 480)
  run(tmp_path / 'other', 480)
  assert (
    contents(tmp_path / 'other').items()
    <= contents(tmp_path / 'at once').items()
  )


def test_a_text_is_compressed_once(tmp_path, capsys):
  model, store = make_model(), Store(tmp_path)
  twins = [Document(name, text_of(200)) for name in ('a', 'b')]
  other = Document('c', text_of(100, 1))
  stored = compress_documents(model, [*twins, other], store, SETTINGS)
  assert stored['a'] == stored['b'] != stored['c']
  assert len(model.tokenizer.encoded) == len(contents(tmp_path)) == 2
  said = capsys.readouterr().out
  assert "2 of 3 documents, 300 tokens (1 with another one's text)" in said
  before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
  again = compress_documents(model, [*twins, other], Store(tmp_path), SETTINGS)
  assert again == stored
  assert len(model.tokenizer.encoded) == 2
  assert before == {path: path.stat().st_mtime_ns for path in before}
  assert '3 of 3 documents are in the store' in capsys.readouterr().out


def test_the_store_is_listed_a_few_times_and_not_for_every_document(
  tmp_path, monkeypatch
):
  listed = []

  def keys(store):
    listed.append(store)
    return real(store)

  real = Store.keys
  monkeypatch.setattr(Store, 'keys', keys)
  documents = documents_of([200, 300, 200, 300, 210, 310])
  compress_documents(make_model(), documents, Store(tmp_path), SETTINGS)
  assert len(contents(tmp_path)) == 6 and len(listed) < 6


def test_a_damaged_file_is_made_again(tmp_path, capsys):
  model = make_model()
  documents = documents_of([200, 300])
  compress_documents(model, documents, Store(tmp_path), SETTINGS)
  whole = contents(tmp_path)
  path = tmp_path / sorted(whole)[0]
  path.write_bytes(path.read_bytes()[:-3])
  compress_documents(model, documents, Store(tmp_path), SETTINGS, False)
  assert contents(tmp_path) == whole
  said = capsys.readouterr().out
  assert said.count(f'{path} is truncated; it is made again.') == 1


def test_token_cap_is_said_each_time(tmp_path, capsys):
  model = make_model()
  config = dataclasses.replace(SETTINGS, token_cap=200)
  documents = documents_of([200, 201, 450])
  for _ in range(2):
    stored = compress_documents(
      model, documents, Store(tmp_path), config, progress=False
    )
    said = capsys.readouterr().out.splitlines()
    assert said == [
      "Document 'd1' has 201 tokens; the last 1 are cut off (token_cap = 200).",
      "Document 'd2' has 450 tokens; the last 250 are cut off "
      '(token_cap = 200).',
      'Cut off in all: 251 of 851 tokens, from 2 of 3 documents.',
    ]
  assert [entry.tokens for entry in stored.values()] == [200] * 3
  assert [entry.cut_tokens for entry in stored.values()] == [0, 1, 250]
  summaries = StoredSummaries(Store(tmp_path), stored)
  assert summaries.what_is_cut(['d0', 'd2']) == (
    'Cut off in all: 250 of 650 tokens, from 1 of 2 documents.'
  )
  assert summaries.what_is_cut(['d0']) == ''
  vectors = Store(tmp_path).load(stored['d2'].key)
  expected = alone(model, documents[2].text[:200])
  assert relative_error(vectors, expected) < 1e-4


def test_programs_are_fixed_by_the_buckets(tmp_path):
  lengths = random.Random(0).choices(range(1, 1601), k=50)
  segments.compress_in_place.clear_cache()
  lockstep._keep.clear_cache()
  compress_documents(
    make_model(), documents_of(lengths), Store(tmp_path), SETTINGS
  )
  bound = programs(CONFIG, SETTINGS, longest=1600)
  keep = {program for program in bound if isinstance(program, KeepProgram)}
  assert len(bound - keep) == 15
  assert segments.compress_in_place._cache_size() <= 15
  assert lockstep._keep._cache_size() == len(keep) == 4


def test_progress_says_how_much_and_how_long(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(corpus, '_SECONDS_BETWEEN_LINES', 0.0)
  compress_documents(
    make_model(), documents_of([500, 200, 90, 40]), Store(tmp_path), SETTINGS
  )
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == 'Tokenising 4 documents.'
  assert lines[1].startswith('Compressing 4 of 4 documents, 830 tokens. ')
  assert lines[2].startswith('1 of 4 documents compressed, ')
  assert any(', 1 under way, ' in line for line in lines[2:-1])
  assert lines[2].endswith(' left') and ' tokens/s, ' in lines[2]
  assert lines[-1].startswith('4 of 4 documents compressed, ')
  assert lines[-1].endswith(' in all')
  assert len(lines) == 2 + 4 + 1


def test_what_cannot_be_compressed_is_refused_before_work(tmp_path):
  store = Store(tmp_path)
  empty = Document('blank', '...')
  good = Document('good', 'text')
  with pytest.raises(ValueError, match="'blank' has no tokens"):
    compress_documents(make_model(), [good, empty], store)
  with pytest.raises(ValueError, match="Two documents have the id 'good'"):
    compress_documents(make_model(), [good, good], store)
  with pytest.raises(ValueError, match='no tokenizer'):
    compress_documents(tiny_model(CONFIG), [good], store)
  plain = dataclasses.replace(CONFIG, summary_length=0)
  with pytest.raises(ValueError, match='no summary tokens'):
    compress_documents(make_model(plain), [good], store)
  large = make_model()
  large.tokenizer.encode = lambda text, _: [CONFIG.vocab_size]
  with pytest.raises(ValueError, match='token id 61, outside'):
    compress_documents(large, [good], store)
  assert not contents(tmp_path)


def test_summaries_that_are_not_finite_are_not_stored(tmp_path):
  model, store = make_model(), Store(tmp_path)
  table = model.params['embed_summary']['embedding']
  params = model.params | {'embed_summary': {'embedding': table * np.inf}}
  broken = dataclasses.replace(model, params=params)
  before = contents(tmp_path)
  with pytest.raises(ValueError, match="document 'a' hold .* not finite in fl"):
    compress_documents(broken, [Document('a', 'text')], store, SETTINGS)
  assert contents(tmp_path) == before


def test_compressor_is_checkpoint_and_config(tmp_path):
  model, store = make_model(), Store(tmp_path)
  scaled = dataclasses.replace(CONFIG, summary_sharpness=0.5)
  others = [
    make_model(fingerprint='1'),
    dataclasses.replace(make_model(), config=scaled),
  ]
  document = Document('a', 'text')
  key = compress_documents(model, [document], store, SETTINGS)['a'].key
  for other in others:
    with pytest.raises(ValueError, match='another compressor'):
      store.load(key, compressor_fingerprint(other))
    assert (
      key != compress_documents(other, [document], store, SETTINGS)['a'].key
    )


KILLED_AT = 4


def compress_some(folder, kill):
  """Compresses a corpus; a kill comes while its fourth file is written."""
  store = Store(folder)
  if kill:
    replace, calls = os.replace, []

    def killing(*args):
      calls.append(args)
      if len(calls) == KILLED_AT:
        os.kill(os.getpid(), signal.SIGKILL)
      replace(*args)

    os.replace = killing
  documents = documents_of([500, 161, 320, 899, 450, 330, 340, 20])
  grown = Document('grown', documents[4].text + text_of(100))
  compress_documents(make_model(), [*documents, grown], store, SETTINGS)


def test_killed_run_goes_on_to_the_same_bytes(tmp_path):
  def run(kill):
    python_path = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
      [sys.executable, __file__, tmp_path / 'killed', kill],
      capture_output=True,
      text=True,
      env={**os.environ, 'PYTHONPATH': python_path},
    )

  assert run('kill').returncode == -signal.SIGKILL
  assert len(contents(tmp_path / 'killed')) == KILLED_AT - 1
  assert len(list((tmp_path / 'killed').glob('.*.part'))) == 1
  finished = run('')
  assert finished.returncode == 0, finished.stderr
  assert '3 in the store already' in finished.stdout
  compress_some(tmp_path / 'whole', kill=False)
  whole = contents(tmp_path / 'whole')
  assert len(whole) == 9
  assert contents(tmp_path / 'killed') == whole


if __name__ == '__main__':
  compress_some(pathlib.Path(sys.argv[1]), bool(sys.argv[2]))
