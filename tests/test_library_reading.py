"""What of a folder is read into a library, and what is refused."""

# ruff: noqa: F811  (fixtures of another file)

import dataclasses
import os

import pytest
from test_library import (  # noqa: F401
  assert_clean,
  counted,
  files,
  library,
  make,
  model,
  text_of,
  texts_of,
)

from lloco_jax.library.adding import add_folder, remove
from lloco_jax.library.checks import verify

pytest.importorskip('lancedb', reason="needs the extra 'library'")
pytest.importorskip('bs4', reason="needs the extra 'library'")


@pytest.mark.skipif(os.getuid() == 0, reason='root can read everything')
@pytest.mark.parametrize('mode', [0, 0o444])  # 0o444: what it holds is listed
def test_a_folder_that_cannot_be_read_is_not_gone(library, files, mode):
  add_folder(library, files, 'mills')
  (files / 'below').chmod(mode)
  counts = add_folder(library, files, 'mills')
  (files / 'below').chmod(0o700)
  assert counted(counts) == (0, 2, 0, 0, 0, 1)
  assert len(texts_of(library)) == 3


def test_what_cannot_be_looked_at_is_refused(library, files, monkeypatch):
  add_folder(library, files, 'mills')

  def listed(*arguments, real=os.walk, **options):
    for place, folders, names in real(*arguments, **options):
      (files / 'a.txt').unlink(missing_ok=True)
      yield place, folders, names

  monkeypatch.setattr(os, 'walk', listed)
  counts = add_folder(library, files, 'mills')
  assert counted(counts) == (0, 2, 0, 0, 0, 1)
  [said] = counts.refused
  assert said.endswith("/a.txt' cannot be read: No such file or directory.")
  assert len(texts_of(library)) == 3


def test_what_a_refused_folder_holds_is_not_gone(library, files, tmp_path):
  add_folder(library, files, 'mills')
  (files / 'below').rename(tmp_path / 'elsewhere')
  (files / 'below').symlink_to(tmp_path / 'elsewhere')
  assert counted(add_folder(library, files, 'mills')) == (0, 2, 0, 0, 0, 1)
  assert len(texts_of(library)) == 3


def test_links_within_a_folder(library, tmp_path):
  folder = tmp_path / 'annex'
  content = folder / '.content'
  content.mkdir(parents=True)
  (folder / 'a.txt').write_text(text_of(1, 50))
  (folder / 'b.txt').write_text(text_of(2, 50))
  assert counted(add_folder(library, folder, 'mills'))[:2] == (2, 0)
  # As git-annex keeps files: what is read lies in a hidden folder.
  (folder / 'b.txt').rename(content / 'b')
  (folder / 'b.txt').symlink_to('.content/b')
  (folder / 'notes.dat').write_text(text_of(3, 50))
  (folder / 'c.txt').symlink_to('notes.dat')
  (folder / 'nowhere.txt').symlink_to('gone.txt')
  (folder / 'ring.txt').symlink_to('ring.txt')
  (folder / 'hidden').symlink_to('.content')
  (folder / 'same.txt').symlink_to('a.txt')
  counts = add_folder(library, folder, 'mills')
  assert counted(counts) == (1, 2, 0, 0, 0, 3)
  assert counts.passed_over == {'hidden': 1, 'links': 1, '.dat': 1}
  said = '\n'.join(counts.refused)
  assert said.count('is a link that leads nowhere') == 2
  assert "/hidden' is a link to '" in said
  found = texts_of(library)
  assert found['b.txt'] == text_of(2, 50) and found['c.txt'] == text_of(3, 50)
  assert_clean(library)


def test_odd_names_and_links(library, tmp_path):
  folder = tmp_path / 'odd'
  folder.mkdir()
  names = ["it's a name.txt", 'näme ☃.txt', 'two\nlines.txt', '..txt.TXT']
  names.append('; DROP.txt')
  for number, name in enumerate(names):
    (folder / name).write_text(text_of(number, 50))
  outside = tmp_path / 'secret.txt'
  outside.write_text('A secret.')
  (folder / 'link.txt').symlink_to(outside)
  (folder / 'up').symlink_to('..')
  (folder / 'same.txt').symlink_to("it's a name.txt")
  (folder / '.hidden.txt').write_text('hidden')
  (folder / 'picture.png').write_bytes(b'png')
  os.mkfifo(folder / 'pipe.txt')
  bad = os.fsencode(folder) + b'/\xff.txt'
  with open(bad, 'w') as file:
    file.write('text')
  counts = add_folder(library, folder, "it's")
  assert counted(counts) == (4, 0, 0, 0, 0, 4)
  assert counts.passed_over == {'links': 1, 'hidden': 2, '.png': 1}
  said = '\n'.join(counts.refused)
  assert len(said.splitlines()) == 4
  for words in (
    "link.txt' is a link that leaves the folder",
    "/up' is a link that leaves the folder",
    "pipe.txt' is no plain file",
    "\\udcff.txt' has a name that is not UTF-8",
  ):
    assert words in said
  found = texts_of(library)
  assert set(found) == {name for name in names if not name.startswith('.')}
  assert 'A secret.' not in ''.join(found.values())
  assert_clean(library)
  assert counted(add_folder(library, folder, "it's"))[:2] == (0, 4)
  assert remove(library, [str(folder / 'two\nlines.txt')]) == (1, [])


def test_what_cannot_be_read_is_refused_and_the_rest_done(library, files):
  (files / 'empty.txt').write_bytes(b'')
  (files / 'blank.md').write_text(' \n\n')
  (files / 'binary.txt').write_bytes(bytes(range(256)) * 20)
  (files / 'latin.txt').write_bytes('Straße'.encode('latin-1'))
  (files / 'pictures.html').write_text('<img src=a.png><script>x</script>')
  (files / 'broken.pdf').write_bytes(b'%PDF-1.7 nothing')
  (files / 'large.txt').write_text('x' * 30_000)
  counts = add_folder(library, files, 'mills', most_megabytes=0.02)
  assert counted(counts) == (3, 0, 0, 0, 0, 7)
  for name, words in {
    'empty.txt': 'is empty',
    'blank.md': 'holds nothing to read',
    'binary.txt': 'binary data',
    'latin.txt': 'is not UTF-8: byte 0xdf at offset 4; convert it',
    'pictures.html': 'no text in it',
    'broken.pdf': 'cannot be read as PDF',
    'large.txt': 'split it, or allow more',
  }.items():
    [sentence] = [each for each in counts.refused if f"{name}'" in each]
    assert words in sentence
    assert '\n' not in sentence and sentence.endswith('.')
  assert_clean(library)


class WithOddTokens:
  """A tokenizer that gives some texts ids no embedding belongs to."""

  def __init__(self, tokenizer):
    self._tokenizer = tokenizer

  def __getattr__(self, name):
    return getattr(self._tokenizer, name)

  def encode(self, text, *options):
    ids = self._tokenizer.encode(text, *options)
    return [*ids, 10**6] if 'zebra' in text else ids


def test_what_cannot_be_compressed_is_refused_and_the_rest_done(
  tmp_path, model, files
):
  odd = dataclasses.replace(model, tokenizer=WithOddTokens(model.tokenizer))
  library = make(tmp_path / 'odd', odd)
  (files / 'a0.txt').write_text(text_of(7, 500) + 'A zebra.')
  counts = add_folder(library, files, progress=False)
  assert counted(counts) == (3, 0, 0, 0, 0, 1)
  assert 'a0.txt' in counts.refused[0] and '1000000' in counts.refused[0]
  (files / 'a0.txt').write_text(text_of(7, 500))
  assert counted(add_folder(library, files, progress=False))[0] == 1
  (files / 'a0.txt').write_text('The zebra.')
  counts = add_folder(library, files, progress=False)
  assert counted(counts) == (0, 3, 0, 0, 0, 1)
  assert counts.refused[0].endswith('before stays in the library.')
  assert texts_of(library)['a0.txt'] == text_of(7, 500)
  assert not verify(library).damage


def test_a_package_that_is_missing_refuses_its_kind_alone(
  library, files, monkeypatch
):
  def missing(path, data, name):
    if path.suffix == '.html':
      raise ImportError('beautifulsoup4 is missing; install it.')
    return data.decode(), []

  monkeypatch.setattr('lloco_jax.library.reading.parse', missing)
  counts = add_folder(library, files, progress=False)
  assert counted(counts) == (2, 0, 0, 0, 0, 1)
  assert counts.refused == ['beautifulsoup4 is missing; install it.']


def test_a_file_that_cannot_be_read_any_more_keeps_its_place(library, files):
  add_folder(library, files, 'mills')
  (files / 'a.txt').write_bytes(b'\0\0')
  counts = add_folder(library, files, 'mills')
  assert counted(counts) == (0, 2, 0, 0, 0, 1)
  assert counts.refused[0].endswith('What it held before stays in the library.')
  assert texts_of(library)['a.txt'] == text_of(1)
