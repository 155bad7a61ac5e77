"""Downloads from a server of this machine, checked and kept."""

import dataclasses
import hashlib
import zipfile

from file_server import serving
from official_files import article, write_json, write_scrolls
import pytest

from configs import common
from lloco_jax.data import scrolls, squad
from lloco_jax.data.downloads import Download, fetch
from lloco_jax.inputs import load_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('LLOCO_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  (tmp_path / 'site').mkdir()
  return tmp_path / 'cache'


def download(site, name, content):
  data = content.encode()
  return Download(f'{site}{name}', len(data), hashlib.sha256(data).hexdigest())


def test_a_file_is_fetched_once(tmp_path, cache, capsys):
  (tmp_path / 'site/a.txt').write_text('content')
  with serving(tmp_path / 'site') as site:
    wanted = download(site, 'a.txt', 'content')
    folder = fetch([wanted], 'set')
  assert folder == cache / 'data/set'
  assert (folder / 'a.txt').read_text() == 'content'
  said = capsys.readouterr().out
  assert f'Fetching {wanted.url} (0 MB) into {folder}' in said
  # The server is gone.
  assert fetch([wanted], 'set') == folder
  assert not capsys.readouterr().out
  # A damaged copy is none.
  (folder / 'a.txt').write_text('damaged')
  with pytest.raises(
    OSError, match=r'could not be fetched .*config\.data\.path'
  ):
    fetch([wanted], 'set')


def test_another_file_is_refused_and_not_kept(tmp_path, cache):
  (tmp_path / 'site/a.txt').write_text('changed')
  with serving(tmp_path / 'site') as site:
    wanted = download(site, 'a.txt', 'content')
    with pytest.raises(OSError, match=f'another sha256 than {wanted.sha256}'):
      fetch([wanted], 'set')
    with pytest.raises(OSError, match=r'b\.txt could not be fetched .*404'):
      fetch([dataclasses.replace(wanted, url=f'{site}b.txt')], 'set')
  assert list((cache / 'data/set').iterdir()) == []


def test_a_packed_data_set_is_unpacked(tmp_path, cache, monkeypatch):
  write_scrolls(tmp_path / 'files')
  packed = tmp_path / 'site/qasper.zip'
  with zipfile.ZipFile(packed, 'w') as archive:
    for file in (tmp_path / 'files/qasper').iterdir():
      archive.write(file, f'qasper/{file.name}')
  with serving(tmp_path / 'site') as site:
    data = packed.read_bytes()
    wanted = Download(
      f'{site}qasper.zip', len(data), hashlib.sha256(data).hexdigest()
    )
    splits = dict.fromkeys(('train', 'validation'), wanted)
    monkeypatch.setitem(scrolls.DOWNLOADS, 'qasper', splits)
    config = common.finetuning('test').data
    config.source, config.part = 'scrolls', 'qasper'
    found = load_dataset(config)
    config.path = str(tmp_path / 'files')
    assert found.splits == load_dataset(config).splits
    # What a kill left of a file is written anew.
    torn = cache / 'data/scrolls/qasper/train.jsonl'
    torn.write_text('{')
    config.path = ''
    assert load_dataset(config).splits == found.splits


def test_an_archive_keeps_to_its_folder(tmp_path, cache):
  with zipfile.ZipFile(tmp_path / 'site/a.zip', 'w') as archive:
    archive.writestr('../b.txt', 'b')
  with serving(tmp_path / 'site') as site:
    data = (tmp_path / 'site/a.zip').read_bytes()
    wanted = Download(f'{site}a.zip', 1, hashlib.sha256(data).hexdigest())
    with pytest.raises(OSError, match="'../b.txt', outside its folder"):
      fetch([wanted], 'set')
  assert not (cache / 'data/b.txt').exists()


def test_data_without_a_path_is_fetched(tmp_path, cache, monkeypatch, capsys):
  for name, title in (('train', 'Owl'), ('dev', 'Fox')):
    path = tmp_path / f'site/{name}-v1.1.json'
    write_json(path, {'data': [article(title, f'An {title}.')]})
  with serving(tmp_path / 'site') as site:
    files = {
      split: download(
        site, name, (tmp_path / 'site' / name).read_text(encoding='utf-8')
      )
      for split, name in (
        ('train', 'train-v1.1.json'),
        ('validation', 'dev-v1.1.json'),
      )
    }
    monkeypatch.setitem(squad.DOWNLOADS, 'v1.1', files)
    config = common.finetuning('test').data
    config.source, config.part = 'squad', 'v1.1'
    dataset = load_dataset(config)
  assert list(dataset.documents) == ['Owl', 'Fox']
  said = capsys.readouterr().out.splitlines()
  place = f'from train-v1.1.json, dev-v1.1.json in {cache / "data/squad"}.'
  assert said[-1].endswith(place)
