"""Zip files that are damaged; whole ones are unpacked in test_downloads.py."""

import zipfile

import pytest

from lloco_jax.data.archives import unpack


def test_what_is_no_zip_file_is_named(tmp_path):
  (tmp_path / 'data.zip').write_bytes(b'PK, and no more')
  with pytest.raises(OSError, match=r'data\.zip cannot be unpacked .*again'):
    unpack(tmp_path / 'data.zip', tmp_path / 'data')


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_named(tmp_path, method):
  path = tmp_path / 'data.zip'
  with zipfile.ZipFile(path, 'w', method) as archive:
    archive.writestr('some.txt', 'An owl, an owl. ' * 99)
  content = bytearray(path.read_bytes())
  content[60] ^= 255
  path.write_bytes(content)
  with pytest.raises(OSError, match=r'some\.txt of .*data\.zip is damaged'):
    unpack(path, tmp_path / 'data')
  assert not list((tmp_path / 'data').glob('*'))
