"""Documents, and what is refused as one."""

import pytest

from lloco_jax.data.documents import Collection, Document, read_document


@pytest.mark.parametrize('text', ['', ' \n\t '])
def test_empty_text_is_refused_by_the_documents_name(text):
  with pytest.raises(ValueError, match="'minutes' is empty"):
    Document('minutes', text)


def test_empty_id_and_group_are_refused():
  with pytest.raises(ValueError, match='empty id'):
    Document(' ', 'text')
  with pytest.raises(ValueError, match="'minutes' has an empty group"):
    Document('minutes', 'text', '')


def test_half_a_surrogate_pair_is_refused():
  with pytest.raises(ValueError, match="'minutes' .* character 3"):
    Document('minutes', 'abc\ud800')


def test_a_file_is_read_whole(tmp_path):
  path = tmp_path / 'minutes.txt'
  path.write_bytes('\ufeffGrüße,\r\n世界\n'.encode())
  document = read_document(path, group='letters')
  assert document == Document('minutes', 'Grüße,\r\n世界\n', 'letters')


def test_utf16_is_told_from_latin1(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('Gr\xfc\xdfe', 'utf-16')
  with pytest.raises(ValueError, match='offset 0; .* -f utf-16 -t'):
    read_document(path)
  path.write_bytes(b'a\nb\n\xfc')
  with pytest.raises(ValueError, match='offset 4, line 3; .* -f latin1 -t'):
    read_document(path)


def test_bytes_that_are_not_utf8_are_named(tmp_path):
  path = tmp_path / 'minutes.txt'
  path.write_bytes(b'\xef\xbb\xbfplain, then Gr\xfc\xdfe')
  with pytest.raises(ValueError, match='0xfc at offset 17.*iconv') as error:
    read_document(path)
  assert str(path) in str(error.value)


def test_missing_and_empty_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'gone\.txt'):
    read_document(tmp_path / 'gone.txt')
  path = tmp_path / 'blank.txt'
  path.write_text('\n')
  with pytest.raises(ValueError, match=r"blank\.txt' is empty"):
    read_document(path)


def test_a_collection_has_each_text_once():
  collection = Collection('tales')
  assert collection.add('a', 'one') == 'a'
  assert collection.add('b', 'two') == 'b'
  assert collection.add('c', 'one') == 'a'
  # Another text under an id that is taken.
  assert collection.add('a', 'three') == 'a (2)'
  assert collection.add('a', 'four') == 'a (3)'
  assert collection.add('x', 'three') == 'a (2)'
  texts = {key: each.text for key, each in collection.documents.items()}
  assert texts == {'a': 'one', 'b': 'two', 'a (2)': 'three', 'a (3)': 'four'}
  assert {each.group for each in collection.documents.values()} == {'tales'}
  with pytest.raises(ValueError, match="Document 'e' is empty"):
    collection.add('e', ' ')
