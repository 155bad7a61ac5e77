"""What is known of a corpus before its compression, and what it takes."""

import json
import subprocess
import sys

from conftest import ROOT
import numpy as np
import pytest
from test_corpus import make_model, text_of
import tiny

from lloco_jax.compression.corpus import (
  CompressionConfig,
  StoredSummaries,
  compress_documents,
  store_settings,
)
from lloco_jax.compression.inventory import take_inventory
from lloco_jax.compression.store import Store
from lloco_jax.data.documents import Document, DocumentFile

SETTINGS = CompressionConfig(segment_length=8, rows=2, token_cap=30)


class Watched(dict):
  """Documents by id that remembers which were read."""

  def __init__(self, documents):
    super().__init__((each.id, each) for each in documents)
    self.read = []

  def __getitem__(self, id):
    self.read.append(id)
    return super().__getitem__(id)

  def values(self):
    raise AssertionError('All documents were asked for at once.')

  items = values


def documents_of(*lengths):
  return Watched(
    Document(f'd{index}', text_of(length, index))
    for index, length in enumerate(lengths)
  )


def inventory_of(documents, store):
  model = make_model()
  settings = store_settings(model, SETTINGS)
  return take_inventory(model, documents, store, settings, progress=False)


def test_lengths_ids_and_hashes_are_those_of_the_texts(tmp_path):
  documents = documents_of(5, 40, 16)
  inventory = inventory_of(documents, Store(tmp_path))
  assert list(inventory.keys) == ['d0', 'd1', 'd2']
  for name, document in dict.items(documents):
    key = inventory.keys[name]
    ids = make_model().tokenizer.encode(document.text)
    np.testing.assert_array_equal(inventory.ids(key), ids[:30])
    entry, record = inventory.stored[key], inventory.record(key)
    assert entry.tokens == record.tokens == min(len(ids), 30)
    assert entry.cut_tokens == record.cut_tokens == max(0, len(ids) - 30)
    assert record.document == name
    assert len(record.chain) == entry.tokens // 8
    assert entry.vectors == -(-entry.tokens // 8) * 3
  assert [
    [inventory.record(key).document for key in batch]
    for batch in inventory.batches(SETTINGS)
  ] == [['d1', 'd2'], ['d0']]


def test_a_text_is_read_once_for_its_key_and_once_for_its_tokens(tmp_path):
  documents = documents_of(20, 10)
  compress_documents(make_model(), documents, Store(tmp_path), SETTINGS, False)
  assert documents.read == ['d0', 'd1', 'd0', 'd1']
  documents.read.clear()
  compress_documents(make_model(), documents, Store(tmp_path), SETTINGS, False)
  assert documents.read == ['d0', 'd1']


def test_what_the_store_knows_is_not_to_be_read_again(tmp_path):
  store = Store(tmp_path)
  short = Document('short', text_of(16))
  compress_documents(make_model(), [short], store, SETTINGS, False)
  longer = Document('longer', text_of(16) + text_of(5, 1))
  documents = {each.id: each for each in (short, longer)}
  inventory = inventory_of(documents, store)
  (key,) = inventory.missing
  assert inventory.missing[key].document == 'longer'
  assert inventory.missing[key].known == 2 and inventory.unread(key) == 5


def test_summaries_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
  store, loaded = Store(tmp_path), []
  documents = documents_of(20, 10)
  stored = compress_documents(make_model(), documents, store, SETTINGS, False)
  load = store.load
  monkeypatch.setattr(
    store, 'load', lambda key: loaded.append(key) or load(key)
  )
  summaries = StoredSummaries(store, stored)
  assert list(summaries) == ['d0', 'd1'] and 'd0' in summaries
  assert 'd2' not in summaries and len(summaries) == 2 and not loaded
  assert summaries['d1'].shape == (2 * 3, tiny.CONFIG.hidden_size)
  assert loaded == [stored['d1'].key]


def test_a_corpus_lies_on_the_disk():
  texts = DocumentFile()
  for number in range(40):
    texts.add(Document(str(number), chr(97 + number % 26) * 2**20))
  assert texts._texts._file._rolled
  assert texts['39'].text == chr(97 + 13) * 2**20


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path):
  output = tmp_path / 'result.json'
  command = [sys.executable, 'benchmarks/corpus.py', '--tokenizer', 'words']
  command += ['--documents', '100', '600', '--output', str(output)]
  subprocess.run(command, cwd=ROOT, check=True)
  (rows,) = json.loads(output.read_text())['tables'].values()
  few, many = rows
  assert (few['documents'], many['documents']) == (100, 600)
  # The texts added are half of what the file has more, their token ids a
  # quarter. The peak wanders by tens of MiB with the longest two texts.
  more = many['file, MB'] - few['file, MB']
  assert more > 400
  assert many['peak, MiB'] - few['peak, MiB'] < 0.15 * more
