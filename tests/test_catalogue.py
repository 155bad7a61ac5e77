"""The index of words: damage to it is seen, told and mended."""

# ruff: noqa: F811  (fixtures of another file)

import shutil

import pytest
from test_library import (  # noqa: F401
  WORDS,
  assert_clean,
  files,
  library,
  model,
)
from test_library_mending import again

from lloco_jax.library.adding import add_folder
from lloco_jax.library.catalogue import WORD_HASHES
from lloco_jax.library.checks import verify
from lloco_jax.library.finding import find

pytest.importorskip('lancedb', reason="needs the extra 'library'")
pytest.importorskip('bs4', reason="needs the extra 'library'")


def assert_told_and_make_anew(library, files, mend):
  [said] = verify(library).damage
  assert said.startswith('The index of words in the catalogue is missing, da')
  if mend:
    verify(library, mend=True)
  else:
    add_folder(library, files, 'mills', progress=False)


@pytest.mark.parametrize('mend', [True, False])
def test_an_index_that_is_lost_is_told_and_made_anew(library, files, mend):
  add_folder(library, files, 'mills', progress=False)
  shutil.rmtree(library.folder / 'catalogue/passages.lance/_indices')
  damaged = again(library)
  assert_told_and_make_anew(damaged, files, mend)
  assert find(damaged, 'the mill')
  assert_clean(damaged)


@pytest.mark.parametrize('mend', [True, False])
@pytest.mark.parametrize('place', ['first half', 'one bit'])
def test_each_file_of_the_index_of_words_is_verified(
  library, files, mend, place
):
  add_folder(library, files, 'mills', progress=False)

  def hits(library):
    return [
      sorted(row[:2] for row in library.catalogue.by_words(word, 99))
      for word in WORDS
    ]

  whole = hits(library)
  indices = library.folder / 'catalogue/passages.lance/_indices'
  names = {path.name for path in indices.rglob('*') if path.is_file()}
  assert len(names) > 1
  for name in names:
    for path in indices.rglob(name):
      content = bytearray(path.read_bytes())
      half = len(content) // 2
      if place == 'first half':
        content[:half] = bytes(half)
      else:
        content[half] ^= 1
      path.write_bytes(content)
    damaged = again(library)
    assert_told_and_make_anew(damaged, files, mend)
    assert hits(damaged) == hits(again(library)) == whole
    assert_clean(damaged)


@pytest.mark.parametrize('text', ['{', '{}', None])
def test_an_index_without_its_hashes_is_made_anew(library, files, text):
  add_folder(library, files, 'mills', progress=False)
  path = library.folder / 'catalogue' / WORD_HASHES
  path.unlink()
  if text is not None:
    path.write_text(text)
  half = path.with_name(f'.{path.name}.0123.part')
  half.write_text('{')
  assert len(verify(library).damage) == len(verify(library).leftovers) == 1
  verify(library, mend=True)
  assert not half.exists()
  assert_clean(library)


@pytest.mark.parametrize(
  'panic',
  [
    # As LanceDB's own, which are of no module.
    type('RustPanic', (Exception,), {}),
    type('PanicException', (BaseException,), {}),
  ],
)
@pytest.mark.parametrize('said', ['rust future panicked', ''])
def test_what_breaks_off_in_lancedb_is_told_as_other_damage(
  library, files, monkeypatch, panic, said
):
  add_folder(library, files, 'mills', progress=False)

  def broken(*arguments, **settings):
    raise panic(said)

  table = library.catalogue._passages
  with monkeypatch.context() as patch:
    patch.setattr(type(table), 'search', broken)
    with pytest.raises(OSError, match=rf'cannot be read or .*\({said}\)'):
      find(library, 'the mill')
    assert library.catalogue.words_fail()
