"""Zip files that are damaged; whole ones are unpacked in test_downloads.py."""

import pytest

from lloco_jax.data.archives import unpack


def test_what_is_no_zip_file_is_named(tmp_path):
  (tmp_path / 'data.zip').write_bytes(b'PK, and no more')
  with pytest.raises(OSError, match=r'data\.zip cannot be unpacked .*again'):
    unpack(tmp_path / 'data.zip', tmp_path / 'data')
