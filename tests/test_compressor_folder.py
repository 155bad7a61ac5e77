"""A compressor's folder: what is written, merged and refused."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import relative_error

import lloco_jax as lloco
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.weights import compressor, peft
from lloco_jax.weights.compressor import (
  FIELDS,
  SUMMARY_TOKENS,
  apply_compressor,
  compressor_folder,
  read_fields,
  save_compressor,
)
from lloco_jax.weights.huggingface import write_safetensors

BASE = dataclasses.replace(tiny.CONFIG, summary_length=0)
K = 4
WITH_SUMMARY = dataclasses.replace(
  BASE, summary_length=K, summary_sharpness=2.0, summary_interleaved=True
)
FILES = (FIELDS, SUMMARY_TOKENS, peft.CONFIG, peft.WEIGHTS)


def base(config: LlamaConfig = BASE):
  return dataclasses.replace(tiny.model(config), fingerprint='abc')


def trained(config: LlamaConfig = WITH_SUMMARY):
  return dataclasses.replace(base(), config=config)


def table(rows=K):
  return tiny.normal(7, rows, BASE.hidden_size)


def save(folder, seed=1, rows=K, **fields):
  save_compressor(folder, trained(), tiny.adapter(seed), table(rows), fields)
  return folder


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  folder = tmp_path_factory.mktemp('compressors') / 'one'
  return save(folder, segment_length=32)


@pytest.fixture
def copied(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'copied')


def test_segments_are_as_long_as_in_training_by_default(saved):
  merged = apply_compressor(base(), saved)
  ids = tiny.ids(0, 40)
  expected = lloco.compress(merged, ids, segment_length=32)
  np.testing.assert_array_equal(lloco.compress(merged, ids), expected)
  assert len(expected) == 2 * K
  # Of a checkpoint that is a compressor itself, the paper's.
  assert len(lloco.compress(tiny.model(WITH_SUMMARY), ids)) == K


def test_a_compressor_computes_what_base_and_adapter_do(saved):
  """Logits and summaries, also without the adapter in the parameters."""
  merged = apply_compressor(base(), saved)
  ids = tiny.ids(0, 11)
  # The folder keeps the adapter in half precision.
  adapter = jax.tree.map(
    lambda leaf: leaf.astype(np.float16).astype(np.float32), tiny.adapter(1)
  )
  expected = lloco.forward(base(), ids, adapter=adapter)
  assert relative_error(lloco.forward(merged, ids), expected) < 1e-4
  assert relative_error(lloco.forward(base(), ids), expected) > 1e-2
  apart = dataclasses.replace(
    trained(), params={**base().params, 'embed_summary': {'embedding': table()}}
  )
  expected = lloco.compress(apart, ids, segment_length=6, adapter=adapter)
  assert expected.shape == (2 * K, BASE.hidden_size)
  actual = lloco.compress(merged, ids, segment_length=6)
  assert relative_error(actual, expected) < 1e-4
  without = lloco.compress(apart, ids, segment_length=6)
  assert relative_error(without, expected) > 1e-2


def test_home_is_expanded(saved, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  shutil.copytree(saved, tmp_path / 'mine')
  expected = apply_compressor(base(), saved)
  found = apply_compressor(base(), '~/mine')
  jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
  monkeypatch.chdir(tmp_path)
  lloco.save_adapter('~/adapter', tiny.adapter(1), base())
  assert lloco.load_adapter(tmp_path / 'adapter', base()).rank == 2
  assert not (tmp_path / '~').exists()
  with pytest.raises(ValueError, match='path is empty'):
    lloco.save_adapter('', tiny.adapter(1), base())
  (tmp_path / 'file').touch()
  with pytest.raises(FileExistsError, match='is a file; an adapter is written'):
    lloco.save_adapter(tmp_path / 'file', tiny.adapter(1), base())


def test_the_base_stays_as_it_was(saved):
  before = jax.tree.map(np.asarray, base().params)
  merged = apply_compressor(base(), saved)
  assert 'embed_summary' not in base().params
  jax.tree.map(np.testing.assert_array_equal, before, base().params)
  assert merged.config == WITH_SUMMARY
  assert base().config.summary_length == 0


def test_every_summary_field_is_kept(tmp_path):
  config = dataclasses.replace(WITH_SUMMARY, accumulate_summary=False)
  save_compressor(tmp_path, trained(config), tiny.adapter(1), table(), {})
  assert apply_compressor(base(), tmp_path).config == config


def test_a_compressor_takes_the_dtype_of_its_base(saved):
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), base().params)
  merged = apply_compressor(dataclasses.replace(base(), params=low), saved)
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(merged.params)}
  assert dtypes == {jnp.dtype(jnp.bfloat16)}


def test_what_is_said_about_it_is_kept(saved):
  fields = read_fields(saved)
  assert fields['base'] == 'tiny' and fields['base_fingerprint'] == 'abc'
  assert fields['segment_length'] == 32 and fields['summary_length'] == K
  assert {path.name for path in saved.iterdir()} == set(FILES)


def test_fingerprints_are_of_content_and_base(saved, copied, tmp_path):
  first = apply_compressor(base(), saved).fingerprint
  assert apply_compressor(base(), copied).fingerprint == first
  found = {base().fingerprint, first}
  others = [
    save(tmp_path / 'adapter', seed=2, segment_length=32),
    save(tmp_path / 'fields', segment_length=64),
  ]
  found |= {apply_compressor(base(), path).fingerprint for path in others}
  write_safetensors(
    copied / SUMMARY_TOKENS, {'embed_summary.weight': 1 + np.asarray(table())}
  )
  found.add(apply_compressor(base(), copied).fingerprint)
  other_base = dataclasses.replace(base(), fingerprint='def')
  save_compressor(
    tmp_path / 'base',
    dataclasses.replace(trained(), fingerprint='def'),
    tiny.adapter(1),
    table(),
    {'segment_length': 32},
  )
  found.add(apply_compressor(other_base, tmp_path / 'base').fingerprint)
  assert len(found) == 6


@pytest.mark.parametrize('name', FILES)
def test_a_missing_file_is_named(copied, name):
  (copied / name).unlink()
  with pytest.raises(FileNotFoundError, match=f'{name} is missing'):
    apply_compressor(base(), copied)


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere.* is missing'):
    apply_compressor(base(), tmp_path / 'nowhere')


@pytest.mark.parametrize('text', ['{', '[]', '{"base": "tiny"}', '3'])
def test_damaged_fields_are_named(copied, text):
  (copied / FIELDS).write_text(text)
  with pytest.raises(ValueError, match=f'{FIELDS} is damaged'):
    apply_compressor(base(), copied)


def test_bytes_that_are_not_text_are_named(copied):
  (copied / FIELDS).write_bytes(b'\xff\xfe{')
  with pytest.raises(ValueError, match=f'{FIELDS} is damaged'):
    apply_compressor(base(), copied)


@pytest.mark.parametrize('name', [SUMMARY_TOKENS, peft.WEIGHTS])
def test_truncated_tensors_are_named(copied, name):
  data = (copied / name).read_bytes()
  (copied / name).write_bytes(data[: len(data) // 2])
  with pytest.raises(ValueError, match=f'{name} is truncated'):
    apply_compressor(base(), copied)


def test_another_base_is_refused(saved):
  other = dataclasses.replace(base(), fingerprint='def', name='other')
  with pytest.raises(ValueError, match="on 'tiny' .* those of other; load"):
    apply_compressor(other, saved)


@pytest.mark.parametrize('shape', [(K + 1, 16), (K, 15), (K * 16,)])
def test_summary_tokens_of_another_shape_are_refused(copied, shape):
  tensors = {'embed_summary.weight': np.zeros(shape, np.float32)}
  write_safetensors(copied / SUMMARY_TOKENS, tensors)
  with pytest.raises(ValueError, match=r'not the \[4, 16\] that'):
    apply_compressor(base(), copied)


def test_summary_tokens_of_another_name_are_refused(copied):
  tensors = {'weight': np.zeros((K, BASE.hidden_size), np.float32)}
  write_safetensors(copied / SUMMARY_TOKENS, tensors)
  with pytest.raises(ValueError, match='does not hold embed_summary.weight'):
    apply_compressor(base(), copied)


def test_an_adapter_of_another_shape_is_refused(copied):
  wide = dataclasses.replace(BASE, hidden_size=18)
  peft.save_adapter(copied, tiny.adapter(1, config=wide), 'tiny')
  with pytest.raises(ValueError, match='another base'):
    apply_compressor(base(), copied)


def test_shipped_compressors_are_known_by_their_base():
  with pytest.raises(ValueError, match="shipped for 'tiny', only for smoll"):
    compressor_folder('shipped', 'tiny')
  with pytest.raises(ValueError, match="use 'shipped' or 'shipped:texts'"):
    compressor_folder('shipped:songs', 'smollm2-135m')
  assert compressor_folder('runs/shipped', 'tiny') == pathlib.Path(
    'runs/shipped'
  )
  found = set()
  for base_name, folders in compressor.SHIPPED.items():
    for word in folders:
      folder = compressor_folder(f'shipped:{word}', base_name)
      found.add(folder)
      fields = read_fields(folder)
      assert fields['base'] == base_name
      # As the code of today writes it, and of a size that a package can carry.
      assert {'summary_sharpness', 'segment_length'} <= set(fields)
      assert sum(path.stat().st_size for path in folder.iterdir()) < 16_000_000
  assert found == set(compressor_folder('shipped', base_name).parent.iterdir())


def test_unknown_summary_fields_are_refused(copied):
  fields = read_fields(copied) | {'summary_scale': 0.1}
  (copied / FIELDS).write_text(json.dumps(fields))
  with pytest.raises(ValueError, match='unknown field summary_scale'):
    apply_compressor(base(), copied)
