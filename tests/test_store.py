"""The summary store: what it keeps, and what it makes of damage."""

import dataclasses
import json
import os
import pathlib
import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from lloco_jax.compression.store import Record, Settings, Store
from lloco_jax.files import replacing

SETTINGS = Settings(
  compressor='c' * 64,
  tokenizer='t',
  segment_length=4,
  summary_length=2,
  accumulate=True,
  dtype='float32',
  block_characters=None,
  token_cap=100,
)
LAST_ONLY = dataclasses.replace(SETTINGS, accumulate=False)
OTHER = {
  'compressor': 'd' * 64,
  'tokenizer': 'u',
  'segment_length': 5,
  'summary_length': 3,
  'accumulate': False,
  'dtype': 'bfloat16',
  'block_characters': 10_000,
  'token_cap': 99,
}


def record_of(ids, settings=SETTINGS, name='a'):
  full, rest = divmod(len(ids), settings.segment_length)
  return Record(
    key=settings.key(f'{name} {list(ids)}'),
    document=name,
    settings=settings,
    tokens=len(ids),
    cut_tokens=0,
    segment_lengths=(settings.segment_length,) * full + (rest,) * bool(rest),
    chain=tuple(settings.chain(np.asarray(ids))),
  )


def vectors_of(record, seed=0, dtype=np.float32):
  settings = record.settings
  segments = len(record.segment_lengths) if settings.accumulate else 1
  shape = (segments * settings.summary_length, 3)
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize(
  'dtype', [np.float32, np.float16, np.float64, ml_dtypes.bfloat16]
)
def test_what_is_saved_is_loaded(tmp_path, dtype):
  record = record_of(range(10))
  vectors = vectors_of(record, dtype=dtype)
  Store(tmp_path).save(record, vectors)
  store = Store(tmp_path)
  assert store.find(record.key) == record
  loaded = store.load(record.key, compressor='c' * 64)
  assert loaded.dtype == dtype
  np.testing.assert_array_equal(loaded, vectors)
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {'store.json', f'{record.key}.safetensors'}


def test_files_are_the_same_bytes_and_open_as_safetensors(tmp_path):
  record = record_of(range(10))
  for name in 'ab':
    Store(tmp_path / name).save(record, vectors_of(record))
  paths = [tmp_path / name / f'{record.key}.safetensors' for name in 'ab']
  assert paths[0].read_bytes() == paths[1].read_bytes()
  np.testing.assert_array_equal(
    safetensors.numpy.load_file(paths[0])['summaries'], vectors_of(record)
  )


@pytest.mark.parametrize('name', OTHER)
def test_key_depends_on_every_setting_and_the_text(name):
  other = dataclasses.replace(SETTINGS, **{name: OTHER[name]})
  assert other.key('text') != SETTINGS.key('text')
  assert SETTINGS.key('text') != SETTINGS.key('text ')


@pytest.mark.parametrize('name', OTHER)
def test_chain_depends_on_what_the_vectors_of_token_ids_depend_on(name):
  other = dataclasses.replace(SETTINGS, **{name: OTHER[name]})
  ids = np.arange(20)
  same = name in ('tokenizer', 'block_characters', 'token_cap')
  assert (other.chain(ids)[0] == SETTINGS.chain(ids)[0]) == same


def test_chain_has_a_hash_per_full_segment_of_all_before_it():
  chain = SETTINGS.chain(np.arange(11))
  assert len(chain) == len(set(chain)) == 2
  assert SETTINGS.chain(np.arange(8, dtype=np.int64)) == chain
  changed = np.arange(11)
  changed[0] = 7
  assert not set(SETTINGS.chain(changed)) & set(chain)
  # The same segment behind another one is another state.
  twice = SETTINGS.chain(np.asarray([0, 1, 2, 3] * 2))
  assert twice[0] == chain[0] and twice[1] != chain[1]


def damage(path, kind):
  content = path.read_bytes()
  if kind == 'empty':
    path.write_bytes(b'')
  elif kind == 'header cut':
    path.write_bytes(content[:40])
  elif kind == 'vectors cut':
    path.write_bytes(content[:-1])
  elif kind == 'too long':
    path.write_bytes(content + b'\0')
  elif kind == 'bit flipped':
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  elif kind == 'header changed':
    path.write_bytes(content.replace(b'tokens\\":10', b'tokens\\":11'))
    assert path.read_bytes() != content
  elif kind == 'other safetensors':
    safetensors.numpy.save_file({'summaries': np.zeros((6, 3))}, path)
  elif kind == 'noise':
    path.write_bytes(np.random.default_rng(0).bytes(500))


KINDS = ['empty', 'header cut', 'vectors cut', 'too long', 'bit flipped']
KINDS += ['header changed', 'other safetensors', 'noise']


@pytest.mark.parametrize('kind', KINDS)
def test_damaged_file_is_absent_and_said_once(tmp_path, capsys, kind):
  record = record_of(range(10))
  Store(tmp_path).save(record, vectors_of(record))
  damage(tmp_path / f'{record.key}.safetensors', kind)
  store = Store(tmp_path)
  store.index_new_files()
  assert store.longest_prefix(SETTINGS, record.chain) == (0, None)
  assert store.find(record.key) is None
  assert store.find(record.key) is None
  said = capsys.readouterr().out
  assert said.count('\n') == 1 and record.key in said
  with pytest.raises(ValueError, match='compress the documents again'):
    store.load(record.key)
  store.save(record, vectors_of(record))
  assert store.find(record.key) == record


def test_file_under_another_name_is_not_taken(tmp_path, capsys):
  store = Store(tmp_path)
  record = record_of(range(10))
  store.save(record, vectors_of(record))
  path = tmp_path / f'{record.key}.safetensors'
  other = record_of(range(9))
  path.rename(tmp_path / f'{other.key}.safetensors')
  assert store.find(other.key) is None
  assert 'another text' in capsys.readouterr().out
  assert store.find(record.key) is None
  assert capsys.readouterr().out == ''
  with pytest.raises(FileNotFoundError, match='compress the documents first'):
    store.load(record.key)


def test_summaries_of_another_compressor_are_refused(tmp_path):
  store = Store(tmp_path)
  record = record_of(range(10), name='report')
  store.save(record, vectors_of(record))
  with pytest.raises(ValueError, match="'report'.*another compressor"):
    store.load(record.key, compressor='d' * 64)


def test_longest_shared_prefix(tmp_path):
  store = Store(tmp_path)
  short, long = record_of(range(10)), record_of(range(15), name='b')
  vectors = vectors_of(long, seed=1)
  store.save(long, vectors)
  assert store.longest_prefix(SETTINGS, ()) == (0, None)

  def shared(ids):
    return store.longest_prefix(SETTINGS, SETTINGS.chain(np.asarray(ids)))

  segments, found = shared(range(10))
  assert segments == 2
  np.testing.assert_array_equal(found, vectors[:4])
  segments, found = shared([*range(6), 99, 98, 97])
  assert segments == 1
  np.testing.assert_array_equal(found, vectors[:2])
  assert shared([1, *range(1, 15)]) == (0, None)
  assert shared(range(3)) == (0, None)
  # Another program adds a file; this one sees it.
  other = record_of(range(21), name='c')
  Store(tmp_path).save(other, vectors_of(other))
  store.index_new_files()
  assert shared(range(40))[0] == 5
  # What is damaged meanwhile gives way to what is whole.
  Store(tmp_path).save(short, vectors_of(short))
  damage(tmp_path / f'{other.key}.safetensors', 'vectors cut')
  assert shared(range(40))[0] == 3
  store = Store(tmp_path)
  store.index_new_files()
  assert store.longest_prefix(SETTINGS, other.chain)[0] == 3


def test_last_vectors_continue_only_documents_that_end_full(tmp_path):
  store = Store(tmp_path)
  ragged, full = record_of(range(10), LAST_ONLY), record_of(range(8), LAST_ONLY)
  chain = LAST_ONLY.chain(np.arange(20))
  store.save(ragged, vectors_of(ragged))
  assert store.longest_prefix(LAST_ONLY, chain) == (0, None)
  store.save(full, vectors_of(full, seed=1))
  segments, found = store.longest_prefix(LAST_ONLY, chain)
  assert segments == 2
  np.testing.assert_array_equal(found, vectors_of(full, seed=1))


def test_what_a_kill_left_unfinished_goes_when_it_is_old(tmp_path):
  store, record = Store(tmp_path), record_of(range(10))
  path = store.path(record.key)
  with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
    temporary.write_bytes(b'half')
    # Under the name that a kill at this place would leave.
    left = shutil.copy(temporary, f'{temporary}'.replace('.part', '0.part'))
    raise KeyboardInterrupt
  left = pathlib.Path(left)
  assert store.find(record.key) is None
  assert Store(tmp_path).find(record.key) is None
  assert left.exists(), 'It may be a live writer.'
  os.utime(left, (0, 0))
  Store(tmp_path)
  assert not left.exists()


def test_folders_that_are_no_store_of_this_format(tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  with pytest.raises(ValueError, match='no summary store'):
    Store(tmp_path)
  (tmp_path / 'store.json').write_text(json.dumps({'format': 2}))
  with pytest.raises(ValueError, match='format 2'):
    Store(tmp_path)
  (tmp_path / 'store.json').write_text('{')
  with pytest.raises(ValueError, match='damaged'):
    Store(tmp_path)
  file = tmp_path / 'file'
  file.write_text('')
  with pytest.raises(ValueError, match='is a file'):
    Store(file)


def test_a_place_that_cannot_be_written_is_told(tmp_path, monkeypatch):
  (tmp_path / 'file').touch()
  with pytest.raises(OSError, match="file/store' cannot be written .Not a dir"):
    Store(tmp_path / 'file/store')
  monkeypatch.setattr('os.fsync', lambda _: os.read(-1, 1))
  with pytest.raises(OSError, match="store' cannot be written .*allow it"):
    Store(tmp_path / 'store')
