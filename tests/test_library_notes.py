"""The files of a study: what others do to them and to the library meanwhile."""

import pathlib

import pytest
from test_library import encode, model  # noqa: F401
from test_library_study import library, scripted  # noqa: F401

from lloco_jax.library import notes
from lloco_jax.library import study as module
from lloco_jax.library.adding import add_folder
from lloco_jax.library.catalogue import Catalogue
from lloco_jax.library.library import Library
from lloco_jax.library.pairs import pairs_file, read_pairs
from lloco_jax.library.study import study

pytest.importorskip('lancedb', reason="needs the extra 'library'")


def test_an_addition_beside_a_study_takes_out_no_pairs_that_live(
  library,  # noqa: F811
  monkeypatch,
  tmp_path,
):
  """It comes between the documents and their texts."""
  monkeypatch.setattr(module, '_ask', scripted([]))
  study(library, 'mills', progress=False)
  before = {pair.id for pair in read_pairs(library, 'mills')}
  texts, added = Catalogue.texts, []

  def and_add(catalogue, versions):
    if not added:
      added.append(True)
      for file in (tmp_path / 'files').iterdir():
        file.write_text(file.read_text() + ' One more word.')
      other = Library(library.folder, library.model, encode)
      add_folder(other, tmp_path / 'files', 'mills', progress=False)
    return texts(catalogue, versions)

  monkeypatch.setattr(Catalogue, 'texts', and_add)
  study(library, 'mills', progress=False)
  live = {passage.id for passage in module._passages(library, 'mills')}
  stay = {id for id in before if id.rpartition('-')[0] in live}
  found = {pair.id for pair in read_pairs(library, 'mills')}
  assert added and 0 < len(stay) < len(before)
  assert stay <= found and {id.rpartition('-')[0] for id in found} == live


def test_passages_that_are_missing_take_out_no_pairs(
  library,  # noqa: F811
  monkeypatch,
):
  monkeypatch.setattr(module, '_ask', scripted([]))
  study(library, 'mills', progress=False)
  before = pairs_file(library, 'mills').read_bytes()
  entry = library.catalogue.entries()[0]
  library.catalogue._delete(library.catalogue._passages, [entry.version])
  with pytest.raises(
    ValueError, match=f"lacks passages of '{entry.name}'; add"
  ):
    study(library, 'mills', progress=False)
  assert pairs_file(library, 'mills').read_bytes() == before


def saved(pairs, opened):
  """What an editor may do to pairs of which it has `opened` the first two."""
  lines = opened.splitlines(keepends=True)
  return {
    'an older state': opened,
    'no end of the last line': pairs.read_text().rstrip('\n'),
    'one removed': lines[1],
    'nothing': None,
  }


@pytest.mark.parametrize('what', [
  'an older state', 'no end of the last line', 'one removed', 'nothing',
])  # fmt: skip
def test_pairs_that_an_editor_saves_over_are_written_again(
  library,  # noqa: F811
  monkeypatch,
  what,
):
  monkeypatch.setattr(module, '_PASSAGES_AT_ONCE', 1)
  ask, calls, opened = scripted([]), [], []
  pairs = pairs_file(library, 'mills')

  def edited(library, passages, kinds):
    calls.append(len(passages))
    if len(calls) == 3:
      opened.append(pairs.read_text())
    if len(calls) == 5:
      content = saved(pairs, opened[0])[what]
      pairs.unlink() if content is None else pairs.write_text(content)
    return ask(library, passages, kinds)

  monkeypatch.setattr(module, '_ask', edited)
  studied = study(library, 'mills', progress=False)
  assert len(calls) >= 5 and studied.kept == sum(calls)
  found = [pair.id for pair in read_pairs(library, 'mills')]
  assert len(set(found)) == len(found) == sum(calls) - (what == 'one removed')
  # What was removed does not come again.
  assert study(library, 'mills', progress=False).passages == 0
  assert [pair.id for pair in read_pairs(library, 'mills')] == found


def test_a_full_disk_is_told_with_its_file():
  full = pathlib.Path('/dev/full')
  if not full.exists():
    pytest.skip('needs /dev/full')
  with pytest.raises(OSError, match='disk is full, so /dev/full cannot'):
    notes._append(full, 'a pair')
