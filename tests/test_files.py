"""Files that are whole or not there."""

import os

import pytest

from lloco_jax.files import named_path, replacing, write_file


def test_text_is_utf_8(tmp_path):
  write_file(tmp_path / 'file', 'é')
  assert (tmp_path / 'file').read_bytes() == 'é'.encode()


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
  path = tmp_path / 'file'
  write_file(path, b'old')
  with replacing(path) as temporary:
    temporary.write_bytes(b'new')
    assert path.read_bytes() == b'old'
  assert path.read_bytes() == b'new'
  assert os.listdir(tmp_path) == ['file']


def test_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  write_file(path, b'old')

  def full_disk(handle):
    raise OSError('no space left')

  monkeypatch.setattr(os, 'fsync', full_disk)
  with pytest.raises(OSError, match='no space'):
    write_file(path, b'new')
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['file']


def test_paths_that_name_nothing(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert named_path('~/a') == tmp_path / 'a'
  with pytest.raises(ValueError, match="no user is called so; write './~nobod"):
    named_path('~nobody_is_called_so/a')
  with pytest.raises(ValueError, match='The path is empty'):
    named_path('')
