"""Rows of data files: packed, damaged or missing."""

import gzip
import json
import lzma

import pytest

from lloco_jax.data import records

ROWS = [{'id': 'a', 'text': 'Grüße'}, {'id': 'b', 'text': 'x] , "y'}]
PATTERNS = {'validation': ('dev*.json',), 'test': ('test.json', 'all/t.json')}
BOTH = ('train', 'validation')


def lines(rows):
  return '\n\n'.join(json.dumps(row) for row in rows).encode()


@pytest.mark.parametrize(
  ('name', 'pack'),
  [('x.jsonl', bytes), ('x.jsonl.gz', gzip.compress)]
  + [('x.jsonl.xz', lzma.compress)],
)
def test_lines_are_read_packed_or_not(tmp_path, name, pack):
  path = tmp_path / name
  path.write_bytes(pack(b'\xef\xbb\xbf' + lines(ROWS)))
  found = list(records.read_json_lines(path))
  assert [fields for _, fields in found] == ROWS
  assert [place for place, _ in found] == [f'{path}, line {n}' for n in (1, 3)]


@pytest.mark.parametrize(
  ('name', 'data'),
  [
    ('x.gz', b'no gzip at all'),
    ('x.gz', gzip.compress(lines(ROWS), mtime=0)[:-9]),
    ('x.xz', b'no xz at all'),
    ('x.xz', lzma.compress(lines(ROWS * 99))[:-40]),
  ],
)
def test_a_file_that_is_packed_wrongly_is_named(tmp_path, name, data):
  path = tmp_path / name
  path.write_bytes(data)
  with pytest.raises(ValueError, match=rf'{name} cannot be unpacked \(.*again'):
    list(records.read_json_lines(path))


@pytest.mark.parametrize('indent', [None, 2])
def test_the_rows_of_an_array(tmp_path, indent):
  path = tmp_path / 'x.json'
  path.write_text(f' {json.dumps(ROWS, indent=indent)} \n')
  found = list(records.read_json_array(path))
  assert [fields for _, fields in found] == ROWS
  # Rows begin with their braces, behind a bracket of its own line.
  line = 2 + json.dumps(ROWS[0], indent=indent).count('\n') + 1
  assert found[1][0] == f'{path}, row 2' + (f' (line {line})' if indent else '')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('[{"a": 1},\n{"a": ]', 'line 2 is not valid JSON'),
    ('[{"a": 1}\n{"a": 1}]', "line 2 is not valid JSON .Expecting ','"),
    ('[{"a": 1}', "not valid JSON .Expecting ','"),
    ('[{"a": 1},', 'not valid JSON'),
    ('[{"a": 1}, 7]', 'row 2 holds no object'),
    ('{"a": 1}', 'holds no JSON array'),
    ('', 'holds no JSON array'),
    ('[ ]', 'holds no rows'),
    ('[' * 100_000, 'not valid JSON'),
    ('[{"a": 1}, {"b": 1, "b": 2}]', "row 2 is not .*'b' is given twice"),
  ],
)
def test_a_damaged_array_is_named(tmp_path, text, message):
  path = tmp_path / 'x.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=f'x.json.*{message}'):
    list(records.read_json_array(path))


def test_a_file_that_is_one_object(tmp_path):
  path = tmp_path / 'x.json'
  path.write_text('{"data":\n[]}')
  assert records.read_json(path) == {'data': []}
  path.write_text('{"data":\n[}')
  with pytest.raises(ValueError, match=r'x\.json, line 2 is not valid JSON'):
    records.read_json(path)
  path.write_text('[]')
  with pytest.raises(ValueError, match='holds no object'):
    records.read_json(path)


def test_rows_of_csv(tmp_path):
  path = tmp_path / 'x.csv'
  path.write_bytes(
    b'\xef\xbb\xbfa,b\r\n1,"two\r\nlines, and ""quotes"""\r\n3,4'
  )
  (first, fields), (second, _) = records.read_csv(path, ('b',))
  assert fields == {'a': '1', 'b': 'two\r\nlines, and "quotes"'}
  assert (first, second) == (f'{path}, line 3', f'{path}, line 4')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('a,b\n1,2\n', "line 1 has no column 'c'"),
    ('a,c\n1\n', 'line 2 has fewer fields'),
    ('a,c\n1,2\n1,2,3\n', 'line 3 has more fields'),
    ('a,c\n1,"2\n', 'line 2 begins no valid CSV'),
    ('a,c\n', 'holds no rows'),
    ('c,a,c\n1,2,3\n', "line 1 has the column 'c' twice"),
    ('', "line 1 has no column 'c'"),
  ],
)
def test_damaged_csv_is_named(tmp_path, text, message):
  path = tmp_path / 'x.csv'
  path.write_text(text)
  with pytest.raises(ValueError, match=message):
    list(records.read_csv(path, ('c',)))


def test_fields_are_checked():
  fields = {'a': 'x', 'n': 7, 'l': ['x'], 'o': [{}], 't': True}
  assert records.text(fields, 'a') == records.identifier(fields, 'a') == 'x'
  assert records.identifier(fields, 'n') == '7'
  assert records.texts(fields, 'l') == ('x',)
  assert records.objects(fields, 'o') == [{}]
  for read, name in (
    (records.text, 'n'),
    (records.identifier, 't'),
    (records.texts, 'a'),
    (records.texts, 'o'),
    (records.objects, 'l'),
  ):
    with pytest.raises(ValueError, match=f"Field '{name}' is not"):
      read(fields, name)
    with pytest.raises(ValueError, match="Field 'z' is missing"):
      read(fields, 'z')
  assert records.distinct(('b', ' ', 'a', 'b')) == ('b', 'a')


def find(folder, splits=BOTH, others=()):
  return records.split_files(folder, PATTERNS, splits, 'get it at URL.', others)


def test_files_of_splits_are_found(tmp_path):
  (tmp_path / 'dev.partial.json.xz').touch()
  (tmp_path / 'all').mkdir()
  (tmp_path / 'all/t.json').touch()
  packed = {'validation': tmp_path / 'dev.partial.json.xz'}
  assert find(tmp_path) == packed
  assert find(tmp_path, ('train', 'test')) == {'test': tmp_path / 'all/t.json'}
  assert find(tmp_path / 'dev.partial.json.xz') == packed
  # One file is of the split whose name it has.
  alone = tmp_path / 'all/t.json'
  assert find(alone) == {'test': alone}
  (tmp_path / 'mine.json').touch()
  assert list(find(tmp_path / 'mine.json')) == ['validation']
  with pytest.raises(ValueError, match="mine.json' is of another part than co"):
    find(tmp_path / 'mine.json', others=('m*.json',))
  assert list(find(alone, others=('*.json',))) == ['test']
  (tmp_path / 'dev.partial.json').touch()
  # Unpacked beside the packed one: the same file.
  assert find(tmp_path)['validation'].suffix == '.json'
  (tmp_path / 'dev.json').touch()
  with pytest.raises(ValueError, match='both dev.json and dev.partial.json'):
    find(tmp_path)


def test_files_that_are_missing_are_told_with_their_source(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'holds no dev\*\.json; get it'):
    find(tmp_path)
  with pytest.raises(FileNotFoundError, match="no folder '.*x'; get it at URL"):
    find(tmp_path / 'x')
  with pytest.raises(ValueError, match="no split 'dev'; it has validation, te"):
    find(tmp_path, ('train', 'dev'))


def test_a_field_given_twice_is_named(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text('{"a": 1}\n{"a": [{"b": 1, "b": 2}]}\n')
  with pytest.raises(ValueError, match="line 2 is not .*'b' is given twice"):
    list(records.read_json_lines(path))
  path.write_text('{"a": 1, "a": 1}')
  with pytest.raises(ValueError, match=r"x\.jsonl is not .*'a' is given twice"):
    records.read_json(path)


@pytest.mark.parametrize(
  'read',
  [
    lambda path: list(records.read_json_lines(path)),
    records.read_json,
    lambda path: list(records.read_json_array(path)),
    lambda path: list(records.read_csv(path, ())),
  ],
)
def test_what_is_no_file_of_text_is_told(tmp_path, read):
  path = tmp_path / 'x.json'
  path.mkdir()
  with pytest.raises(ValueError, match=r'x\.json is a folder; put the file of'):
    read(path)
  path.rmdir()
  path.write_bytes(gzip.compress(lines(ROWS)))
  with pytest.raises(
    ValueError, match=r'x\.json.* is packed with gzip; unpack'
  ):
    read(path)
