"""What a library may lose, and that its summaries outlast it."""

# ruff: noqa: F811  (fixtures of another file)

import errno
import os
import shutil

import numpy as np
import pytest
from test_library import (  # noqa: F401
  assert_clean,
  encode,
  files,
  library,
  make,
  model,
  state,
  text_of,
)

from lloco_jax.__main__ import main
from lloco_jax.library import checks
from lloco_jax.library.adding import add_folder, remove
from lloco_jax.library.catalogue import Catalogue
from lloco_jax.library.checks import verify
from lloco_jax.library.finding import find
from lloco_jax.library.library import Library
from lloco_jax.library.sweeping import RELEASED

pytest.importorskip('lancedb', reason="needs the extra 'library'")
pytest.importorskip('bs4', reason="needs the extra 'library'")


def again(library):
  return Library(library.folder, library.model, encode)


def written(library):
  """When each file of summaries was written."""
  return {
    path.stem: path.stat().st_mtime_ns
    for path in library.store.folder.glob('*.safetensors')
  }


@pytest.fixture
def others(tmp_path):
  folder = tmp_path / 'others'
  folder.mkdir()
  (folder / 'o.txt').write_text(text_of(11))
  return folder


def test_folders_are_added_in_turn_after_the_catalogue_was_lost(
  library, files, others
):
  for folder in (files, others):
    add_folder(library, folder, 'mills', progress=False)
  before = written(library)
  shutil.rmtree(library.folder / 'catalogue')
  emptied = again(library)
  add_folder(emptied, files, 'mills', progress=False)
  assert written(emptied) == before
  add_folder(emptied, others, 'mills', progress=False)
  assert written(emptied) == before
  assert_clean(emptied)


def test_what_was_compressed_before_a_stop_outlasts_other_changes(
  library, files, others, monkeypatch
):
  add_folder(library, files, 'mills', progress=False)
  before = written(library)

  def stopped(*arguments):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(Catalogue, 'put', stopped)
    with pytest.raises(KeyboardInterrupt):
      add_folder(library, others, 'mills', progress=False)
  ready = written(library)
  assert len(ready) == len(before) + 1
  # Another folder, and a removal, between the stop and the same command.
  (files / 'a.txt').write_text(text_of(12))
  add_folder(library, files, 'mills', progress=False)
  remove(library, [str(files / 'b.md')])
  [new] = ready.keys() - before.keys()
  assert written(library)[new] == ready[new]
  add_folder(library, others, 'mills', progress=False)
  assert written(library)[new] == ready[new]


def test_a_stop_and_then_a_lost_catalogue_cost_no_summaries(
  library, files, others, monkeypatch
):
  add_folder(library, files, 'mills', progress=False)
  before, text = written(library), (files / 'a.txt').read_text()

  def stopped(*arguments):
    raise KeyboardInterrupt

  noted = []
  for change in ('another group', 'another text'):
    group = 'mills'
    if change == 'another group':
      group = 'ferries'
    else:
      (files / 'a.txt').write_text(text_of(12))
    with monkeypatch.context() as patch:
      patch.setattr(Catalogue, 'put', stopped)
      with pytest.raises(KeyboardInterrupt):
        add_folder(library, files, group, progress=False)
    noted.append((library.folder / RELEASED).exists())
  # What stays in a group or comes to another is not foretold to go.
  assert noted == [False, True]
  shutil.rmtree(library.folder / 'catalogue')
  (files / 'a.txt').write_text(text)
  emptied = again(library)
  for folder in (others, files):
    add_folder(emptied, folder, 'mills', progress=False)
  assert before.items() <= written(emptied).items()


@pytest.mark.parametrize('step', ['drop', 'tidy'])
def test_summaries_of_a_change_that_was_stopped_go_with_the_next(
  library, files, monkeypatch, step
):
  add_folder(library, files, 'mills', progress=False)
  (files / 'a.txt').write_text(text_of(12))
  (files / 'b.md').unlink()
  calls = []
  real = getattr(Catalogue, step)

  def stopped(catalogue, *arguments):
    calls.append(step)
    # The first is at the beginning, or of files that have changed.
    if len(calls) == 2:
      raise KeyboardInterrupt
    return real(catalogue, *arguments)

  with monkeypatch.context() as patch:
    patch.setattr(Catalogue, step, stopped)
    with pytest.raises(KeyboardInterrupt):
      add_folder(library, files, 'mills', progress=False)
  noted = library.folder / RELEASED
  add_folder(library, files, 'mills', progress=False)
  assert_clean(library)
  assert not noted.exists()
  assert len(library.store.keys()) == len(
    {entry.key for entry in library.catalogue.entries()}
  )


def test_summaries_whose_note_is_damaged_are_left_to_mend(
  library, files, monkeypatch
):
  add_folder(library, files, 'mills', progress=False)
  (files / 'b.md').unlink()

  def stopped(*arguments):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(library.store, 'remove', stopped)
    with pytest.raises(KeyboardInterrupt):
      add_folder(library, files, 'mills', progress=False)
  noted = library.folder / RELEASED
  noted.write_bytes(noted.read_bytes()[:-9])
  ready = library.store.keys()
  add_folder(library, files, 'mills', progress=False)
  assert not noted.exists() and library.store.keys() == ready
  used = {entry.key for entry in library.catalogue.entries()}
  assert len(verify(library).leftovers) == len(ready - used) > 0
  verify(library, mend=True)
  assert library.store.keys() == used
  assert_clean(library)


def test_summaries_that_cannot_be_read_for_a_moment_are_no_damage(
  library, files, monkeypatch
):
  add_folder(library, files, 'mills', progress=False)
  before, whole = written(library), state(library)
  entry = library.catalogue.entries()[0]
  load = library.store.load

  def away(key, *arguments):
    if key == entry.key:
      raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return load(key, *arguments)

  with monkeypatch.context() as patch:
    patch.setattr(library.store, 'load', away)
    for mend in (False, True):
      with pytest.raises(OSError, match='a.txt: its summaries .*Stale.*remove'):
        verify(library, mend)
  assert written(library) == before and state(library) == whole
  assert_clean(library)
  # What is not there does not come back.
  library.store.remove(entry.key)
  assert len(verify(library, mend=True).damage) == 1
  assert len(library.catalogue.entries()) == len(whole[0]) - 1


def test_passages_that_are_lost_do_not_cost_the_summaries(library, files):
  add_folder(library, files, 'mills', progress=False)
  before, whole = written(library), state(library)
  shutil.rmtree(library.folder / 'catalogue/passages.lance')
  damaged = again(library)
  with pytest.raises(OSError, match='The catalogue .* cannot be read'):
    find(damaged, 'the mill')
  assert len(verify(damaged).damage) >= len(whole[0])
  # Either way is a way out.
  counts = add_folder(damaged, files, 'mills', progress=False)
  assert counts.updated + counts.continued == 3
  assert written(damaged) == before and state(damaged) == whole
  assert_clean(damaged)
  assert find(damaged, 'the mill')
  shutil.rmtree(library.folder / 'catalogue/passages.lance')
  damaged = again(library)
  verify(damaged, mend=True)
  assert written(damaged) == before
  add_folder(damaged, files, 'mills', progress=False)
  assert written(damaged) == before and state(damaged) == whole


def test_text_embeddings_are_verified(library, files):
  add_folder(library, files, 'mills', progress=False)
  width = len(encode(['x'])[0])
  library.catalogue._passages.update(
    where='number = 0', values={'vector': np.zeros(width).tolist()}
  )
  found = verify(library).damage
  assert len(found) == len(library.catalogue.entries())
  assert all('its text embeddings' in each for each in found)


def test_a_library_that_cannot_be_written_is_verified(
  library, files, monkeypatch
):
  add_folder(library, files, 'mills', progress=False)
  with library.alone():
    with pytest.raises(ValueError, match='Another program is changing'):
      verify(library)
    # Its lock could not be taken, and nobody can change it.
    monkeypatch.setattr(checks.os, 'access', lambda *_: False)
    assert not verify(library).damage
    with pytest.raises(ValueError, match='Another program is changing'):
      verify(library, mend=True)


def test_foreign_files_are_told_and_let_be(library, files):
  add_folder(library, files, 'mills', progress=False)
  for place in ('mine.doc', 'catalogue/mine.bin', 'store/mine.txt'):
    (library.folder / place).write_text('mine')
  (library.folder / '.adapters.json.x.part').write_text('{')
  for place in ('.folder.part', 'store/folder.safetensors'):
    (library.folder / place).mkdir()
  findings = verify(library)
  assert len(findings.foreign) == 5 and len(findings.leftovers) == 1
  assert '1 leftovers, 5 foreign files' in findings.text()
  said = verify(library, mend=True).text()
  assert '0 damaged and 1 leftovers were removed.' in said
  after = verify(library)
  assert len(after.foreign) == 5 and not after.leftovers


def test_what_a_killed_writer_left_goes_when_it_is_old(library, files):
  add_folder(library, files, 'mills', progress=False)
  folders = (
    'pairs',
    'studied',
    'dropped',
    'adapters/mills',
    'training/mills/1',
  )
  left, mine = [], []
  for folder in folders:
    place = library.folder / folder
    place.mkdir(parents=True)
    left.append(place / f'.mills.jsonl.{"0123abcd" * 4}.part')
    mine.append(place / '.mine.part')
  for path in left + mine:
    path.write_text('{')
  # It may be of a live one.
  assert_clean(library)
  verify(library, mend=True)
  assert all(path.exists() for path in left)
  for path in left + mine:
    os.utime(path, (0, 0))
  assert len(verify(library).leftovers) == len(left)
  verify(library, mend=True)
  assert not any(path.exists() for path in left)
  assert all(path.exists() for path in mine)
  assert_clean(library)


def test_a_store_that_lost_its_format_file(library, files):
  add_folder(library, files, 'mills', progress=False)
  (library.folder / 'store/store.json').unlink()
  assert_clean(again(library))
  (library.folder / 'store/store.json').unlink()
  (library.folder / 'store/model.safetensors').write_bytes(b'x')
  with pytest.raises(ValueError, match='holds other files and no store.json'):
    again(library)


def test_a_damaged_format_file_costs_no_summaries(library, files):
  add_folder(library, files, 'mills', progress=False)
  path = library.folder / 'store/store.json'
  path.write_text('{"f')
  with pytest.raises(ValueError, match='remove that file, which is made anew'):
    again(library)
  path.unlink()
  assert_clean(again(library))


def test_a_library_that_lost_its_first_file_is_told_so(library, files, model):
  add_folder(library, files, 'mills', progress=False)
  (library.folder / 'library.json').unlink()
  with pytest.raises(FileNotFoundError, match='has lost its library.json'):
    again(library)
  with pytest.raises(ValueError, match='has lost its library.json'):
    make(library.folder, model)


def test_what_a_removed_group_has_still_is_told(
  library, files, others, tmp_path, capsys
):
  add_folder(library, files, 'mills', progress=False)
  add_folder(library, others, 'ferries', progress=False)
  pairs = library.folder / 'pairs/ferries.jsonl'
  pairs.parent.mkdir()
  pairs.write_text('{"id": "a"}\n')
  main(['library', 'remove', '--group=ferries', f'--library={library.folder}'])
  said = capsys.readouterr().out
  assert '1 files removed' in said
  assert (
    "Note: The group 'ferries' has no documents any more, but quest" in said
  )


def test_the_name_of_an_adapter_is_forgotten(library, files, capsys):
  add_folder(library, files, 'mills', progress=False)
  place = f'--library={library.folder}'
  (library.folder / 'adapters.json').write_text(
    '{"mills": {"folder": "/nowhere", "prompt": "plain"}}'
  )
  main(['library', 'adapter', 'mills', '--none', place])
  assert library.adapter('mills')[0] is None
  with pytest.raises(SystemExit, match="No adapter was named for .* 'mills'"):
    main(['library', 'adapter', 'mills', '--none', place])
  for both in ([], ['folder', '--none']):
    with pytest.raises(SystemExit, match='either the FOLDER .* or --none'):
      main(['library', 'adapter', 'mills', *both, place])


def test_the_group_where_files_wait_is_not_the_users(library, files):
  with pytest.raises(ValueError, match="In the group 'documents' files wait"):
    add_folder(library, files, 'documents')


def test_a_lock_that_cannot_be_written_is_told(library):
  lock = library.folder / '.lock'
  lock.unlink(missing_ok=True)
  # As on a disk that is read-only, which root would not notice.
  lock.mkdir()
  with pytest.raises(OSError, match=r'\.lock cannot be written .*allow it, or'):
    verify(library)
