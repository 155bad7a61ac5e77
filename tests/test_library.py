"""Folders into a library: added, updated, continued, dropped, verified."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from test_experiment import write_model

from lloco_jax.library import adding
from lloco_jax.library.adding import add_folder, remove
from lloco_jax.library.checks import verify
from lloco_jax.library.library import Library, check_group
from lloco_jax.library.making import Making
from lloco_jax.weights.checkpoint import load

pytest.importorskip('lancedb', reason="needs the extra 'library'")
pytest.importorskip('bs4', reason="needs the extra 'library'")

WORDS = 'mill river roof barley slate ferry ledger goose island crown'.split()


def encode(texts):
  """How often each word occurs: a text embedding that can be checked."""
  return np.array(
    [[text.lower().count(word) + 0.01 for word in WORDS] for text in texts],
    np.float32,
  )


@pytest.fixture(scope='session')
def model(tmp_path_factory):
  return load_short(write_model(tmp_path_factory.mktemp('model') / 'tiny'))


def load_short(folder):
  """The model of a folder, with segments that a test can fill."""
  return dataclasses.replace(load(folder), segment_length=32)


def make(folder, model, **making):
  making = {
    'model': model.name,
    'part_characters': 400,
    'passage_characters': 100,
    **making,
  }
  return Library.make(folder, Making(**making), model, encode)


def text_of(seed, characters=300):
  random = np.random.default_rng(seed)
  words = []
  while sum(map(len, words)) + len(words) < characters:
    words.append(str(random.choice(WORDS)) + random.choice([' ', '. ', '\n\n']))
  return ''.join(words)


def add_two_groups(library, folder):
  """Two files of each, in a word of which the groups differ."""
  for group, word in (('mills', 'mill'), ('birds', 'goose')):
    (folder / group).mkdir()
    for number in range(2):
      (folder / group / f'{number}.txt').write_text(
        f'{word} {number}. ' + text_of(number, 300)
      )
    add_folder(library, folder / group, group, progress=False)


@pytest.fixture
def files(tmp_path):
  folder = tmp_path / 'files'
  (folder / 'below').mkdir(parents=True)
  (folder / 'a.txt').write_text(text_of(1))
  (folder / 'b.md').write_text('# Mills\n\n' + text_of(2, 900))
  (folder / 'below/c.html').write_text(
    '<title>Ferry</title><p>The ferry is <b>late</b>.<script>no</script>'
  )
  return folder


@pytest.fixture
def library(tmp_path, model):
  return make(tmp_path / 'library', model)


def counted(counts):
  return (
    counts.added,
    counts.unchanged,
    counts.updated,
    counts.continued,
    counts.removed,
    len(counts.refused),
  )


def texts_of(library):
  """The text of every file, put together from the passages."""
  found = {}
  for entry in library.catalogue.entries():
    pieces = library.catalogue.texts([entry.version])[entry.version]
    assert len(pieces) == entry.passages
    name = pathlib.Path(entry.path).name
    found[name] = found.get(name, '') + ''.join(pieces)
  return found


def state(library):
  """Everything that two libraries of the same files share."""
  entries = library.catalogue.entries()
  return (
    entries,
    library.catalogue.texts([entry.version for entry in entries]),
    {
      key: hashlib.sha256(library.store.path(key).read_bytes()).hexdigest()
      for key in library.store.keys()
    },
    dict(library.catalogue.counts()),
  )


def assert_clean(library):
  findings = verify(library)
  assert not findings.damage and not findings.leftovers


def test_a_folder_is_added_whole(library, files, model):
  assert counted(add_folder(library, files, 'mills')) == (3, 0, 0, 0, 0, 0)
  texts = texts_of(library)
  assert texts['a.txt'] == text_of(1)
  assert texts['b.md'] == '# Mills\n\n' + text_of(2, 900)
  assert texts['c.html'] == 'Ferry\n\nThe ferry is late.\n'
  entries = library.catalogue.entries()
  assert [entry.parts for entry in entries].count(3) == 3
  assert all(entry.group == 'mills' for entry in entries)
  for entry in entries:
    vectors = library.store.load(entry.key, library.settings.compressor)
    assert len(vectors) == entry.vectors
    assert entry.cut_tokens == 0
  assert_clean(library)


def test_what_is_there_is_skipped(library, files, monkeypatch):
  add_folder(library, files, 'mills')
  before = state(library)
  monkeypatch.setattr(adding, 'compress_documents', None)
  again = Library(library.folder, library.model, encode)
  assert counted(add_folder(again, files, 'mills')) == (0, 3, 0, 0, 0, 0)
  assert state(again) == before


def test_changed_grown_and_gone_files(library, files, capsys):
  add_folder(library, files, 'mills')
  before = library.store.keys()
  grown = text_of(1) + text_of(3, 80)
  (files / 'a.txt').write_text(grown)
  (files / 'b.md').write_text(text_of(9))
  (files / 'below/c.html').unlink()
  (files / 'd.txt').write_text('A new goose.')
  capsys.readouterr()
  assert counted(add_folder(library, files, 'mills')) == (1, 0, 1, 1, 1, 0)
  assert 'more tokens known from the store' in capsys.readouterr().out
  assert texts_of(library) == {
    'a.txt': grown,
    'b.md': text_of(9),
    'd.txt': 'A new goose.',
  }
  assert not before & library.store.keys()
  assert_clean(library)
  fresh = make(library.folder.parent / 'fresh', library.model)
  add_folder(fresh, files, 'mills')
  assert state(fresh) == state(library)


def test_a_file_that_grows_by_parts_is_continued(library, files):
  add_folder(library, files, 'mills')
  text = '# Mills\n\n' + text_of(2, 900) + text_of(3, 700)
  (files / 'b.md').write_text(text)
  assert counted(add_folder(library, files, 'mills')) == (0, 2, 0, 1, 0, 0)
  assert texts_of(library)['b.md'] == text
  assert library.catalogue.entries()[-1].parts == 1
  assert library.catalogue.entries()[1].parts > 3
  # Not where its beginning is another.
  (files / 'b.md').write_text('X' + text[1:] + text_of(4, 100))
  assert counted(add_folder(library, files, 'mills')) == (0, 2, 1, 0, 0, 0)
  assert_clean(library)


def test_a_file_that_shrinks_loses_its_parts(library, files):
  add_folder(library, files, 'mills')
  (files / 'b.md').write_text('# Mills\n\n')
  assert counted(add_folder(library, files, 'mills')) == (0, 2, 1, 0, 0, 0)
  assert texts_of(library)['b.md'] == '# Mills\n\n'
  assert_clean(library)


def test_a_folder_can_go_to_another_group(library, files):
  add_folder(library, files, 'mills')
  before = library.store.keys()
  assert counted(add_folder(library, files, 'ferries')) == (0, 0, 3, 0, 0, 0)
  assert {entry.group for entry in library.catalogue.entries()} == {'ferries'}
  assert library.store.keys() == before
  assert_clean(library)


def test_folders_do_not_touch_one_another(library, files, tmp_path):
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'a.txt').write_text(text_of(1))
  add_folder(library, files, 'mills')
  assert counted(add_folder(library, other, 'twins')) == (1, 0, 0, 0, 0, 0)
  # One text, two documents, one file of summaries.
  assert len(library.store.keys()) == len(library.catalogue.entries()) - 1
  remove(library, [str(other)])
  assert len(library.catalogue.entries()) == len(library.store.keys())
  # A folder below is part of what is there already.
  below = add_folder(library, files / 'below', 'mills')
  assert counted(below) == (0, 1, 0, 0, 0, 0)
  assert_clean(library)


def test_remove(library, files):
  add_folder(library, files, 'mills')
  paths = [str(files / 'below'), str(files / 'a.txt')]
  assert remove(library, paths) == (2, [])
  assert set(texts_of(library)) == {'b.md'}
  assert_clean(library)
  with pytest.raises(ValueError, match='nothing of .*a.txt'):
    remove(library, [str(files / 'a.txt')])
  with pytest.raises(ValueError, match="no group 'x'"):
    remove(library, [], ['x'])
  assert remove(library, [], ['mills']) == (1, [])
  assert not library.catalogue.entries() and not library.store.keys()


def test_an_empty_folder_does_not_empty_the_library(library, files):
  add_folder(library, files, 'mills')
  shutil.rmtree(files)
  files.mkdir()
  with pytest.raises(ValueError, match='has 3 from there.*library remove'):
    add_folder(library, files, 'mills')
  assert len(texts_of(library)) == 3


def test_the_token_cap_is_said_aloud(tmp_path, model, files, capsys):
  library = make(tmp_path / 'l', model, part_characters=0, token_cap=256)
  counts = add_folder(library, files, 'mills')
  assert counts.cut_tokens > 0
  said = capsys.readouterr().out
  assert "b.md' has" in said and 'are cut off (token_cap = 256)' in said
  assert f'cut off {counts.cut_tokens:,} tokens' in counts.text()
  # What is cut off can still be found, and is told by the list.
  assert texts_of(library)['b.md'].endswith(text_of(2, 900))
  assert sum(e.cut_tokens for e in library.catalogue.entries()) > 0


def damage(library, kind):
  entry = library.catalogue.entries()[0]
  path = library.store.path(entry.key)
  if kind == 'truncated':
    path.write_bytes(path.read_bytes()[:-1])
  elif kind == 'missing':
    path.unlink()
  elif kind == 'of another text':
    others = library.store.keys() - {entry.key}
    shutil.copy(library.store.path(min(others)), path)
  return entry, path


@pytest.mark.parametrize('kind', ['truncated', 'missing', 'of another text'])
def test_damage_is_found_and_mended(library, files, kind):
  add_folder(library, files, 'mills')
  whole = state(library)
  damage(library, kind)
  findings = verify(library)
  assert len(findings.damage) == 1 and 'a.txt' in findings.damage[0]
  # Adding makes it again.
  assert counted(add_folder(library, files, 'mills')) == (0, 2, 1, 0, 0, 0)
  assert state(library) == whole
  # So does mending, and adding.
  damage(library, kind)
  assert len(verify(library, mend=True).damage) == 1
  assert 'a.txt' not in texts_of(library)
  assert_clean(library)
  add_folder(library, files, 'mills')
  assert state(library) == whole


def test_leftovers_are_found_and_removed(library, files):
  add_folder(library, files, 'mills')
  whole = state(library)
  folder = library.store.folder
  entry = library.catalogue.entries()[0]
  (folder / f'{"0" * 64}.safetensors').write_bytes(b'x')
  (folder / '.x.part').write_bytes(b'x')
  (folder / 'mine.doc').write_text('mine')
  (folder / f'{entry.key}.bak').write_text('mine')
  library.catalogue._passages.add(
    [
      {
        'version': 'f' * 64,
        'number': 0,
        'group': 'mills',
        'text': 'goose',
        'vector': encode(['goose'])[0],
      }
    ]
  )
  findings = verify(library)
  assert not findings.damage and len(findings.leftovers) == 3
  assert len(findings.foreign) == 2
  assert 'passages of no document' in findings.text()
  verify(library, mend=True)
  after = verify(library)
  assert not after.leftovers and after.foreign == findings.foreign
  assert ['.bak' in one for one in after.foreign].count(True) == 1
  assert state(library) == whole and entry in whole[0]


def test_passages_that_were_changed_are_found(library, files):
  add_folder(library, files, 'mills')
  library.catalogue._passages.update(
    where='number = 0', values={'text': 'forged'}
  )
  assert len(verify(library).damage) == len(library.catalogue.entries())


def test_files_that_changed_since_are_told(library, files):
  add_folder(library, files, 'mills')
  (files / 'a.txt').write_text('other')
  (files / 'b.md').unlink()
  findings = verify(library)
  assert not findings.damage
  assert [each.split("' ")[1] for each in findings.stale] == [
    'has changed since it was added.',
    'is gone or cannot be read.',
  ]


def test_a_second_writer_is_refused(library, files):
  other = Library(library.folder, library.model, encode)
  with library.alone():
    for change in (
      lambda: add_folder(other, files, 'mills'),
      lambda: remove(other, [str(files)]),
      lambda: verify(other),
    ):
      with pytest.raises(ValueError, match='Another program is changing'):
        change()
  assert counted(add_folder(other, files, 'mills'))[0] == 3
  # The one that was open sees what the other has written.
  assert len(library.catalogue.entries()) == len(other.catalogue.entries()) > 0


@pytest.mark.parametrize('group', ['', ' ', '..', 'a/b', 'a\nb', 'x' * 101])
def test_names_that_are_no_groups(library, files, group):
  with pytest.raises(ValueError, match='[Gg]roup|group'):
    check_group(group)
  with pytest.raises(ValueError):
    add_folder(library, files, group)


def test_a_library_is_made_once(tmp_path, model):
  library = make(tmp_path / 'l', model)
  again = Library.make(tmp_path / 'l', Making(model=model.name), model, encode)
  assert again.making == library.making
  with pytest.raises(ValueError, match="with part_characters '400', not '500'"):
    make(tmp_path / 'l', model, part_characters=500)
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other/x').write_text('')
  with pytest.raises(ValueError, match='no library and not an empty folder'):
    make(tmp_path / 'other', model)
  with pytest.raises(FileNotFoundError, match='There is no library in'):
    Library(tmp_path / 'other')
  assert os.listdir(tmp_path / 'other') == ['x']


def test_another_model_or_embedding_is_refused(tmp_path, model, files):
  library = make(tmp_path / 'l', model)
  other = load_short(write_model(tmp_path / 'other', seed=1))
  with pytest.raises(ValueError, match='not what it was when the library'):
    add_folder(Library(library.folder, other, encode), files, 'mills')
  for group in ('mills', None):
    for other in (
      lambda texts: encode(texts)[:, :3],
      lambda x: encode(x) * np.arange(10),
    ):
      with pytest.raises(ValueError, match='made with another text embedding'):
        add_folder(Library(library.folder, model, other), files, group)
      assert not library.store.keys()
  fields = json.loads((library.folder / 'library.json').read_text())
  fields['format'] = 2
  (library.folder / 'library.json').write_text(json.dumps(fields))
  with pytest.raises(ValueError, match='format 2'):
    Library(library.folder)
  (library.folder / 'library.json').write_text('{')
  with pytest.raises(ValueError, match='damaged'):
    Library(library.folder)


@pytest.mark.parametrize('change', [remove, add_folder])
def test_an_empty_path_is_not_the_current_folder(
  library, files, monkeypatch, change
):
  add_folder(library, files, progress=False)
  monkeypatch.chdir(files)
  paths = [''] if change is remove else ''
  with pytest.raises(ValueError, match='The path is empty; name'):
    change(library, paths)
  assert len({entry.path for entry in library.catalogue.entries()}) == 3


def test_a_catalogue_that_is_gone_does_not_cost_the_summaries(library, files):
  add_folder(library, files, progress=False)
  keys = library.store.keys()
  shutil.rmtree(library.folder / 'catalogue')
  emptied = Library(library.folder, library.model, encode)
  findings = verify(emptied)
  assert findings.leftovers and 'their folders again makes' in findings.text()
  with pytest.raises(
    ValueError, match='would all be removed; add your folders'
  ):
    verify(emptied, mend=True)
  assert emptied.store.keys() == keys
  files_of = {
    path: path.stat().st_mtime_ns
    for path in emptied.store.folder.glob('*.safetensors')
  }
  assert len(files_of) == len(keys) > 0
  add_folder(emptied, files, progress=False)
  for path, written in files_of.items():
    assert path.stat().st_mtime_ns == written
  assert not verify(emptied).leftovers


def test_damaged_tables_are_told_with_the_mend(library, files):
  add_folder(library, files, progress=False)
  for path in (library.folder / 'catalogue/passages.lance/data').iterdir():
    path.unlink()
  damaged = Library(library.folder, library.model, encode)
  with pytest.raises(OSError, match='remove that folder and add') as error:
    verify(damaged)
  assert '.rs:' not in str(error.value)


def test_what_a_group_has_that_lost_its_documents_is_told(
  library, files, capsys
):
  add_folder(library, files, 'mills', progress=False)
  pairs = library.folder / 'pairs/mills.jsonl'
  pairs.parent.mkdir()
  pairs.write_text('{"id": "a"}\n')
  counts = add_folder(library, files, 'ferries', progress=False)
  (remark,) = counts.remarks
  assert "'mills' has no documents any more, but question-answer" in remark
  assert remark in capsys.readouterr().out
  assert not add_folder(library, files, 'ferries', progress=False).remarks


def test_what_was_mended_is_told(library, files):
  add_folder(library, files, progress=False)
  entry = library.catalogue.entries()[0]
  (library.store.folder / f'{entry.key}.safetensors').unlink()
  assert '--mend takes out what is damaged' in verify(library).text()
  said = verify(library, mend=True).text()
  assert '1 damaged and 0 leftovers were removed; add their' in said
  assert '--mend' not in said


def test_limits_by_which_nothing_is_added_are_refused(library, files):
  with pytest.raises(ValueError, match='rows is 0; it must be 1'):
    add_folder(library, files, rows=0)
  with pytest.raises(ValueError, match='most_megabytes is 0; it must be more'):
    add_folder(library, files, most_megabytes=0)
