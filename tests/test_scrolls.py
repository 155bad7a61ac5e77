"""SCROLLS rows: questions, pooled references, shared documents."""

import json
import lzma

from official_files import PAPER, STORY, scrolls_row, write_lines, write_scrolls
import pytest

from lloco_jax.data.scrolls import read_scrolls
from lloco_jax.data.splits import teach_every_answer


def test_rows_are_pooled_and_documents_shared(tmp_path):
  write_scrolls(tmp_path)
  for folder in (tmp_path, tmp_path / 'qasper'):
    dataset = read_scrolls(folder, 'qasper')
    first, second = dataset.splits['train']
    assert (first.id, first.question) == ('q1', 'What colour?')
    assert first.answers == ('red', 'Red ones')
    assert first.document_ids == second.document_ids
    texts = {d.text for d in dataset.documents.values()}
    assert texts == {f'\n{PAPER}', f'\n{STORY}'}
    assert {d.group for d in dataset.documents.values()} == {'qasper'}
    (third,) = dataset.splits['validation']
    assert dataset.documents[third.document_ids[0]].text == f'\n{STORY}'
    assert dataset.files == ('train.jsonl', 'validation.jsonl')


def test_a_document_is_the_references(tmp_path):
  # finetune_scrolls.py of the reference, commit 4f8a550, takes the lines.
  odd = 'One.\r\nTwo.\x0cThree.\n\nFour.\n'
  row = scrolls_row('q1', 0, 'What?', odd, 'red')
  write_lines(tmp_path / 'train.jsonl', [row, row])
  dataset = read_scrolls(tmp_path, 'qasper', ('train',))
  [document] = dataset.documents.values()
  assert document.text == '\n'.join(row['input'].splitlines()[1:])
  assert document.text == '\nOne.\nTwo.\nThree.\n\nFour.'
  # Rows that say the same are as many rows to learn.
  [example] = dataset.splits['train']
  assert example.answers == ('red', 'red')
  assert len(teach_every_answer([example])) == 2


def test_a_document_has_its_id_in_every_file(tmp_path):
  write_scrolls(tmp_path)
  whole = read_scrolls(tmp_path, 'qasper')
  alone = read_scrolls(tmp_path, 'qasper', ('validation',))
  assert set(alone.documents) < set(whole.documents)


def test_packed_rows(tmp_path):
  write_scrolls(tmp_path)
  path = tmp_path / 'qasper/train.jsonl'
  expected = read_scrolls(tmp_path, 'qasper')
  packed = path.with_name('train.jsonl.xz')
  packed.write_bytes(lzma.compress(path.read_bytes()))
  path.unlink()
  assert read_scrolls(tmp_path, 'qasper').splits == expected.splits


ROW = scrolls_row('q9', 0, 'Who?', STORY, 'a fox')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'input': 'Who?'}, "Field 'input' holds no document below"),
    ({'input': '\n\nText'}, "Field 'input' begins with no question"),
    ({'output': None}, "Field 'output' is null, as in the official test"),
    ({'output': ' '}, "Field 'output' is empty"),
    ({'id': 'q3'}, "Id 'q3' came with another question"),
    ({'id': ' '}, "Field 'id' is empty"),
  ],
)
def test_a_damaged_row_is_named(tmp_path, change, message):
  rows = [scrolls_row('q3', 0, 'Where?', STORY, 'here'), ROW | change]
  write_lines(tmp_path / 'train.jsonl', rows)
  with pytest.raises(ValueError, match=f'train.jsonl, line 2: {message}'):
    read_scrolls(tmp_path, 'qasper')


def test_half_a_surrogate_pair_is_named(tmp_path):
  rows = [ROW, {**ROW, 'id': 'q8', 'output': '\ud800'}]
  path = tmp_path / 'train.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  with pytest.raises(ValueError, match='line 2: .* holds half a surrogate'):
    read_scrolls(tmp_path, 'qasper')


def test_missing_files_are_told_with_their_address(tmp_path):
  with pytest.raises(
    FileNotFoundError, match=r'download https://.*/qmsum\.zip'
  ):
    read_scrolls(tmp_path, 'qmsum')
